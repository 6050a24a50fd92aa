"""The command line as scripts and people meet it: exit codes, errors in both forms, help, completion, quick start."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner
from pytest_mock import MockerFixture

from tokenbridge import __version__, errors
from tokenbridge.cli import exits
from tokenbridge.cli import main as command_line
from tokenbridge.cli.main import cli
from tokenbridge.errors import RemoteError, TokenbridgeError

from .conftest import SECONDS, ScriptedStream, descriptor, prompt

# --- exit codes ------------------------------------------------------------------------------------------------

CODES = {
    "key": 3,
    "key-pin-wrong": 4,
    "key-pin-blocked": 4,
    "key-pin-paused": 4,
    "key-pin-missing": 4,
    "key-pin-must-change": 4,
    "key-pin-unfit": 4,
    "key-verification-failed": 4,
    "internal": 1,
    "device": 3,
    "no-device": 3,
    "device-removed": 3,
    "device-busy": 3,
    "access-denied": 3,
    "link-failed": 3,
    "pcsc-service-gone": 3,
    "card-reset": 3,
    "timed-out": 3,
    "card": 3,
    "card-status": 3,
    "applet-missing": 3,
    "object-missing": 3,
    "not-permitted": 3,
    "card-unsupported": 3,
    "card-data": 3,
    "card-key-mismatch": 3,
    "no-usable-certificate": 3,
    "pin-wrong": 4,
    "pin-blocked": 4,
    "pin-unfit": 4,
    "refused": 5,
    "bad-request": 5,
    "origin-refused": 5,
    "not-allowed-now": 5,
    "too-many": 5,
    "rejected": 5,
    "undecided": 6,
    "setup": 7,
    "daemon-unavailable": 7,
    "already-running": 7,
    "rp-unavailable": 7,
    "cancelled": 130,
}


@pytest.mark.parametrize(("code", "expected"), CODES.items())
def test_exit_code_by_the_code_of_the_error(code: str, expected: int) -> None:
    assert exits.exit_code(code) == expected


def test_unknown_codes_of_other_versions_are_failures() -> None:
    assert exits.exit_code("from-the-future") == exits.FAILED
    assert exits.exit_code("") == exits.FAILED


def test_every_class_has_the_exit_code_of_its_family() -> None:
    for kind in errors.tree():
        code = exits.code_of(kind)
        assert code != exits.OK
        if kind.code in CODES:
            assert code == CODES[kind.code]
        else:
            parents = [exits.code_of(base) for base in kind.__mro__[1:] if issubclass(base, TokenbridgeError)]
            assert not parents or code in (*parents, exits.FAILED)


def test_codes_are_known_without_the_modules_that_raise_them() -> None:
    """The command line hears of errors from another process and has not imported what raised them."""
    codes = [code for code, expected in CODES.items() if expected != 1]
    program = f"from tokenbridge.cli.exits import exit_code; print([exit_code(c) for c in {codes!r}])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=SECONDS)
    assert json.loads(done.stdout) == [CODES[code] for code in codes]


# --- errors ----------------------------------------------------------------------------------------------------


def run(mocker: MockerFixture, error: BaseException | int | None, *arguments: str) -> int:
    """Exit code of `main` when the command raises `error` or returns it."""
    mocker.patch.object(sys, "argv", ["tokenbridge", *arguments])
    outcome: Any = {"side_effect": error} if isinstance(error, BaseException) else {"return_value": error}
    mocker.patch.object(cli, "main", **outcome)
    with pytest.raises(SystemExit) as caught:
        command_line.main()
    code = caught.value.code
    assert isinstance(code, int)
    return code


WRONG = errors.PinWrong(tries_left=2, sw=0x63C2)


def test_an_error_for_people(mocker: MockerFixture, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(mocker, WRONG, "sign-in", "https://x") == exits.PIN
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.splitlines() == [
        "✗ The PIN is wrong; 2 tries are left.",
        "  → Type it again with care.",
        "  (pin-wrong)",
    ]


def test_an_error_for_programs(mocker: MockerFixture, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(mocker, WRONG, "sign-in", "https://x", "--json") == exits.PIN
    shown = capsys.readouterr()
    assert shown.err == ""
    assert json.loads(shown.out) == {"error": WRONG.as_dict()}


def test_an_error_of_the_bridge_keeps_its_code(mocker: MockerFixture, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(mocker, RemoteError(errors.PinBlocked(sw=0x6983).as_dict())) == exits.PIN
    assert "unblock" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (click.exceptions.Abort(), exits.CANCELLED),
        (KeyboardInterrupt(), exits.CANCELLED),
        (click.UsageError("no such option"), exits.USAGE),
        (click.BadParameter("bad"), exits.USAGE),
        (ModuleNotFoundError("x", name="httpx"), exits.SETUP),
        (None, exits.OK),
        (0, exits.OK),
        (6, exits.CHALLENGED),
    ],
)
def test_other_ends(mocker: MockerFixture, error: BaseException | int | None, code: int) -> None:
    assert run(mocker, error) == code


@pytest.mark.parametrize(
    ("command", "extra"),
    [("sign-in", "bridge"), ("server", "server"), ("rig", "rig"), ("demo", "rig"), ("--x", "bridge")],
)
def test_a_part_that_is_not_installed_says_how_to_install_it(
    mocker: MockerFixture, capsys: pytest.CaptureFixture[str], command: str, extra: str
) -> None:
    run(mocker, ModuleNotFoundError("No module named 'fastapi'", name="fastapi"), command)
    shown = capsys.readouterr().err
    assert f"tokenbridge[{extra}]" in shown
    assert "fastapi is missing" in shown


def test_a_defect_is_a_sentence_and_a_traceback_on_request(
    mocker: MockerFixture, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("TOKENBRIDGE_DEBUG", raising=False)
    assert run(mocker, ZeroDivisionError("oops")) == exits.FAILED
    shown = capsys.readouterr().err
    assert "TOKENBRIDGE_DEBUG=1" in shown
    assert "oops" not in shown
    monkeypatch.setenv("TOKENBRIDGE_DEBUG", "1")
    with pytest.raises(ZeroDivisionError):
        run(mocker, ZeroDivisionError("oops"))


@pytest.mark.parametrize(("force", "no", "expected"), [("1", "1", True), ("", "1", False), ("", "", None)])
def test_colour(monkeypatch: pytest.MonkeyPatch, force: str, no: str, expected: bool | None) -> None:
    monkeypatch.setenv("FORCE_COLOR", force)
    monkeypatch.setenv("NO_COLOR", no)
    assert command_line.colour() is expected


# --- as a program ----------------------------------------------------------------------------------------------


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    """That of a person whose bridge does not run."""
    own = {
        "TOKENBRIDGE_RUNTIME_DIR": str(tmp_path / "run"),
        "TOKENBRIDGE_STATE_DIR": str(tmp_path / "state"),
        "XDG_CONFIG_HOME": str(tmp_path / "config"),
        "PCSCLITE_CSOCK_NAME": str(tmp_path / "pcscd.comm"),
    }
    return {**os.environ, **own}


def tokenbridge(environ: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    start = [sys.executable, "-m", "tokenbridge", *arguments]
    return subprocess.run(
        start, env=environ, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=SECONDS, check=False
    )


def test_version(environ: dict[str, str]) -> None:
    done = tokenbridge(environ, "--version")
    assert (done.returncode, done.stdout) == (0, f"tokenbridge, version {__version__}\n")


@pytest.mark.parametrize("arguments", [["nonsense"], ["sign-in"], ["card", "nonsense"], ["sign-in", "x", "--nonsense"]])
def test_usage(environ: dict[str, str], arguments: list[str]) -> None:
    done = tokenbridge(environ, *arguments)
    assert done.returncode == exits.USAGE
    assert "Usage:" in done.stderr
    assert "Traceback" not in done.stderr


def test_status_of_a_bridge_that_does_not_run(environ: dict[str, str]) -> None:
    done = tokenbridge(environ, "daemon", "status", "--json")
    assert done.returncode == exits.SETUP
    assert json.loads(done.stdout)["error"]["code"] == "daemon-unavailable"
    done = tokenbridge(environ, "daemon", "stop")
    assert (done.returncode, done.stdout) == (0, "It was not running.\n")
    done = tokenbridge(environ, "daemon", "logs")
    assert done.returncode == exits.SETUP


def test_commands_on_a_bridge_that_is_started_for_them(environ: dict[str, str]) -> None:
    try:
        done = tokenbridge(environ, "card", "list")
        assert done.returncode == 0
        assert "pcscd" in done.stdout
        done = tokenbridge(environ, "card", "list", "--json")
        assert json.loads(done.stdout)["cards"] == []
        done = tokenbridge(environ, "card", "info", "--json")
        assert (done.returncode, json.loads(done.stdout)["error"]["code"]) == (exits.DEVICE, "pcsc-service-gone")
        done = tokenbridge(environ, "sign-in", "http://portal.example.org", "--pin-fd", "0")
        assert done.returncode == exits.REFUSED
        assert "plain HTTP" in done.stderr
        done = tokenbridge(environ, "sign-in", "https://localhost:1", "--pin-fd", "0", "--json")
        assert (done.returncode, json.loads(done.stdout)["error"]["code"]) == (exits.SETUP, "rp-unavailable")
        done = tokenbridge(environ, "card", "pin", "change", "--pin-fd", "0")
        assert done.returncode == exits.DEVICE
    finally:
        assert tokenbridge(environ, "daemon", "stop").stdout == "Stopped.\n"


HEAVY = ("httpx", "starlette", "uvicorn", "cryptography", "asn1crypto", "smartcard", "fastapi", "sqlalchemy", "fido2")


@pytest.mark.parametrize(
    "program",
    [
        "import tokenbridge.cli.main",
        "from tokenbridge.cli.main import cli; cli(['--version'], standalone_mode=False)",
        "from tokenbridge.cli import card, sign_in, daemon, answers, terminal",
        "from tokenbridge.daemon import client, paths",
    ],
)
def test_a_quick_start_imports_nothing_heavy(program: str) -> None:
    code = f"{program}\nimport sys; print('\\n'.join(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=SECONDS, check=True)
    loaded = {name.partition(".")[0] for name in done.stdout.split()}
    assert not loaded & set(HEAVY)
    assert "asyncio" not in loaded


# --- help and completion ---------------------------------------------------------------------------------------


def commands(command: click.Command, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    yield path, command
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            child = command.get_command(context, name)
            assert child is not None
            yield from commands(child, (*path, name))


EVERY = dict(commands(cli))


@pytest.mark.parametrize("path", EVERY, ids=" ".join)
def test_help(path: tuple[str, ...]) -> None:
    done = CliRunner().invoke(cli, [*path, "--help"])
    assert done.exit_code == 0
    assert done.output.startswith("Usage: ")
    assert EVERY[path].help


@pytest.mark.parametrize("path", EVERY, ids=" ".join)
def test_help_shows_examples(path: tuple[str, ...]) -> None:
    done = CliRunner().invoke(cli, [*path, "--help"])
    assert re.search(r"Examples:\n +(sudo )?(tokenbridge|systemctl) ", done.output)


@pytest.mark.parametrize(
    "path", [path for path, command in EVERY.items() if not isinstance(command, click.Group)], ids=" ".join
)
def test_options_are_explained_and_take_no_secret(path: tuple[str, ...]) -> None:
    for option in EVERY[path].params:
        names = " ".join((*option.opts, *option.secondary_opts))
        assert not re.search(r"--(new-)?(pin|puk|password|code|secret)(?![\w-])", names), (
            f"{names}: secrets come by descriptor"
        )
        assert getattr(option, "envvar", None) is None or "PIN" not in str(option.envvar)


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts(environ: dict[str, str], shell: str, tmp_path: Path) -> None:
    done = tokenbridge(environ, "completion", shell)
    assert done.returncode == 0
    assert "_TOKENBRIDGE_COMPLETE" in done.stdout
    if shutil.which(shell):
        path = tmp_path / "completion"
        path.write_text(done.stdout)
        checked = subprocess.run([shell, "-n", str(path)], capture_output=True, text=True, timeout=SECONDS, check=False)
        assert (checked.returncode, checked.stderr) == (0, "")


def test_completion_of_commands(environ: dict[str, str]) -> None:
    asking = {"_TOKENBRIDGE_COMPLETE": "bash_complete", "COMP_WORDS": "tokenbridge card p", "COMP_CWORD": "2"}
    program = "from tokenbridge.cli.main import cli; cli(prog_name='tokenbridge')"
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**environ, **asking},
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert done.stdout == "plain,pin\n"


# --- sign-in ---------------------------------------------------------------------------------------------------

ALLOW = {
    "decision": "allow",
    "sentence": "AAL3: card signature; no text message or app code needed",
    "reasons": [{"code": "x", "text": "because of the card"}],
    "account": {"username": "ada", "display_name": "Ada Lovelace"},
    "session": {"token": "s3cret", "expires_at": "2026-06-01T12:00:00+00:00"},
}
CHALLENGE = {"decision": "challenge", "sentence": "more is needed", "methods": ["sms", "totp", "new"], "reasons": []}
DENY = {"decision": "deny", "sentence": "not allowed", "reasons": []}


class Caller:
    """Runs `sign-in` against a bridge by script."""

    def __init__(self, mocker: MockerFixture, *lines: dict[str, Any]) -> None:
        self.scripted = ScriptedStream(*lines)
        self.requests: list[tuple[str, str, Any]] = []
        mocker.patch("tokenbridge.daemon.client.connect", return_value=self)

    def stream(self, method: str, path: str, body: Any) -> ScriptedStream:
        self.requests.append((method, path, body))
        return self.scripted

    def run(self, *arguments: str) -> tuple[int, str, str]:
        done = CliRunner().invoke(cli, ["sign-in", "https://x", *arguments], standalone_mode=False)
        if done.exception is not None:
            raise done.exception
        return done.return_value, done.stdout, done.stderr


@pytest.mark.parametrize(("outcome", "code"), [(ALLOW, exits.OK), (CHALLENGE, exits.CHALLENGED), (DENY, exits.REFUSED)])
def test_decisions_are_exit_codes(mocker: MockerFixture, outcome: dict[str, Any], code: int) -> None:
    made = Caller(mocker, {"event": "done", "outcome": outcome})
    returned, shown, _ = made.run()
    assert returned == code
    assert outcome["sentence"] in shown
    assert "s3cret" not in shown


def test_who_signed_in_and_why(mocker: MockerFixture) -> None:
    _, shown, _ = Caller(mocker, {"event": "done", "outcome": ALLOW}).run()
    assert "Signed in as Ada Lovelace (ada)" in shown
    assert "because of the card" in shown


def test_a_challenge_names_the_methods(mocker: MockerFixture) -> None:
    _, shown, _ = Caller(mocker, {"event": "done", "outcome": CHALLENGE}).run()
    assert "text message, authenticator-app code, new" in shown


def test_json_is_the_whole_outcome(mocker: MockerFixture) -> None:
    _, shown, _ = Caller(mocker, {"event": "done", "outcome": ALLOW}).run("--json")
    assert json.loads(shown) == ALLOW


def test_what_is_asked_of_the_bridge(mocker: MockerFixture, tmp_path: Path) -> None:
    ca = tmp_path / "ca.pem"
    ca.touch()
    made = Caller(mocker, {"event": "done", "outcome": ALLOW})
    made.run("--ca", str(ca), "--reader", "R", "--user", "ada", "--wait", "5", "--pin-fd", "99")
    ((method, path, body),) = made.requests
    assert (method, path) == ("POST", "/v1/sign-in")
    expected = {"url": "https://x", "ca": str(ca), "reader": "R", "username": "ada", "wait_seconds": 5.0}
    assert {key: body[key] for key in expected} == expected


def test_steps_are_told_on_standard_error_only(mocker: MockerFixture) -> None:
    made = Caller(
        mocker,
        {
            "event": "step",
            "step": "waiting-for-device",
            "rp": "Test Hospital",
            "origin": "https://x",
            "accepts": ["card"],
        },
        {"event": "step", "step": "card-removed"},
        {"event": "step", "step": "type-pin-on-reader"},
        {"event": "step", "step": "unheard-of"},
        {"event": "done", "outcome": ALLOW},
    )
    _, shown, told = made.run("--json")
    assert json.loads(shown) == ALLOW
    for words in ("insert your card", "taken out", "on the reader"):
        assert words in told


def test_a_scripted_pin_goes_once(mocker: MockerFixture) -> None:
    made = Caller(
        mocker,
        prompt("pin", 1, tries_left=3),
        prompt("pin", 2, tries_left=2),
        {"event": "error", "error": WRONG.as_dict()},
    )
    with pytest.raises(RemoteError) as caught:
        made.run("--pin-fd", str(descriptor(b"111111\n")))
    assert exits.exit_code(caught.value.remote_code) == exits.PIN
    assert made.scripted.answers == [("q1", b"111111")]
    assert made.scripted.declined == ["q2"]
    assert made.scripted.closed
