"""`tokenbridge policy` and `server group`, and a running server that follows its policy file."""

from __future__ import annotations

import hashlib
import json
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from tests.patience import until
from tests.server.conftest import Bench, Person, Server, running, serving
from tests.server.test_cli import Cli
from tokenbridge.cli.policy import policy as command
from tokenbridge.errors import BadRequest, PolicyInvalid, SetupError
from tokenbridge.rp import policy_file
from tokenbridge.server.policy_book import DEFAULT_EDITION, PolicyBook, read

DOCS = Path(__file__).parents[2] / "docs" / "policy.md"
STRICT = '[[rule]]\nname = "strict"\naal = 3\nfallback = ["card", "key"]\n'
LOOSE = '[[rule]]\nname = "loose"\naal = 1\n'


class Asked:
    """Runs `tokenbridge policy` on one data directory."""

    def __init__(self, data: Path) -> None:
        self.data = data

    def __call__(self, *words: str, code: int = 0) -> str:
        done = CliRunner().invoke(command, ["--data", str(self.data), *words], standalone_mode=False)
        if done.exception is not None:
            raise done.exception
        assert (done.return_value or 0) == code, done.output
        return done.output

    def json(self, *words: str) -> dict[str, Any]:
        return json.loads(self(*words, "--json"))


@pytest.fixture
def ask(fresh: Bench) -> Asked:
    return Asked(fresh.data)


@pytest.fixture
def cli(fresh: Bench) -> Cli:
    return Cli(fresh.data)


def put(directory: Path, text: str) -> Path:
    """Replace the policy file as docs/policy.md says."""
    new = directory / "new.toml"
    new.write_text(text, "utf-8")
    return new.replace(directory / "policy.toml")


def example() -> str:
    found = re.search(r"```toml\n(.*?)```", DOCS.read_text("utf-8"), re.S)
    assert found is not None
    return found[1]


class TestCommand:
    def test_the_documented_example_is_a_policy(self, ask: Asked, tmp_path: Path) -> None:
        (tmp_path / "example.toml").write_text(example(), "utf-8")
        found = ask.json("check", str(tmp_path / "example.toml"))
        assert found["rules"] == ["prescribing", "ward computers at night", "from abroad", "everybody"]
        assert found["exceptions"] == 1
        assert "lets nobody in" in ask("check", str(tmp_path / "example.toml"))

    def test_every_key_is_documented(self) -> None:
        source = Path(policy_file.__file__).read_text("utf-8")
        keys = set(re.findall(r'\.(?:take|must|tables)\(\s*"([a-z_]+)"', source))
        assert len(keys) > 25
        told = DOCS.read_text("utf-8")
        assert {key for key in keys if not re.search(rf"`{key}`|\b{key} = |\[\[{key}]]", told)} == set()

    def test_a_bad_file_says_where(self, ask: Asked, tmp_path: Path) -> None:
        (tmp_path / "bad.toml").write_text('[[rule]]\nname = "r"\nhardwear = true', "utf-8")
        with pytest.raises(PolicyInvalid, match="rule 'r': nobody knows the key 'hardwear'") as caught:
            ask("check", str(tmp_path / "bad.toml"))
        assert caught.value.code == "policy-invalid"

    def test_explain_tells_the_outcome_and_the_reason_of_every_rule(self, ask: Asked, cli: Cli) -> None:
        cli("user", "add", "alice", "--no-password")
        cli("user", "totp", "alice", "--json")
        cli("group", "add", "prescribers", "alice")
        put(ask.data, example())
        told = ask.json("explain", "--user", "alice", "--client", "eps", "-e", "password", "-e", "totp")
        assert (told["decision"], told["rule"]) == ("deny", "prescribing")
        assert [rule["standing"] for rule in told["rules"]] == [
            "decides", "does-not-apply", "does-not-apply", "not-reached",
        ]  # fmt: skip
        assert told["rules"][3]["decision"] == "allow"
        assert "not in 10.20.0.0/16" in told["rules"][1]["why_not"][0]
        text = ask("explain", "--user", "alice", "-e", "key", "--signal", "many-failures")
        assert "challenge  Unusual access: " in text
        assert "One more step is needed: authenticator-app code." in text
        assert "▶ everybody: decides, challenge" in text
        night = ask("explain", "-e", "key", "--network", "10.20.1.1", "--at", "2026-07-01T23:00", "--client", "ward")
        assert "▶ ward computers at night: decides, allow" in night

    def test_explain_asks_about_people_who_are_not_there_yet(self, ask: Asked) -> None:
        told = ask.json("explain", "-e", "password", "--enrolled", "sms", "--group", "nurses")
        assert (told["decision"], told["methods"]) == ("challenge", ["sms"])

    @pytest.mark.parametrize("words", [("-e", "magic"), ("-e", "key:no-aaguid"), ("-e", "password:x"), ("--user", "x")])
    def test_what_cannot_be_asked(self, ask: Asked, words: tuple[str, ...]) -> None:
        with pytest.raises(BadRequest):
            ask("explain", *words)

    def test_models_decide_which_device_counts(self, ask: Asked) -> None:
        model = "0b7e5c2a-6f0d-4c59-9a35-f3d1c2a4e871"
        put(ask.data, f'{STRICT}models = ["key:{model}", "card:NHS"]\n')
        assert ask.json("explain", "-e", f"key:{model}")["decision"] == "allow"
        assert ask.json("explain", "-e", "card:NHS")["decision"] == "allow"
        refused = ask.json("explain", "-e", "card:Other")
        assert refused["decision"] == "deny"
        assert refused["reasons"][0]["code"] == "model-refused"

    def test_diff_names_the_accounts_and_what_changes_for_them(self, ask: Asked, fresh: Bench, tmp_path: Path) -> None:
        fresh.trust()
        both = fresh.person()
        (tmp_path / "strict.toml").write_text(STRICT, "utf-8")
        (tmp_path / "same.toml").write_text('[[rule]]\nname = "another name"', "utf-8")
        found = [json.loads(line) for line in ask("diff", str(tmp_path / "strict.toml"), "--json", code=1).splitlines()]
        assert {one["user"] for one in found} == {both.username}
        changed = {one["evidence"]: (one["before"]["decision"], one["after"]["decision"]) for one in found}
        assert changed == {
            "password": ("challenge", "challenge"),
            "password and authenticator-app code": ("allow", "challenge"),
        }
        assert "1 accounts would be treated differently" in ask("diff", str(tmp_path / "strict.toml"), code=1)
        assert "Nothing would change" in ask("diff", str(tmp_path / "same.toml"))

    def test_groups(self, cli: Cli) -> None:
        for name in ("alice", "bob"):
            cli("user", "add", name, "--no-password")
        assert "Put into nurses: alice, bob." in cli("group", "add", "nurses", "alice", "bob")
        assert "Nothing to change" in cli("group", "add", " nurses ", "alice")
        assert json.loads(cli("group", "list", "--json")) == [{"name": "nurses", "users": 2}]
        assert json.loads(cli("group", "remove", "nurses", "alice", "--json"))["changed"] == ["alice"]
        assert "bob" in cli("group", "list", "nurses")
        with pytest.raises(BadRequest, match="carol"):
            cli("group", "add", "nurses", "alice", "carol")
        assert [who["username"] for who in json.loads(cli("group", "list", "nurses", "--json"))] == ["bob"]
        with pytest.raises(BadRequest, match="Nobody is in a group"):
            cli("group", "list", "porters")
        with pytest.raises(BadRequest, match="can't be the name of a group"):
            cli("group", "add", "\x07", "alice")
        events = [json.loads(line)["event"] for line in cli("audit", "--json", "--user", "alice").splitlines()]
        assert events[-2:] == ["group-joined", "group-left"]


class TestBook:
    def test_without_a_file_two_factors_are_required(self, tmp_path: Path) -> None:
        assert read(tmp_path / "none.toml") == DEFAULT_EDITION

    def test_it_follows_the_file_and_keeps_what_it_has_when_the_file_is_bad(self, tmp_path: Path) -> None:
        told: list[tuple[str, bool]] = []
        path = put(tmp_path, STRICT)
        book = PolicyBook(path, lambda edition, fault: told.append((edition.version, fault is not None)))
        strict = book.current()
        assert strict.policy.rules[0].name == "strict"
        put(tmp_path, "nonsense")
        assert book.current() == strict
        put(tmp_path, LOOSE)
        assert book.current().policy.rules[0].name == "loose"
        path.unlink()
        assert book.current().policy.rules[0].name == "loose"
        assert told == [(strict.version, True), (book.current().version, False)]

    def test_a_server_does_not_begin_with_a_bad_file(self, fresh: Bench) -> None:
        put(fresh.data, "nonsense")
        with pytest.raises(SetupError, match="it is not TOML"), serving(fresh.data):
            pass

    @pytest.mark.parametrize("content", [b"\xff\xfe", b"a" * (policy_file.MAX_BYTES + 2)])
    def test_what_is_no_text_or_too_much_of_it(self, tmp_path: Path, content: bytes) -> None:
        (tmp_path / "policy.toml").write_bytes(content)
        with pytest.raises(PolicyInvalid):
            read(tmp_path / "policy.toml")


class TestServer:
    @pytest.fixture
    def served(self, fresh: Bench) -> Iterator[Server]:
        with running(fresh.data) as server:
            yield server

    def decided(self, server: Server, person: Person) -> dict[str, Any]:
        return server.password(server.begin(), person.username).json()

    def test_a_new_file_holds_at_the_next_sign_in_and_the_trail_says_so(self, fresh: Bench, served: Server) -> None:
        person = fresh.person()
        assert self.decided(served, person)["decision"] == "challenge"
        put(fresh.data, LOOSE)
        allowed = self.decided(served, person)
        assert (allowed["decision"], allowed["assurance"]["aal"]) == ("allow", 1)
        put(fresh.data, "nonsense")
        assert self.decided(served, person)["decision"] == "allow"
        put(fresh.data, '[[rule]]\nname = "closed"\nrefuse = true\nmessage = "Closed for works."\n')
        closed = self.decided(served, person)
        assert (closed["decision"], closed["sentence"]) == ("deny", "Not signed in: Closed for works.")
        events = self.trail(fresh, 4)
        assert [event["event"] for event in events if event["event"].startswith("policy")] == [
            "policy-changed", "policy-refused", "policy-changed",
        ]  # fmt: skip
        signed_in = [event["detail"] for event in events if event["event"] == "signed-in"]
        assert {detail["rule"] for detail in signed_in} == {"loose"}
        assert {detail["policy"] for detail in signed_in} == {read_version(LOOSE)}

    def test_groups_and_limits_of_the_rule(self, fresh: Bench, served: Server) -> None:
        member, other = fresh.person(), fresh.person()
        Cli(fresh.data)("group", "add", "nurses", member.username)
        put(fresh.data, f'[[rule]]\nname = "n"\ngroups = ["nurses"]\naal = 1\nidle = "1s"\noverall = "1h"\n{LOOSE}')
        begun = time.monotonic()
        token = self.decided(served, member)["session"]["token"]
        assert served.session(token).status_code == 200 or time.monotonic() - begun > 1
        longer = self.decided(served, other)["session"]["token"]
        time.sleep(1.1)  # the server's clock is the machine's own, and looking would keep the session alive
        assert (served.session(token).status_code, served.session(longer).status_code) == (401, 200)

    def trail(self, fresh: Bench, changes: int) -> list[dict[str, Any]]:
        """The audit trail. Changes of the policy are recorded a moment after they are noticed."""

        def events() -> list[dict[str, Any]]:
            found = [json.loads(line) for line in Cli(fresh.data)("audit", "--json").splitlines()]
            return found if sum(event["event"].startswith("policy") for event in found) >= changes - 1 else []

        return until(events, "the changes of the policy on record")


def read_version(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]
