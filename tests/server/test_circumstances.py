"""Network, device and what is unusual: through a real server, from its address to the decision and the trail."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.patience import until
from tests.server.conftest import Bench, Person, Server, running
from tests.server.test_cli import Cli
from tests.server.test_policy_cli import put
from tests.server.test_risk import write_countries

WARY = """
[[rule]]
name = "wary"
fallback = ["totp"]
withdraw_on = ["new-device", "new-country", "many-failures"]
"""
INSIDE = """
[[rule]]
name = "inside"
networks = ["10.0.0.0/8"]
aal = 1

[[rule]]
name = "outside"
"""


class Hall:
    def __init__(self, bench: Bench, server: Server) -> None:
        self.bench, self.server = bench, server

    def begin(self, device: str = "", address: str = "") -> dict[str, Any]:
        body = {"client": "cli", **({"device": device} if device else {})}
        headers = {"x-forwarded-for": address} if address else {}
        answer = self.server.http.post("/api/sign-in", json=body, headers=headers)
        assert answer.status_code == 201, answer.text
        return answer.json()

    def card(self, person: Person, **where: str) -> dict[str, Any]:
        ticket = self.begin(**where)
        outcome = self.server.card(ticket, person.card.token(ticket["nonce"])).json()
        return {**outcome, "ticket": ticket}

    def mails(self, least: int) -> list[dict[str, Any]]:
        """Notices, as soon as there are ``least`` of them: they leave after the answer."""

        def sent() -> list[dict[str, Any]]:
            messages = self.server.http.get("/api/outbox").json()["messages"]
            return [one for one in messages if one["channel"] == "mail"]

        until(lambda: len(sent()) >= least, f"{least} notices")
        return sent()

    def signed_in(self, person: Person) -> list[dict[str, Any]]:
        lines = Cli(self.bench.data)("audit", "--json", "--user", person.username, "--event", "signed-in").splitlines()
        return [json.loads(line)["detail"] for line in lines]


@pytest.fixture
def hall(fresh: Bench) -> Iterator[Hall]:
    fresh.trust()
    countries = write_countries(fresh.data / "c.mmdb", GB="81.2.69.0/24", FR="78.192.0.0/16")
    with (fresh.data / "server.toml").open("a") as file:
        file.write(f'trusted_proxies = ["127.0.0.1"]\ncountries = "{countries}"\noutbox = true\n')
    with running(fresh.data) as server:
        yield Hall(fresh, server)


def test_a_new_device_withdraws_the_suppression_once_and_says_so(hall: Hall) -> None:
    put(hall.bench.data, WARY)
    person = hall.bench.person()
    mine, other = secrets.token_hex(32), secrets.token_hex(32)
    assert hall.card(person, device=mine)["decision"] == "allow"
    assert hall.card(person, device=mine)["suppressed"] == ["totp"]
    unusual = hall.card(person, device=other)
    assert (unusual["decision"], unusual["methods"]) == ("challenge", ["totp"])
    assert "this account was not used from this device before" in unusual["sentence"]
    assert hall.server.code(unusual["ticket"], person.code()).json()["decision"] == "allow"
    assert hall.card(person, device=other)["decision"] == "allow"
    assert hall.card(person)["decision"] == "challenge"
    assert [detail["signals"] for detail in hall.signed_in(person)] == [[], [], ["new-device"], []]


def test_another_country_by_the_operators_file(hall: Hall) -> None:
    put(hall.bench.data, WARY)
    person, device = hall.bench.person(), secrets.token_hex(32)
    assert hall.card(person, device=device, address="81.2.69.10")["decision"] == "allow"
    abroad = hall.card(person, device=device, address="78.192.3.4")
    assert abroad["decision"] == "challenge"
    assert [reason["code"] for reason in abroad["reasons"]] == ["unusual:new-country"]
    assert hall.signed_in(person)[0]["address"] == "81.2.69.10"


def test_many_failures(hall: Hall) -> None:
    put(hall.bench.data, WARY)
    person = hall.bench.person()
    for _ in range(10):
        ticket = hall.begin()
        assert hall.server.password(ticket, person.username, "wrong password").status_code == 403
    assert [reason["code"] for reason in hall.card(person)["reasons"]] == ["unusual:many-failures"]


def test_nothing_unusual_is_minded_without_a_rule(hall: Hall) -> None:
    person = hall.bench.person()
    assert hall.card(person, device=secrets.token_hex(32), address="81.2.69.10")["decision"] == "allow"
    assert hall.card(person, address="78.192.3.4")["decision"] == "allow"
    assert hall.signed_in(person)[1]["signals"] == ["new-device", "new-network", "new-country", "impossible-travel"]


def test_networks_decide_and_a_client_cannot_claim_one(hall: Hall) -> None:
    put(hall.bench.data, INSIDE)
    person = hall.bench.person()

    def decided(address: str) -> str:
        return str(hall.server.password(hall.begin(address=address), person.username).json()["decision"])

    assert decided("10.1.2.3") == "allow"
    assert decided("192.0.2.7") == "challenge"
    assert decided("10.1.2.3, 192.0.2.7") == "challenge"
    assert decided("") == "challenge"


@pytest.mark.parametrize("device", ["short", "x" * 129, 5])
def test_a_device_that_is_none(hall: Hall, device: Any) -> None:
    assert hall.server.http.post("/api/sign-in", json={"client": "cli", "device": device}).status_code == 400


def test_the_devices_word_is_not_stored(hall: Hall, databases: Any) -> None:
    word = secrets.token_hex(32)
    hall.card(hall.bench.person(), device=word)
    assert word.encode() not in databases.stolen(Path(hall.bench.data))


def test_what_is_unusual_is_told_by_mail(hall: Hall) -> None:
    person = hall.bench.person(email="ada@example.org")
    device = secrets.token_hex(32)
    hall.card(person, device=device, address="81.2.69.10")
    hall.card(person, address="78.192.3.4")
    (mail,) = hall.mails(1)  # one worker sends in order: the first sign-in's would come before
    assert mail["to"] == "ada@example.org"
    assert "from a new device, from a new network, from a new country" in mail["text"]
    assert "78.192.3.4" in mail["text"]
