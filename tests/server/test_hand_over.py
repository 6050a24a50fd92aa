"""A sign-in handed over from a browser to the bridge: only the browser that began it gets the session, and once."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from tests.server.conftest import Bench, Person, Server, serving
from tokenbridge.errors import NotFound, TokenbridgeError
from tokenbridge.server import settings
from tokenbridge.server.app import build
from tokenbridge.server.hand_over import Browser, HandOverDesk, link

BROWSER = "a secret of the browser"


class Hall:
    """A server, the desk of its pages, and a person with a card."""

    def __init__(self, bench: Bench, server: Server) -> None:
        self.bench, self.server = bench, server
        self.app = build(settings.load(bench.data))
        self.desk: HandOverDesk = self.app.state.hand_overs
        self.person = bench.person()

    def begin(self, *, account: str = "", browser: str = BROWSER) -> str:
        ticket = self.server.begin("portal")
        asker = Browser(secret=browser, account=account, device="Firefox on Linux", onward="/sessions")
        return asyncio.run(self.desk.begin(ticket["transaction"], asker))

    def asked(self, ref: str) -> httpx.Response:
        return self.server.http.get(f"/api/hand-over/{ref}")

    def card(self, ref: str, person: Person | None = None, **changes: Any) -> httpx.Response:
        asked = self.asked(ref).json()
        token = (person or self.person).card.token(asked["nonce"], **changes)
        return self.server.http.post(f"/api/hand-over/{ref}/card", json={"token": token})

    def redeem(self, code: str, browser: str = BROWSER) -> str | None:
        found = asyncio.run(self.desk.redeem(code, browser))
        assert found.onward == "/sessions"
        return found.session

    def code(self, answer: httpx.Response) -> str:
        assert answer.status_code == 200, answer.text
        address = str(answer.json()["continue"])
        assert address.startswith("https://localhost:8443/sign-in/card/")
        return address.rpartition("/")[2]


@pytest.fixture
def hall(fresh: Bench) -> Iterator[Hall]:
    fresh.trust()
    with serving(fresh.data) as server:
        made = Hall(fresh, server)
        yield made
        made.app.state.database.close()


def test_the_browser_that_began_gets_the_session_and_nobody_else(hall: Hall) -> None:
    ref = hall.begin(account="ada")
    asked = hall.asked(ref).json()
    assert (asked["account"], asked["device"], asked["rp"]["name"]) == ("ada", "Firefox on Linux", "Test Hospital")
    assert [way["method"] for way in asked["accepts"]] == ["card"]
    answer = hall.card(ref)
    code = hall.code(answer)
    told = answer.json()
    assert (told["decision"], told["assurance"]["aal"]) == ("allow", 3)
    assert "session" not in told
    with pytest.raises(NotFound):
        hall.redeem(code, browser="another browser")
    with pytest.raises(NotFound):
        hall.redeem("another code")
    session = hall.redeem(code)
    assert session is not None
    assert hall.server.session(session).json()["account"]["username"] == hall.person.username
    with pytest.raises(NotFound):
        hall.redeem(code)


def test_it_is_done_once(hall: Hall) -> None:
    ref = hall.begin()
    hall.card(ref)
    assert hall.asked(ref).status_code == 404
    assert hall.server.http.post(f"/api/hand-over/{ref}/card", json={"token": {}}).status_code == 404


def test_two_browsers_race_for_one_code(hall: Hall) -> None:
    code = hall.code(hall.card(hall.begin()))

    def take(_: int) -> bool:
        try:
            return hall.redeem(code) is not None
        except TokenbridgeError:
            return False

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(take, range(16))) == 1


def test_bad_evidence_ends_it_and_gives_no_code(hall: Hall) -> None:
    ref = hall.begin()
    refused = hall.card(ref, origin="https://evil.example")
    assert (refused.status_code, refused.json()["error"]["code"]) == (403, "rejected")
    again = hall.card(ref)
    assert again.status_code == 409


def test_a_card_that_is_not_enough_goes_on_in_the_browser(fresh: Bench) -> None:
    fresh.trust(hardware=False, pin_enforced=False)
    with serving(fresh.data) as server:
        hall = Hall(fresh, server)
        answer = hall.card(hall.begin())
        assert (answer.json()["decision"], answer.json()["methods"]) == ("challenge", ["password"])
        assert hall.redeem(hall.code(answer)) is None
        hall.app.state.database.close()


def test_the_person_can_say_no(hall: Hall) -> None:
    ref = hall.begin()
    assert hall.server.http.delete(f"/api/hand-over/{ref}").status_code == 204
    assert hall.asked(ref).status_code == 404


def test_a_second_link_makes_the_first_void_and_unknown_ones_are_not_found(hall: Hall) -> None:
    ticket = hall.server.begin("portal")["transaction"]
    first = asyncio.run(hall.desk.begin(ticket, Browser(secret=BROWSER)))
    second = asyncio.run(hall.desk.begin(ticket, Browser(secret=BROWSER)))
    assert (hall.asked(first).status_code, hall.asked(second).status_code) == (404, 200)
    assert hall.asked("nonsense").status_code == 404
    assert hall.asked("x" * 200).status_code == 400
    with pytest.raises(NotFound):
        asyncio.run(hall.desk.begin("no such sign-in", Browser(secret=BROWSER)))


def test_a_stolen_database_opens_nothing(hall: Hall, databases: Any) -> None:
    ref = hall.begin()
    code = hall.code(hall.card(ref))
    stored = databases.stolen(hall.bench.data)
    for secret in (ref, code, BROWSER):
        assert secret.encode() not in stored


def test_the_link() -> None:
    assert link("https://x.example", "abc") == "tokenbridge://hand-over?site=https://x.example&id=abc"
