"""Sign-ins under bad luck: clocks that disagree, a PIN that comes too late, callers that are gone at once."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest
from pytest_mock import MockerFixture
from starlette.types import Message

from tests.card.conftest import Bench
from tokenbridge.daemon import devices, steps
from tokenbridge.daemon.prompts import Emit
from tokenbridge.daemon.runner import SignIn
from tokenbridge.daemon.streams import Streams
from tokenbridge.interaction import Secret
from tokenbridge.rig.pki import RigPki, Variant

from .conftest import ALLOW, OTHER_READER, WISH, run
from .workstation import Desk, LocalSite, Person, cards_of, link_to_newest

PIN = b"123456"


@pytest.fixture
def cards(pki: RigPki, mocker: MockerFixture) -> Bench:
    mocker.patch.object(devices, "PcscLink", link_to_newest)
    return cards_of(pki)


@pytest.mark.parametrize("seconds", [100, -3600])
def test_a_clock_that_runs_ahead_of_the_sites_opens_one_more_transaction_and_no_endless_row(
    cards: Bench, seconds: int
) -> None:
    async def work() -> None:
        desk = Desk(Person(pin=[PIN]), LocalSite(lifetimes=[seconds] * 9))
        desk.station.insert(cards.card())
        assert await desk.sign_in() == ALLOW
        assert desk.site.opened == 2
        assert desk.site.cancelled == ["t1"]

    run(work())


def test_a_card_that_comes_back_late_gets_a_fresh_offer_again(cards: Bench) -> None:
    async def work() -> None:
        desk = Desk(Person(), LocalSite(lifetimes=[100, 100, 100, 300]))
        card = cards.card()
        desk.station.insert(card)
        signing_in = desk.start()
        await desk.person.hears(kind="pin")
        assert desk.site.opened == 2
        desk.station.pull()
        await desk.person.hears(step="waiting-for-device")
        desk.person.script["pin"] = [PIN]
        desk.station.insert(card)
        assert await signing_in == ALLOW
        assert desk.site.opened == 3

    run(work())


def test_what_was_typed_too_late_is_wiped() -> None:
    async def work() -> None:
        desk = Desk(Person())
        ceremony = SignIn(desk.station.bridge, desk.site, desk.person.interaction(), WISH, wait_seconds=5)  # type: ignore[arg-type]  # as in `Desk`
        signing_in = asyncio.create_task(ceremony.run())
        await desk.person.hears(step="waiting-for-device")
        pin, code = Secret(PIN), Secret(b"111111")
        ceremony._events.put_nowait((None, steps.PinTyped(pin=pin)))
        ceremony._events.put_nowait((None, steps.SecretTyped(username="ada", secret=code)))
        ceremony._events.put_nowait((None, steps.PinTyped(pin=None)))
        while not ceremony._events.empty():
            await asyncio.wait({signing_in}, timeout=0)
        assert (len(pin), len(code)) == (0, 0)
        signing_in.cancel()
        await asyncio.wait({signing_in})

    run(work())


def test_a_card_that_does_not_fit_stays_free_for_others(cards: Bench) -> None:
    async def work() -> None:
        desk = Desk(Person())
        desk.station.insert(cards.card(variant=Variant.EXPIRED), OTHER_READER)
        desk.station.insert(cards.card())
        signing_in = desk.start()
        await desk.person.hears(kind="pin")
        assert desk.station.devices.card(OTHER_READER).claimed_by == ""
        signing_in.cancel()
        await asyncio.wait({signing_in})
        assert desk.station.claims() == set()

    run(work())


def test_a_caller_that_is_gone_before_its_answer_begins_leaves_nothing_running() -> None:
    async def work() -> None:
        begun: list[str] = []

        async def body(emit: Emit) -> Mapping[str, Any]:
            begun.append("begun")
            await asyncio.Event().wait()
            return {}

        async def gone() -> Message:
            return {"type": "http.disconnect"}

        async def nowhere(message: Message) -> None:
            await asyncio.Event().wait()

        streams = Streams()
        scope = {"type": "http", "asgi": {"spec_version": "2.3"}}
        await streams.respond(body)(scope, gone, nowhere)
        assert (streams._tasks, begun) == (set(), [])

    run(work())
