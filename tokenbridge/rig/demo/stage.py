"""The demo's stage: a PC/SC daemon, a card, a server and a bridge of its own, in a directory of its own.

Everything is run through the command line in processes of its own; every process that is started here is ended here.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from tokenbridge.errors import SetupError
from tokenbridge.rig.pcscd import PrivatePcscd
from tokenbridge.rig.pki import RigPki
from tokenbridge.rig.provision import Staff, StaffCard, staff_card
from tokenbridge.rig.vpcd import VpcdConnection

START_SECONDS: Final = 30
COMMAND_SECONDS: Final = 60
RP_NAME: Final = "Test Hospital"
USER: Final = "ada"
NAME: Final = "Ada Lovelace"
UID: Final = "000123456789"
PIN: Final = "123456"
WRONG_PIN: Final = "654321"
PASSWORD: Final = "correct horse battery staple"  # noqa: S105  of a demo account that lives for a minute
KEPT: Final = "kept.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Ran:
    """A command that was run: what a person would have typed, what it printed, its exit code."""

    typed: str
    output: str
    code: int


class Stage:
    """Use as a context manager; `keep` leaves everything running at the end."""

    def __init__(self, *, keep: bool = False) -> None:
        self.keep = keep
        self.directory = Path(tempfile.mkdtemp(prefix="tokenbridge-demo-"))
        self.origin = f"https://localhost:{_free_port()}"
        self.pcscd = PrivatePcscd(self.directory / "pcscd")
        self.environ = dict(os.environ)
        self.staff: StaffCard
        self.slot: VpcdConnection
        self.totp_secret = ""
        self._server: subprocess.Popen[str] | None = None

    @property
    def ca_file(self) -> Path:
        return self.directory / "server" / "tls" / "ca.pem"

    def __enter__(self) -> Stage:
        try:
            self._set_up()
        except BaseException:
            self._take_down()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self.keep and kind is None:
            self._leave()
        else:
            self._take_down()

    def run(self, *arguments: str, secrets: Mapping[str, str] | None = None, hide: tuple[str, ...] = ()) -> Ran:
        """Run `tokenbridge ARGUMENTS`; `secrets` maps options such as --pin-fd to what is written to the descriptor.

        `hide` are options (each with its value) that are not shown in `typed`: only the demo needs them.
        """
        command = [sys.executable, "-m", "tokenbridge", *arguments]
        shown = _shown(arguments, hide)
        descriptors = []
        for option, value in (secrets or {}).items():
            read_end, write_end = os.pipe()
            os.write(write_end, value.encode() + b"\n")
            os.close(write_end)
            descriptors.append(read_end)
            command += [option, str(read_end)]
        try:
            done = subprocess.run(
                command,
                env=self.environ,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                pass_fds=descriptors,
                timeout=COMMAND_SECONDS,
                check=False,
            )
        finally:
            for descriptor in descriptors:
                os.close(descriptor)
        return Ran(typed=f"tokenbridge {shown}", output=done.stdout.rstrip("\n"), code=done.returncode)

    def must(self, *arguments: str, secrets: Mapping[str, str] | None = None) -> Ran:
        """As `run`, but anything but success ends the demo."""
        ran = self.run(*arguments, secrets=secrets)
        if ran.code != 0:
            raise SetupError(f"`{ran.typed}` failed.", detail=ran.output, next_step=ran.output)
        return ran

    def must_json(self, *arguments: str) -> Any:
        return json.loads(self.must(*arguments, "--json").output.splitlines()[-1])

    def sign_in(self, *, secrets: Mapping[str, str], user: str = "") -> Ran:
        who = ("--user", user) if user else ()
        return self.run("sign-in", self.origin, *who, "--ca", str(self.ca_file), secrets=secrets, hide=("--ca",))

    def _set_up(self) -> None:
        self.pcscd.start()
        self.environ |= {
            **self.pcscd.environ,
            "TOKENBRIDGE_RUNTIME_DIR": str(self.directory / "run"),
            "TOKENBRIDGE_STATE_DIR": str(self.directory / "state"),
            "TOKENBRIDGE_SERVER_DATA": str(self.directory / "server"),
            "FORCE_COLOR": "1",
        }
        now = datetime.now(UTC)
        pki = RigPki.create(now=now, label="Demo")
        pki.save(self.directory / "pki")
        self.staff = staff_card(pki, Staff(uid=UID, holder=NAME), now=now, path=self.directory / "card.json")
        self.slot = VpcdConnection(self.staff.card, self.pcscd.ports[0])
        self._set_up_server()

    def _set_up_server(self) -> None:
        pki, port = self.directory / "pki", self.origin.rpartition(":")[2]
        self.must("server", "init", "--name", RP_NAME, "--origin", self.origin, "--port", port)
        self.must(
            "server", "trust", "add", "demo-authority", "--pem", str(pki / "root.pem"),
            "--intermediate", str(pki / "issuing.pem"), "--hardware", "--pin-enforced",
            "--crl", str(pki / "issuing.crl"), "--crl", str(pki / "root.crl"),
        )  # fmt: skip
        self.must("server", "user", "add", USER, "--display-name", NAME, secrets={"--password-fd": PASSWORD})
        self.totp_secret = self.must_json("server", "user", "totp", USER)["secret"]
        with (self.directory / "server.log").open("w") as log:
            self._server = subprocess.Popen(
                [sys.executable, "-m", "tokenbridge", "server", "run"],
                env=self.environ, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log, text=True,
                start_new_session=True,
            )  # fmt: skip
        if self._server.stdout is None or "ready" not in self._server.stdout.readline():
            raise SetupError("The demo's server did not start.", next_step=f"See {log.name}.")

    def _take_down(self) -> None:
        if hasattr(self, "slot"):
            self.slot.stop()
        self.run("daemon", "stop")
        if self._server is not None:
            self._server.terminate()
            self._server.wait(COMMAND_SECONDS)
        self.pcscd.stop()
        shutil.rmtree(self.directory, ignore_errors=True)

    def _leave(self) -> None:
        """Hand the card over to a process of its own and write down what runs."""
        self.slot.stop()
        self.must(
            "rig", "--home", str(self.directory / "rig"), "card", "adopt", USER, str(self.directory / "card.json")
        )
        port = str(self.pcscd.ports[0])
        self.must("rig", "--home", str(self.directory / "rig"), "card", "insert", USER, "--port", port)
        pids = [process.pid for process in (self._server,) if process is not None]
        pids += [pid for pid in (self.pcscd.pid,) if pid is not None]
        (self.directory / KEPT).write_text(json.dumps({"pids": pids}))


def stop_kept(directory: Path) -> None:
    """End what `keep` left running in `directory`, and remove it. Raises `SetupError` if that is not a kept demo."""
    try:
        pids = json.loads((directory / KEPT).read_text())["pids"]
    except (OSError, ValueError, KeyError) as err:
        raise SetupError(f"{directory} holds no demo that was kept.", detail=repr(err)) from err
    environ = os.environ | {
        "TOKENBRIDGE_RUNTIME_DIR": str(directory / "run"),
        "TOKENBRIDGE_STATE_DIR": str(directory / "state"),
    }
    for arguments in (
        ("rig", "--home", str(directory / "rig"), "card", "remove", USER),
        ("daemon", "stop"),
    ):
        subprocess.run([sys.executable, "-m", "tokenbridge", *arguments], env=environ, check=False, capture_output=True)
    for pid in pids:
        if str(directory) in _environment(pid):
            os.kill(pid, signal.SIGTERM)
    shutil.rmtree(directory, ignore_errors=True)


def _environment(pid: int) -> str:
    """Command line and environment of a process: a number alone may by now be somebody else's process."""
    try:
        return "".join(
            Path(f"/proc/{pid}/{part}").read_bytes().decode("utf-8", "replace") for part in ("cmdline", "environ")
        )
    except OSError:
        return ""


def _shown(arguments: tuple[str, ...], hide: tuple[str, ...]) -> str:
    shown, skip = [], False
    for argument in arguments:
        if skip or argument in hide:
            skip = not skip
            continue
        shown.append(argument)
    return " ".join(shown)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
