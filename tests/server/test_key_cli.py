"""`tokenbridge server key`, `metadata` and the codes, as an operator types them."""

from __future__ import annotations

import datetime as dt
import json
from pathlib import Path

import pytest

from tests.metadata_maker import Service, entry
from tests.server.conftest import ORIGIN, Bench, serving, web
from tests.server.key_bench import KeyBench
from tests.server.test_cli import Cli
from tests.software_key import AAGUID, Maker, SoftwareKey
from tokenbridge.errors import BadRequest, LastFactor, RelyingPartyUnavailable, SetupError
from tokenbridge.server import codes
from tokenbridge.server.operator import metadata


@pytest.fixture
def cli(fresh: Bench) -> Cli:
    return Cli(fresh.data)


@pytest.fixture
def service(tmp_path: Path) -> Service:
    made = Service()
    (tmp_path / "root.pem").write_bytes(made.maker.pem)
    return made


@pytest.fixture
def root(tmp_path: Path, service: Service) -> str:
    return str(tmp_path / "root.pem")


def write(tmp_path: Path, blob: bytes) -> str:
    (tmp_path / "blob.jwt").write_bytes(blob)
    return str(tmp_path / "blob.jwt")


class TestCodes:
    def test_enrolment_code_from_the_command_to_a_key(self, fresh: Bench, cli: Cli):
        cli("user", "add", "alice", "--no-password")
        made = json.loads(cli("user", "enrolment-code", "alice", "--hours", "2", "--json"))
        left = dt.datetime.fromisoformat(made["expires_at"]) - dt.datetime.now(dt.UTC)
        assert dt.timedelta(hours=1, minutes=59) < left <= dt.timedelta(hours=2)
        with serving(fresh.data) as server:
            at = KeyBench(bench=fresh, server=server, maker=Maker())
            begun = at.begin_by_code("alice", made["code"]).json()
            assert at.finish(begun, SoftwareKey().register(begun["options"], ORIGIN), "blue").status_code == 201
        (key,) = json.loads(cli("key", "list", "alice", "--json"))
        assert (key["name"], key["username"], key["level"]) == ("blue", "alice", 2)
        assert "blue" in cli("key", "list")
        assert "is now called red" in cli("key", "rename", str(key["id"]), "red")
        with pytest.raises(LastFactor, match="alice"):
            cli("key", "remove", str(key["id"]))
        assert json.loads(cli("key", "remove", str(key["id"]), "--last", "--json")) == {
            "removed": key["id"],
            "username": "alice",
        }
        assert cli("key", "list").strip() == "(none)"
        events = [json.loads(line)["event"] for line in cli("audit", "--json", "--user", "alice").splitlines()]
        assert events[1:] == ["enrolment-code-made", "key-registered", "key-renamed", "key-removed"]

    def test_for_people_the_code_stands_alone_on_its_line(self, cli: Cli):
        cli("user", "add", "alice", "--no-password")
        first, second = cli("user", "enrolment-code", "alice").splitlines()
        assert len(first) == 29
        assert "It is not shown again" in second

    def test_ten_recovery_codes(self, cli: Cli):
        cli("user", "add", "alice", "--no-password")
        made = json.loads(cli("user", "recovery-codes", "alice", "--json"))["recovery_codes"]
        assert len(set(made)) == 10
        assert len(cli("user", "recovery-codes", "alice").splitlines()) == 11

    @pytest.mark.parametrize(
        "args",
        [("user", "enrolment-code", "nobody"), ("user", "recovery-codes", "nobody"), ("key", "remove", "7"),
         ("key", "rename", "7", "x"), ("key", "list", "nobody")],
    )  # fmt: skip
    def test_what_is_not_there(self, cli: Cli, args: tuple[str, ...]):
        with pytest.raises(BadRequest):
            cli(*args)

    def test_no_code_for_a_disabled_user(self, cli: Cli):
        cli("user", "add", "alice", "--no-password")
        cli("user", "disable", "alice")
        with pytest.raises(BadRequest, match="disabled"):
            cli("user", "enrolment-code", "alice")

    def test_a_code_is_typed_as_people_type(self):
        code = codes.new_code()
        assert codes.hash_code(f" {code.lower()} ".replace("-", " "), account=1) == codes.hash_code(code, account=1)
        assert codes.hash_code("o1L", account=1) == codes.hash_code("0-1-1", account=1)
        assert codes.hash_code(code, account=1) != codes.hash_code(code, account=2)


class TestMetadata:
    def test_loaded_shown_and_in_force(self, cli: Cli, tmp_path: Path, service: Service, root: str):
        assert "No metadata is loaded" in cli("metadata", "show")
        assert json.loads(cli("metadata", "show", "--json")) is None
        maker = Maker()
        blob = service.blob(entry([maker.der]), entry([], aaguid=bytes(15) + b"\1", statuses=("REVOKED",)), number=3)
        told = json.loads(cli("metadata", "load", write(tmp_path, blob), "--root", root, "--json"))
        assert told == {"before": None, "after": 3, "models": 2, "next_update": "2099-01-01", "stale": False}
        assert "Number 3, 2 models" in cli("metadata", "show")
        listed = json.loads(cli("key", "models", "--json"))
        assert {one["aaguid"]: one["standing"] for one in listed["models"]} == {
            "01020304-0506-0708-a1a2-a3a4a5a6a7a8": "accepted",
            "00000000-0000-0000-0000-000000000001": "unsafe",
        }
        assert listed["rules"]["metadata"] == 3
        assert "Test Key 5" in cli("key", "models", "test key")
        assert "(none)" in cli("key", "models", "nothing called so")

    def test_the_rules_show_in_the_list(self, fresh: Bench, cli: Cli, tmp_path: Path, service: Service, root: str):
        cli("metadata", "load", write(tmp_path, service.blob(entry([]))), "--root", root)
        file = fresh.data / "server.toml"
        before = file.read_text()
        for line, word in [
            ('key_refused = ["01020304-0506-0708-A1A2-A3A4A5A6A7A8"]', "refused"),
            ('key_allowed = ["00000000-0000-0000-0000-000000000001"]', "not allowed"),
            ('key_minimum_level = "L2"', "level too low"),
        ]:
            file.write_text(f"{before}{line}\n")
            (model,) = json.loads(cli("key", "models", "--json"))["models"]
            assert model["standing"] == word

    def test_an_older_blob_is_refused(self, cli: Cli, tmp_path: Path, service: Service, root: str):
        cli("metadata", "load", write(tmp_path, service.blob(number=9)), "--root", root)
        with pytest.raises(BadRequest, match="number 9 is in force"):
            cli("metadata", "load", write(tmp_path, service.blob(number=8)), "--root", root)
        cli("metadata", "load", write(tmp_path, service.blob(number=9)), "--root", root)

    def test_one_that_is_out_of_date_says_so(self, cli: Cli, tmp_path: Path, service: Service, root: str):
        blob = service.blob(next_update="2020-01-01")
        assert "which is past" in cli("metadata", "load", write(tmp_path, blob), "--root", root)
        assert "OUT OF DATE" in cli("metadata", "show")

    def test_a_blob_of_the_tests_is_not_fidos(self, cli: Cli, tmp_path: Path, service: Service):
        with pytest.raises(BadRequest, match="trusted root"):
            cli("metadata", "load", write(tmp_path, service.blob()))

    def test_the_default_roots_are_on_this_machine(self):
        newer, older = sorted(metadata.default_roots(), key=lambda root: root.not_valid_before_utc, reverse=True)
        assert "GlobalSign Root R46" in newer.subject.rfc4514_string()
        assert "GlobalSign Root CA - R3" in older.subject.rfc4514_string()

    def test_below_a_public_root_only_fido_signs(
        self, cli: Cli, tmp_path: Path, service: Service, monkeypatch: pytest.MonkeyPatch
    ):
        monkeypatch.setattr(metadata, "default_roots", lambda: [service.maker.root])
        with pytest.raises(BadRequest, match="signer is not"):
            cli("metadata", "load", write(tmp_path, service.blob()))
        service = Service(maker=service.maker, name="mds.fidoalliance.org")
        cli("metadata", "load", write(tmp_path, service.blob(number=900)))

    def test_from_an_address(self, cli: Cli, service: Service, root: str):
        with web({"/blob": lambda _: ("application/octet-stream", service.blob(number=5))}) as (url, asked):
            cli("metadata", "load", f"{url}/blob", "--root", root)
        assert asked == ["/blob"]
        assert json.loads(cli("metadata", "show", "--json"))["source"] == f"{url}/blob"

    def test_an_address_that_sends_too_much(
        self, cli: Cli, root: str, monkeypatch: pytest.MonkeyPatch, service: Service
    ):
        monkeypatch.setattr(metadata, "MAX_BLOB_BYTES", 1000)
        much = {"/blob": lambda _: ("text/plain", b"x" * 2000)}
        with web(much) as (url, _), pytest.raises(BadRequest, match="too large"):
            cli("metadata", "load", f"{url}/blob", "--root", root)

    def test_an_address_that_does_not_answer(self, cli: Cli, root: str):
        with web({}) as (url, _):
            pass
        with pytest.raises(RelyingPartyUnavailable):
            cli("metadata", "load", f"{url}/blob", "--root", root)

    @pytest.mark.parametrize("source", ["http://mds.example.org/", "ftp://x/y", "/no/such/file"])
    def test_sources_that_are_none(self, cli: Cli, root: str, source: str):
        with pytest.raises(BadRequest):
            cli("metadata", "load", source, "--root", root)

    def test_a_root_that_is_none(self, cli: Cli, tmp_path: Path, service: Service):
        (tmp_path / "rubbish.pem").write_text("rubbish")
        with pytest.raises(SetupError, match=r"rubbish\.pem"):
            cli("metadata", "load", write(tmp_path, service.blob()), "--root", str(tmp_path / "rubbish.pem"))

    def test_a_running_server_follows(self, fresh: Bench, cli: Cli, tmp_path: Path, service: Service, root: str):
        maker = Maker()
        with serving(fresh.data) as server:
            at = KeyBench(bench=fresh, server=server, maker=maker)
            key = at.register(at.newcomer())
            assert at.sign_in(key).json()["assurance"]["aal"] == 2
            cli("metadata", "load", write(tmp_path, service.blob(entry([maker.der]))), "--root", root)
            assert at.sign_in(key).json()["assurance"]["aal"] == 3
            revoked = service.blob(entry([maker.der], statuses=("REVOKED",)), number=8)
            cli("metadata", "load", write(tmp_path, revoked), "--root", root)
            assert at.sign_in(key).json()["error"]["reason"] == "model-revoked"
        assert key.aaguid == AAGUID
