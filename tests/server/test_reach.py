"""People are told to use a key where that would be enough, and nowhere else; who is let in costs nothing more."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, event

from tests.server.conftest import Bench, Databases, make_bench, serving
from tests.server.key_bench import KeyBench, hardware_model, key_options
from tests.server.test_policy_cli import Asked
from tests.software_key import UP, Maker, SoftwareKey
from tokenbridge.rig.pki import RigPki
from tokenbridge.server.operator import security_keys
from tokenbridge.server.operator.suspensions import set_suspended
from tokenbridge.server.store.suspensions import Kind

POLICY = """
[[rule]]
name = "ward"
clients = ["ward"]
aal = 3
fallback = ["key"]

[[rule]]
name = "default"
aal = 2
"""
HELD = "ORDER BY security_keys.id"
"""Part of the statement that lists an account's keys."""


@pytest.fixture(scope="module")
def at(tmp_path_factory: pytest.TempPathFactory, pki: RigPki, databases: Databases) -> Iterator[KeyBench]:
    bench = make_bench(tmp_path_factory.mktemp("reach") / "data", pki, database=databases.new())
    bench.trust()
    (bench.data / "policy.toml").write_text(POLICY)
    maker = Maker()
    with serving(bench.data) as server:
        made = KeyBench(bench=bench, server=server, maker=maker)
        made.load(hardware_model(maker))
        yield made


def by_password(at: KeyBench, name: str, client: str = "ward") -> dict[str, Any]:
    return dict(at.server.password(at.server.begin(client), name).json())


@contextmanager
def statements() -> Iterator[list[str]]:
    """What all engines of this process are asked meanwhile."""
    said: list[str] = []

    def note(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        said.append(statement)

    event.listen(Engine, "before_cursor_execute", note)
    try:
        yield said
    finally:
        event.remove(Engine, "before_cursor_execute", note)


def test_a_key_that_reaches_the_level_is_asked_for(at: KeyBench):
    name = at.newcomer()
    key = at.register(name)
    ticket = at.server.begin("ward")
    answer = at.server.password(ticket, name).json()
    assert (answer["decision"], answer["methods"]) == ("challenge", ["key"])
    done = at.present(ticket, key.answer(answer["key_options"], at.origin)).json()
    assert (done["decision"], done["assurance"]["aal"]) == ("allow", 3)


def test_a_key_that_does_not_is_not(at: KeyBench):
    """One whose maker nobody vouches for reaches AAL2: it would end in the same refusal."""
    name = at.newcomer()
    key = at.register(name, SoftwareKey())
    answer = by_password(at, name)
    assert (answer["decision"], answer["methods"]) == ("deny", [])
    assert "no method that would be enough" in answer["sentence"]
    ticket = at.server.http.post("/api/sign-in", json={"client": "ward"}).json()
    assert at.present(ticket, key.answer(key_options(ticket), at.origin)).json()["decision"] == "deny"
    assert by_password(at, name, "cli")["methods"][0] == "key", "where AAL2 is enough it is asked for"


def test_a_second_key_that_does_is_enough(at: KeyBench):
    name = at.newcomer()
    at.register(name, SoftwareKey())
    at.register(name)
    assert by_password(at, name)["methods"] == ["key"]


def test_a_suspended_key_does_not_count(at: KeyBench):
    name = at.newcomer()
    at.register(name, SoftwareKey())
    at.register(name)
    with at.bench.office() as office:
        strong = next(one["id"] for one in security_keys.keys_of(office, name) if one["level"] == 3)
        set_suspended(office, Kind.KEY, strong, suspended=True)
    assert by_password(at, name)["decision"] == "deny"


def test_who_is_let_in_costs_no_statement_more(at: KeyBench):
    person = at.bench.person()
    key = at.register(person.username)
    ticket, card = at.start(), at.server.begin()
    raw, token = key.answer(key_options(ticket), at.origin), person.card.token(card["nonce"])
    with statements() as said:
        assert at.present(ticket, raw).json()["decision"] == "allow"
        assert at.server.card(card, token).json()["decision"] == "allow"
    assert said
    assert not any(HELD in one for one in said)
    ticket = at.server.begin()
    assert "key" in at.server.password(ticket, person.username).json()["methods"]
    with statements() as said:
        assert at.server.code(ticket, person.code()).json()["decision"] == "allow"
    assert not any(HELD in one for one in said)


def test_nor_does_a_challenge_that_names_no_device(at: KeyBench):
    person = at.bench.person(enrol=False)
    ticket = at.server.begin()
    with statements() as said:
        assert at.server.password(ticket, person.username).json()["methods"] == ["totp"]
    assert not any(HELD in one for one in said)


def test_a_touch_alone_still_leads_on_to_the_password(at: KeyBench):
    name = at.newcomer()
    answer = at.sign_in(at.register(name), flags=UP).json()
    assert (answer["decision"], answer["methods"]) == ("challenge", ["password"])


def test_explain_and_diff_know_it_too(fresh: Bench, tmp_path: Path):
    fresh.trust()
    (fresh.data / "policy.toml").write_text(POLICY)
    maker = Maker()
    with serving(fresh.data) as server:
        at = KeyBench(bench=fresh, server=server, maker=maker)
        at.load(hardware_model(maker))
        weak, strong = at.newcomer(), at.newcomer()
        at.register(weak, SoftwareKey())
        at.register(strong)
    ask = Asked(fresh.data)

    def explained(name: str, *more: str) -> dict[str, Any]:
        return ask.json("explain", "--user", name, "--client", "ward", "--evidence", "password", *more)

    assert (explained(weak)["decision"], explained(weak)["methods"]) == ("deny", [])
    assert (explained(strong)["decision"], explained(strong)["methods"]) == ("challenge", ["key"])
    only_password = at.newcomer()
    assert explained(only_password)["decision"] == "deny"
    assert explained(only_password, "--enrolled", "key")["methods"] == ["key"], "supposed to be as good as any"
    new = tmp_path / "new.toml"
    new.write_text('[[rule]]\nname = "default"\naal = 3\nfallback = ["key"]\n')
    lines = [json.loads(line) for line in ask("diff", str(new), "--json", code=1).splitlines()]
    told = {one["user"] for one in lines if one["after"]["methods"] == ["key"]}
    assert told == {strong}
