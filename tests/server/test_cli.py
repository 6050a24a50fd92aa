"""`tokenbridge server ...` as an operator types it."""

from __future__ import annotations

import datetime as dt
import json
import os
import socket
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyotp
import pytest
from click.testing import CliRunner
from cryptography.hazmat.primitives.serialization import Encoding

from tests.server.conftest import PASSWORD, Bench, make_bench, now
from tokenbridge.cli.server import COMMANDS, server
from tokenbridge.errors import BadRequest, Rejected, RejectReason, SetupError
from tokenbridge.rig.pki import Profile, RigPki
from tokenbridge.server import settings
from tokenbridge.server.operator import follow
from tokenbridge.server.run import run
from tokenbridge.server.store.audit import Search


@pytest.fixture(autouse=True)
def _umask() -> Iterator[None]:
    """The commands narrow the process's umask; here the process is that of all tests."""
    before = os.umask(0o022)
    yield
    os.umask(before)


class Cli:
    def __init__(self, data: Path) -> None:
        self.data = data

    def __call__(self, *args: str, stdin: bytes = b"", password: str = "") -> str:
        """Standard output; typed errors are raised, as the main program gets them."""
        more: list[str] = []
        if password:
            reader, writer = os.pipe()
            os.write(writer, password.encode() + b"\n")
            os.close(writer)
            more = ["--password-fd", str(reader)]
        result = CliRunner().invoke(server, ["--data", str(self.data), *args, *more], input=stdin)
        if more:
            os.close(int(more[1]))
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        assert result.exit_code == 0, result.output
        return result.stdout

    def json(self, *args: str, **more: Any) -> Any:
        return json.loads(self(*args, "--json", **more))


@pytest.fixture
def cli(fresh: Bench) -> Cli:
    return Cli(fresh.data)


@pytest.fixture
def trusted(fresh: Bench, cli: Cli) -> Cli:
    for name in ("root", "issuing"):
        authority = getattr(fresh.pki, name)
        (fresh.data / f"{name}.pem").write_bytes(authority.certificate.public_bytes(Encoding.PEM))
    cli("trust", "add", "staff", "--pem", str(fresh.data / "root.pem"), "--hardware", "--pin-enforced",
        "--intermediate", str(fresh.data / "issuing.pem"), "--map-nhs-uid",
        "--crl", str(fresh.data / "issuing.crl"), "--crl", str(fresh.data / "root.crl"))  # fmt: skip
    return cli


class TestInit:
    def test_makes_everything_and_keeps_it_on_repeat(self, tmp_path: Path):
        cli, data = Cli(tmp_path / "srv"), tmp_path / "srv"
        first = cli.json("init", "--name", "Ward 7", "--port", "9443")
        assert first == {
            "data": str(data),
            "name": "Ward 7",
            "origin": "https://localhost:9443",
            "ca": str(data / "tls" / "ca.pem"),
        }
        before = {path: path.read_bytes() for path in (data / "keys.json", data / "tls" / "server.pem")}
        second = cli.json("init")
        assert second == first
        assert {path: path.read_bytes() for path in before} == before

    def test_nothing_is_open_to_others(self, tmp_path: Path):
        Cli(tmp_path / "srv")("init")
        for path in [tmp_path / "srv", *(tmp_path / "srv").rglob("*")]:
            assert not stat.S_IMODE(path.stat().st_mode) & 0o077, path

    @pytest.mark.parametrize(
        ("options", "words"),
        [
            (("--origin", "http://sso.example"), "origin"),
            (("--origin", "https://sso.example/path"), "origin"),
            (("--origin", "https://sso.example/"), "origin"),
            (("--origin", "https://SSO.example"), "origin"),
            (("--origin", "https://sso.example:443"), "origin"),
            (("--origin", "https://sso.example:99999"), "origin"),
            (("--origin", "https://me@sso.example"), "origin"),
            (("--origin", "sso.example"), "origin"),
            (("--plain-http", "--host", "0.0.0.0"), "loopback"),
            (("--plain-http", "--origin", "http://sso.example"), "loopback"),
            (("--tls-cert", "/nowhere.pem"), "belong together"),
            (("--tls-cert", "/nowhere.pem", "--tls-key", "/nowhere.key"), "can't be used"),
        ],
    )
    def test_unsafe_settings_are_refused(self, tmp_path: Path, options: tuple[str, ...], words: str):
        with pytest.raises(SetupError, match=words):
            Cli(tmp_path / "srv")("init", *options)

    @pytest.mark.parametrize(
        ("options", "origin"),
        [
            ((), "https://localhost:8443"),
            (("--port", "443"), "https://localhost"),
            (("--plain-http", "--port", "8080"), "http://localhost:8080"),
            (("--origin", "https://[2001:db8::1]:8443"), "https://[2001:db8::1]:8443"),
        ],
    )
    def test_origin_as_browsers_write_it(self, tmp_path: Path, options: tuple[str, ...], origin: str):
        assert Cli(tmp_path / "srv").json("init", *options)["origin"] == origin

    def test_unknown_setting_names_the_file(self, fresh: Bench, cli: Cli):
        (fresh.data / "server.toml").write_text("colour = 'red'\n")
        with pytest.raises(SetupError, match=r"server\.toml.*colour"):
            cli("user", "list")

    def test_before_init_it_says_what_to_do(self, tmp_path: Path):
        with pytest.raises(SetupError) as caught:
            Cli(tmp_path / "nothing")("user", "list")
        assert "server init" in caught.value.hint

    def test_run_before_init_makes_nothing(self, tmp_path: Path):
        with pytest.raises(SetupError) as caught:
            run(settings.Settings(data=tmp_path), print)
        assert "server init" in caught.value.hint
        assert list(tmp_path.iterdir()) == []

    def test_key_file_open_to_others_is_refused(self, fresh: Bench, cli: Cli):
        (fresh.data / "keys.json").chmod(0o644)
        with pytest.raises(SetupError, match="open to others"):
            cli("user", "list")


class TestUsers:
    def test_add_list_and_app(self, cli: Cli):
        added = cli.json("user", "add", "Alice", "--display-name", "Alice Archer", "--nhs-uid", "555000000123",
                         password=PASSWORD)  # fmt: skip
        assert added["username"] == "alice"
        app = cli.json("user", "totp", "alice")
        parsed = pyotp.parse_uri(app["uri"])
        assert (parsed.name, parsed.issuer, parsed.secret) == ("alice", "Test Hospital", app["secret"])
        (row,) = cli.json("user", "list")
        assert row["password"] is True
        assert row["methods"] == ["totp"]
        assert row["nhs_uid"] == "555000000123"
        assert "Alice Archer" in cli("user", "list")

    def test_app_is_drawn_for_people(self, cli: Cli):
        cli("user", "add", "alice", password=PASSWORD)
        text = cli("user", "totp", "alice")
        assert "otpauth://totp/" in text
        assert "█" in text

    def test_no_password_can_be_given_as_an_argument(self, cli: Cli):
        with pytest.raises(AssertionError, match="No such option"):
            cli("user", "add", "alice", "--password", PASSWORD)

    @pytest.mark.parametrize(
        ("args", "password"),
        [
            (("alice",), "short"),
            (("al ice",), PASSWORD),
            (("",), PASSWORD),
            (("x" * 200,), PASSWORD),
            (("alice", "--nhs-uid", "123"), PASSWORD),
        ],
    )
    def test_unfit_facts_are_refused(self, cli: Cli, args: tuple[str, ...], password: str):
        with pytest.raises(BadRequest):
            cli("user", "add", *args, password=password)
        assert cli.json("user", "list") == []

    def test_a_name_is_taken_once(self, cli: Cli):
        cli("user", "add", "alice", password=PASSWORD)
        with pytest.raises(BadRequest, match="already"):
            cli("user", "add", "ALICE", password=PASSWORD)

    def test_changes_are_recorded(self, cli: Cli):
        cli("user", "add", "alice", password=PASSWORD)
        cli("user", "passwd", "alice", password="another good one")
        cli("user", "disable", "alice")
        cli("user", "enable", "alice")
        cli("revoke-sessions", "alice")
        events = [json.loads(line)["event"] for line in cli("audit", "--json").splitlines()]
        assert events == ["user-added", "password-set", "user-disabled", "user-enabled", "sessions-revoked"]

    def test_nobody_of_that_name(self, cli: Cli):
        for command in (("user", "totp"), ("revoke-sessions",), ("user", "disable")):
            with pytest.raises(BadRequest, match="no user"):
                cli(*command, "nobody")


class TestCards:
    def test_enrol_from_standard_input(self, fresh: Bench, trusted: Cli):
        trusted("user", "add", "alice", password=PASSWORD)
        card = fresh.card()
        done = trusted.json("card", "enrol", "alice", "--pem", "-", "--label", "ward 7",
                            stdin=card.certificate.public_bytes(Encoding.PEM))  # fmt: skip
        assert (done["checked"], done["anchor"], done["label"]) == (True, "staff", "ward 7")
        (row,) = trusted.json("card", "list", "alice")
        assert row["last_used"] is None
        trusted("card", "remove", str(row["id"]))
        assert trusted.json("card", "list") == []

    def test_unknown_issuer_is_refused_with_the_way_out(self, fresh: Bench, cli: Cli):
        cli("user", "add", "alice", password=PASSWORD)
        with pytest.raises(Rejected) as caught:
            cli("card", "enrol", "alice", "--pem", "-", stdin=fresh.card().der)
        assert caught.value.reason is RejectReason.ISSUER_UNKNOWN
        assert "trust add" in caught.value.hint
        done = cli.json("card", "enrol", "alice", "--pem", "-", "--unchecked", stdin=fresh.card().der)
        assert done["checked"] is False

    def test_without_revocation_data_it_is_enrolled_and_says_so(self, fresh: Bench, trusted: Cli):
        trusted("user", "add", "alice", password=PASSWORD)
        fresh.crl.unlink()
        text = trusted("card", "enrol", "alice", "--pem", "-", stdin=fresh.card().der)
        assert "not fully checked" in text

    def test_of_several_certificates_one_must_be_meant(self, fresh: Bench, trusted: Cli):
        trusted("user", "add", "alice", password=PASSWORD)
        cards = [fresh.card(), fresh.card()]
        both = b"".join(card.certificate.public_bytes(Encoding.PEM) for card in cards)
        with pytest.raises(BadRequest, match="2 of 2"):
            trusted("card", "enrol", "alice", "--pem", "-", stdin=both)
        encryption = fresh.card(usages=frozenset({"key_encipherment"}))
        mixed = b"".join(card.certificate.public_bytes(Encoding.PEM) for card in (encryption, cards[0]))
        done = trusted.json("card", "enrol", "alice", "--pem", "-", stdin=mixed)
        assert int(done["serial"], 16) == cards[0].certificate.serial_number

    def test_a_card_belongs_to_one_user(self, fresh: Bench, trusted: Cli):
        for name in ("alice", "bob"):
            trusted("user", "add", name, password=PASSWORD)
        card = fresh.card()
        trusted("card", "enrol", "alice", "--pem", "-", stdin=card.der)
        with pytest.raises(BadRequest, match="another user"):
            trusted("card", "enrol", "bob", "--pem", "-", stdin=card.der)

    def test_a_renewed_certificate_of_somebody_elses_card_is_refused(self, fresh: Bench, trusted: Cli):
        for name in ("alice", "bob"):
            trusted("user", "add", name, password=PASSWORD)
        card = fresh.card()
        renewed = fresh.pki.issue(card.key.public_key(), Profile(uid="000000000042"), now=now())
        trusted("card", "enrol", "alice", "--pem", "-", stdin=card.der)
        with pytest.raises(BadRequest, match="key is enrolled for another user"):
            trusted("card", "enrol", "bob", "--pem", "-", stdin=renewed.public_bytes(Encoding.DER))
        trusted("card", "enrol", "alice", "--pem", "-", stdin=renewed.public_bytes(Encoding.DER))

    @pytest.mark.parametrize(
        "text", [b"", b"nonsense", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"]
    )
    def test_no_certificate(self, trusted: Cli, text: bytes):
        trusted("user", "add", "alice", password=PASSWORD)
        with pytest.raises((BadRequest, Rejected)):
            trusted("card", "enrol", "alice", "--pem", "-", stdin=text)


class TestTrust:
    def test_listed_with_its_rule_and_removed(self, trusted: Cli):
        (row,) = trusted.json("trust", "list")
        assert (row["hardware"], row["pin_enforced"], row["map_nhs_uid"]) == (True, True, True)
        assert row["check_revocation"] is True
        assert len(row["crl_files"]) == 2
        assert "PIN enforced" in trusted("trust", "list")
        trusted("trust", "remove", "staff")
        assert trusted.json("trust", "list") == []
        with pytest.raises(BadRequest):
            trusted("trust", "remove", "staff")

    def test_a_card_is_no_authority(self, fresh: Bench, cli: Cli):
        with pytest.raises(SetupError, match="not a CA"):
            cli("trust", "add", "card", "--pem", "-", stdin=fresh.card().der)
        assert cli.json("trust", "list") == []

    @pytest.mark.parametrize(
        ("options", "words"),
        [
            (("--ocsp", "ocsp.example"), "not an address"),
            (("--ocsp", "file:///etc/passwd"), "not an address"),
            (("--crl", "http:///x.crl"), "not an address"),
            (("--crl", "/nowhere/x.crl"), "can't be read: No such file"),
            (("--crl", "ldap://dir.example/cn=x"), "can't be read"),
            (("--crl", "root.pem"), "not a revocation list"),
            (("--crl", "issuing.crl"), "another issuer: CN=Test SubCA01"),
            (("--policy", "gold"), "not a policy OID"),
        ],
    )
    def test_what_could_never_work_is_refused(
        self, fresh: Bench, cli: Cli, monkeypatch: pytest.MonkeyPatch, options: tuple[str, str], words: str
    ):
        monkeypatch.chdir(fresh.data)
        (fresh.data / "root.pem").write_bytes(fresh.pki.root.certificate.public_bytes(Encoding.PEM))
        with pytest.raises(BadRequest, match=words):
            cli("trust", "add", "staff", "--pem", "root.pem", *options)
        assert cli.json("trust", "list") == []

    @pytest.mark.parametrize(("days", "words"), [(-15_000, "expired on"), (36_500, "not yet")])
    def test_an_authority_that_is_not_valid_today(self, cli: Cli, days: int, words: str):
        past = RigPki.create(now=now() + dt.timedelta(days=days))
        with pytest.raises(BadRequest, match=words):
            cli("trust", "add", "old", "--pem", "-", stdin=past.root.certificate.public_bytes(Encoding.PEM))

    def test_a_crl_of_an_intermediate_needs_the_intermediate(self, trusted: Cli):
        assert len(trusted.json("trust", "list")[0]["crl_files"]) == 2

    def test_the_same_authority_twice(self, fresh: Bench, trusted: Cli):
        der = fresh.pki.root.certificate.public_bytes(Encoding.DER)
        with pytest.raises(BadRequest, match="already"):
            trusted("trust", "add", "staff", "--pem", "-", stdin=der)
        with pytest.raises(SetupError, match="same"):
            trusted("trust", "add", "other", "--pem", "-", stdin=der)


class TestAudit:
    def test_verify_finds_a_changed_row(self, fresh: Bench, cli: Cli):
        for name in ("alice", "bob", "carol"):
            cli("user", "add", name, password=PASSWORD)
        assert cli.json("audit", "--verify") == {"rows": 3, "intact": True}
        tamper(fresh, "UPDATE audit SET account = 'mallory' WHERE seq = 2")
        with pytest.raises(SetupError, match="row 2 was changed"):
            cli("audit", "--verify")

    @pytest.mark.parametrize(("which", "words"), [(2, "row 2 is missing"), (3, "missing at the end")])
    def test_verify_finds_a_removed_row(self, fresh: Bench, cli: Cli, which: int, words: str):
        for name in ("alice", "bob", "carol"):
            cli("user", "add", name, password=PASSWORD)
        tamper(fresh, f"DELETE FROM audit WHERE seq = {which}")
        with pytest.raises(SetupError, match=words):
            cli("audit", "--verify")

    def test_verify_finds_a_chain_that_was_written_anew(self, fresh: Bench, cli: Cli):
        """Whoever has the database alone can make all hashes fit, but not the seal: its key is in another file."""
        for name in ("alice", "bob", "carol"):
            cli("user", "add", name, password=PASSWORD)
        shorter = "UPDATE audit_head SET seq = 2, hash = (SELECT hash FROM audit WHERE seq = 2)"
        tamper(fresh, "DELETE FROM audit WHERE seq = 3", shorter)
        with pytest.raises(SetupError, match="without this server's key file"):
            cli("audit", "--verify")
        cli("user", "add", "dave", password=PASSWORD)  # what comes after does not heal it
        with pytest.raises(SetupError, match="without this server's key file"):
            cli("audit", "--verify")

    def test_a_trail_without_a_seal_says_so_and_gets_one_on_record(self, fresh: Bench, cli: Cli):
        cli("user", "add", "alice", password=PASSWORD)
        tamper(fresh, "UPDATE audit_head SET seal = NULL")
        cli("user", "add", "bob", password=PASSWORD)
        with pytest.raises(SetupError, match="never sealed"):
            cli("audit", "--verify")
        cli("init")
        assert cli.json("audit", "--verify") == {"rows": 3, "intact": True}
        assert "audit-sealed" in cli("audit")

    def test_the_seal_outlives_a_new_key(self, cli: Cli):
        cli("user", "add", "alice", password=PASSWORD)
        cli("rotate-keys")
        cli("user", "add", "bob", password=PASSWORD)
        assert cli.json("audit", "--verify")["intact"] is True

    def test_follow_shows_what_comes(self, fresh: Bench, cli: Cli):
        cli("user", "add", "alice", password=PASSWORD)
        command = [sys.executable, "-c", "from tokenbridge.cli.server import server; server()",
                   "--data", str(fresh.data), "audit", "--follow", "--json"]  # fmt: skip
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            try:
                assert process.stdout is not None
                assert json.loads(process.stdout.readline())["account"] == "alice"
                cli("user", "add", "bob", password=PASSWORD)
                assert json.loads(process.stdout.readline())["account"] == "bob"
            finally:
                process.kill()

    def test_follow_of_one_user_misses_nothing(self, fresh: Bench, cli: Cli, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setattr(follow, "AT_ONCE", 2)
        monkeypatch.setattr(follow, "LOOK_EVERY_SECONDS", 0.01)
        for name in ("alice", "bob", "carol", "bob2", "dave"):
            cli("user", "add", name, password=PASSWORD)
        cli("user", "disable", "bob")
        stop, seen = threading.Event(), []
        with fresh.office() as opened:
            for entries in follow.following(opened.database, after=0, search=Search(account="bob"), stop=stop):
                seen += [entry.event for entry in entries]
                if len(seen) == 2:
                    stop.set()
        assert seen == ["user-added", "user-disabled"]

    def test_of_one_user(self, cli: Cli):
        for name in ("alice", "bob"):
            cli("user", "add", name, password=PASSWORD)
        lines = cli("audit", "--user", "bob").splitlines()
        assert len(lines) == 1
        assert "bob" in lines[0]


def tamper(bench: Bench, *statements: str) -> None:
    """What somebody with the database and some patience does."""
    with bench.office() as opened:
        triggers = (
            ("audit_no_update", "audit_no_delete") if opened.database.is_sqlite else ("audit_append_only ON audit",)
        )
    bench.sql(*(f"DROP TRIGGER {name}" for name in triggers), *statements)


class TestGroup:
    @pytest.mark.parametrize("command", list(COMMANDS))
    def test_every_command_has_help(self, command: str):
        result = CliRunner().invoke(server, [command, "--help"])
        assert result.exit_code == 0
        assert "Usage:" in result.stdout

    def test_importing_the_group_loads_nothing_heavy(self):
        code = (
            "import sys, tokenbridge.cli.server\n"
            "heavy = {'sqlalchemy', 'fastapi', 'cryptography', 'httpx', 'alembic', 'rich', 'asn1crypto', 'uvicorn'}\n"
            "print(sorted(heavy & set(sys.modules)))"
        )
        result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert result.stdout == "[]\n"

    def test_port_that_is_taken(self, tmp_path: Path, pki: RigPki):
        with socket.create_server(("127.0.0.1", 0)) as taken:
            bench = make_bench(tmp_path / "data", pki, port=taken.getsockname()[1])
            with pytest.raises(SetupError, match="can't be listened on"):
                run(settings.load(bench.data), print)
