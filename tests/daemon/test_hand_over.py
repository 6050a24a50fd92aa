"""A page's sign-in done by the bridge: what links may say, what the person is asked, where the browser may be sent."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import httpx
import pytest
from pytest_mock import MockerFixture

from tests.card.conftest import Bench
from tokenbridge.daemon import devices
from tokenbridge.daemon.hand_over import MAX_LINK, HandOverSite, Link, parse_link
from tokenbridge.errors import BadRequest, OriginRefused, RelyingPartyUnavailable
from tokenbridge.rig.pki import RigPki
from tokenbridge.rp.webeid import Token, verify_signature

from .conftest import NONCE, ORIGIN, run
from .test_api import Api, LocalSites
from .workstation import cards_of, link_to_newest

LINK = f"tokenbridge://hand-over?site={ORIGIN}&id=h1"
ONWARD = f"{ORIGIN}/sign-in/card/c0de"


class Page(LocalSites):
    """A site whose page has handed a sign-in over."""

    def __init__(self, onward: str = ONWARD, decision: str = "allow", **changes: Any) -> None:
        super().__init__()
        self.onward, self.decision, self.changes = onward, decision, changes

    def _answer(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(f"{request.method} {request.url.path}")
        if request.method == "DELETE":
            return httpx.Response(204)
        if request.method == "GET":
            offer = {**self._offer(), "transaction": "h1", "account": "ada\n\x1b[31m", "device": "Firefox on Linux"}
            return httpx.Response(200, json={**offer, **self.changes})
        token = Token.parse(json.loads(request.content)["token"])
        verify_signature(token, expected_origin=ORIGIN, expected_nonce=NONCE)
        answer = {"decision": self.decision, "sentence": "AAL3", "methods": ["password"], "continue": self.onward}
        return httpx.Response(200, json=answer)


class Station(Api):
    def __init__(self, page: Page) -> None:
        super().__init__()
        self.page = page
        self.services.sites = page  # type: ignore[assignment]

    async def hand_over(self, answers: Mapping[str, bytes], link: str = LINK) -> list[dict[str, Any]]:
        return await self.lead(self.start("/v1/hand-over", {"link": link}, program="tokenbridge"), answers)


@pytest.fixture
def cards(pki: RigPki, mocker: MockerFixture) -> Bench:
    mocker.patch.object(devices, "PcscLink", link_to_newest)
    return cards_of(pki)


@pytest.mark.parametrize("decision", ["allow", "challenge"])
def test_the_person_agrees_and_the_browser_goes_on(cards: Bench, decision: str) -> None:
    async def work() -> None:
        station = Station(Page(decision=decision))
        await station.insert(cards)
        lines = await station.hand_over({"confirm": b"yes", "pin": b"123456"})
        (question,) = [line for line in lines if line.get("kind") == "confirm"]
        assert question["question"] == "Sign in to Test Hospital?"
        assert f"Firefox on Linux on this computer will be signed in at {ORIGIN}, as ada" in question["consequence"]
        assert "\x1b" not in question["consequence"]
        (pin,) = [line for line in lines if line.get("kind") == "pin"]
        assert pin["origin"] == ORIGIN
        outcome = lines[-1]["outcome"]
        assert (outcome["decision"], outcome["continue"]) == (decision, ONWARD)
        assert station.page.asked[-1] == "POST /api/hand-over/h1/card"
        assert station.page.asked.count("POST /api/hand-over/h1/card") == 1

    run(work())


def test_who_adds_a_card_is_asked_that_and_not_to_sign_in(cards: Bench) -> None:
    async def work() -> None:
        station = Station(Page(onward=f"{ORIGIN}/self-service/cards/c0de", purpose="add-card"))
        await station.insert(cards)
        lines = await station.hand_over({"confirm": b"yes", "pin": b"123456"})
        (question,) = [line for line in lines if line.get("kind") == "confirm"]
        assert question["question"].startswith("Add your card to ada")
        assert "will be signed in" not in question["consequence"]
        assert lines[-1]["outcome"]["continue"] == f"{ORIGIN}/self-service/cards/c0de"

    run(work())


def test_who_says_no_signs_nothing_and_the_link_is_void(cards: Bench) -> None:
    async def work() -> None:
        station = Station(Page())
        await station.insert(cards)
        lines = await station.hand_over({"confirm": b"no"})
        assert lines[-1]["error"]["code"] == "cancelled"
        assert station.page.asked == ["GET /api/hand-over/h1", "DELETE /api/hand-over/h1"]

    run(work())


def test_another_origin_or_another_sign_in_is_refused_before_anybody_is_asked(cards: Bench) -> None:
    async def work() -> None:
        for changes in ({"rp": {"name": "x", "origin": "https://evil.example"}}, {"transaction": "h2"}):
            station = Station(Page(**changes))
            await station.insert(cards)
            (line,) = await station.hand_over({})
            assert line["error"]["code"] == OriginRefused.code

    run(work())


@pytest.mark.parametrize(
    "onward",
    [
        "",
        ORIGIN,
        "https://evil.example/sign-in/card/x",
        f"{ORIGIN}.evil.example/x",
        f"{ORIGIN}/x?next=y",
        f"{ORIGIN}/x y",
        f"{ORIGIN}/" + "x" * MAX_LINK,
        "javascript:alert(1)",
        5,
    ],
)
def test_the_browser_is_sent_nowhere_else(cards: Bench, onward: str) -> None:
    async def work() -> None:
        station = Station(Page(onward=onward))
        await station.insert(cards)
        lines = await station.hand_over({"confirm": b"yes", "pin": b"123456"})
        assert lines[-1]["error"]["code"] == RelyingPartyUnavailable.code

    run(work())


@pytest.mark.parametrize(
    "link",
    [
        "",
        "tokenbridge://hand-over",
        f"tokenbridge://sign-in?site={ORIGIN}&id=h1",
        f"https://hand-over?site={ORIGIN}&id=h1",
        f"tokenbridge://hand-over?site={ORIGIN}",
        f"tokenbridge://hand-over?site={ORIGIN}&id=h1&id=h2",
        f"tokenbridge://hand-over?site={ORIGIN}&id=h1&more=1",
        f"tokenbridge://hand-over?site={ORIGIN}&id=../../api/session",
        f"tokenbridge://hand-over?site={ORIGIN}&id=",
        "tokenbridge://hand-over?site=http://portal.example.org&id=h1",
        "tokenbridge://hand-over?site=file:///etc/passwd&id=h1",
        "tokenbridge://user@hand-over?site=https://x.example&id=h1",
        "tokenbridge://[hand-over?site=https://x.example&id=h1",
        LINK + "&" * MAX_LINK,
    ],
)
def test_what_is_no_link(link: str) -> None:
    async def work() -> None:
        station = Station(Page())
        status, answer = await station.call("POST", "/v1/hand-over", {"link": link})
        assert (status, answer["error"]["code"]) == (400, BadRequest.code)
        assert station.page.asked == []

    run(work())


def test_links() -> None:
    assert parse_link("tokenbridge://hand-over?site=https://X.example:443&id=a-_1") == Link(
        origin="https://x.example", id="a-_1"
    )
    assert parse_link("tokenbridge://hand-over/?site=https://x.example&id=a").id == "a"
    assert HandOverSite(httpx.AsyncClient(), parse_link(LINK)).origin == ORIGIN
