"""What is plugged in, who has claimed it, and jobs that are cancelled, late or hit by a removal."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import Any

import pytest
from pytest_mock import MockerFixture

from tests.card.conftest import Bench
from tests.patience import SECONDS
from tokenbridge.daemon import devices
from tokenbridge.daemon.devices import MAX_BACKLOG, Devices
from tokenbridge.daemon.settings import Settings
from tokenbridge.errors import (
    AccessDenied,
    Cancelled,
    DeviceBusy,
    DeviceError,
    DeviceRemoved,
    NoDevice,
    ServiceGone,
    TimedOut,
)
from tokenbridge.rig.pki import RigPki
from tokenbridge.transport.base import DeviceEvent, EventKind
from tokenbridge.transport.trace import log_traffic
from tokenbridge.transport.worker import Cancel

from .conftest import OTHER_READER, READER, run
from .workstation import Workstation, cards_of, link_to_newest


@pytest.fixture
def cards(pki: RigPki) -> Bench:
    return cards_of(pki)


def make_station(mocker: MockerFixture, **settings: float) -> Workstation:
    mocker.patch.object(devices, "PcscLink", link_to_newest)
    return Workstation(Settings(**settings) if settings else None)


async def heard(queue: asyncio.Queue[DeviceEvent], kind: EventKind) -> DeviceEvent:
    while (event := await queue.get()).kind is not kind:
        pass
    return event


def event(kind: EventKind, reader: str = "", reason: str = "") -> DeviceEvent:
    return DeviceEvent(kind=kind, at=0.0, reader=reader, reason=reason)


def test_picture(mocker: MockerFixture, cards: Bench) -> None:
    async def work() -> None:
        station = make_station(mocker)
        found = station.devices
        async with found.events() as events:
            for happened in (
                event(EventKind.SERVICE_UP),
                event(EventKind.READER_ADDED, READER),
                event(EventKind.READER_ADDED, OTHER_READER),
            ):
                found.sink(happened)
            card = cards.card()
            station.insert(card)
            found.sink(event(EventKind.SETTLED))
            await found.settled.wait()
            assert found.picture.service == "up"
            assert found.picture.readers == (READER, OTHER_READER)
            assert found.card(READER).atr == card.atr
            with pytest.raises(NoDevice):
                found.card(OTHER_READER)
            station.pull()
            found.sink(event(EventKind.READER_REMOVED, READER))
            found.sink(event(EventKind.SERVICE_DOWN, reason="access-denied"))
            await heard(events, EventKind.SERVICE_DOWN)
            assert found.picture.cards == {}
            assert found.picture.readers == (OTHER_READER,)
            assert found.picture.service == "access-denied"

    run(work())


def test_a_service_that_is_missing_settles_too() -> None:
    async def work() -> None:
        found = Devices(asyncio.get_running_loop(), Settings(), log_traffic)
        found.sink(event(EventKind.SERVICE_DOWN))
        await found.settled.wait()
        assert found.picture.service == "down"

    run(work())


def test_a_claim_is_for_one(mocker: MockerFixture, cards: Bench) -> None:
    async def work() -> None:
        station = make_station(mocker)
        async with station.devices.events() as events:
            station.insert(cards.card())
            await heard(events, EventKind.CARD_INSERTED)
        card = station.devices.card(READER)
        with station.devices.claim(card, "first (1)"):
            with pytest.raises(DeviceBusy) as caught, station.devices.claim(card, "second (2)"):
                pass
            assert caught.value.by == "first (1)"
            assert card.claimed_by == "first (1)"
        with station.devices.claim(card, "second (2)"):
            pass

    run(work())


def test_a_listener_that_falls_behind_loses_the_oldest() -> None:
    async def work() -> None:
        found = Devices(asyncio.get_running_loop(), Settings(), log_traffic)
        async with found.events() as slow:
            for number in range(MAX_BACKLOG + 5):
                found._apply(event(EventKind.READER_ADDED, str(number)))
            assert slow.qsize() == MAX_BACKLOG
            assert slow.get_nowait().reader == "5"
        found._apply(event(EventKind.READER_ADDED, "after"))
        assert slow.qsize() == MAX_BACKLOG - 1

    run(work())


@pytest.mark.parametrize(
    ("reason", "kind"), [("", ServiceGone), ("access-denied", AccessDenied), ("link-failed", ServiceGone)]
)
def test_a_service_that_cannot_be_used_is_why_there_is_no_card(reason: str, kind: type[DeviceError]) -> None:
    async def work() -> None:
        found = Devices(asyncio.get_running_loop(), Settings(), log_traffic)
        found.sink(event(EventKind.SERVICE_DOWN, reason=reason))
        await found.settled.wait()
        with pytest.raises(kind):
            found.card(READER)
        found._apply(event(EventKind.SERVICE_UP))
        with pytest.raises(NoDevice):
            found.card(READER)

    run(work())


async def with_card(station: Workstation, cards: Bench) -> devices.Card:
    async with station.devices.events() as events:
        station.insert(cards.card())
        await heard(events, EventKind.CARD_INSERTED)
    return station.devices.card(READER)


class Hold:
    """A job that tells when it has begun, waits to be let go, and then asks whether it may go on."""

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.begun = asyncio.Event()
        self.go_on = threading.Event()
        self.ended = asyncio.Event()
        self.error: Exception | None = None

    def __call__(self, link: Any, cancel: Cancel) -> None:
        self.loop.call_soon_threadsafe(self.begun.set)
        assert self.go_on.wait(SECONDS)
        try:
            cancel.check()
        except Cancelled as err:
            self.error = err
            raise
        finally:
            self.loop.call_soon_threadsafe(self.ended.set)


@pytest.mark.parametrize("busy_seconds", [5.0, 0.0], ids=["at once", "after the time to find out who is busy"])
def test_cancelling_the_caller_stops_the_job_between_two_apdus(
    mocker: MockerFixture, cards: Bench, busy_seconds: float
) -> None:
    async def work() -> None:
        station = make_station(mocker, busy_seconds=busy_seconds, card_seconds=5)
        finishing = asyncio.Event()
        original = Devices._finish

        async def finish(self: Devices, *arguments: Any) -> Any:
            finishing.set()
            return await original(self, *arguments)

        mocker.patch.object(Devices, "_finish", finish)
        card = await with_card(station, cards)
        hold = Hold()
        running = asyncio.create_task(station.devices.run(card, hold))
        await (hold.begun if busy_seconds else finishing).wait()
        await hold.begun.wait()
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        hold.go_on.set()
        await hold.ended.wait()
        assert isinstance(hold.error, Cancelled)

    run(work())


def test_a_card_that_does_not_finish_in_time(mocker: MockerFixture, cards: Bench) -> None:
    async def work() -> None:
        station = make_station(mocker, busy_seconds=0, card_seconds=1)
        card = await with_card(station, cards)
        await station.devices.run(card, lambda link, cancel: None)  # the next job begins in time: the link is open
        hold = Hold()
        with pytest.raises(TimedOut):
            await station.devices.run(card, hold)
        hold.go_on.set()
        await hold.ended.wait()

    run(work())


def test_a_card_that_another_program_holds_is_busy_by_name(mocker: MockerFixture, cards: Bench) -> None:
    async def work() -> None:
        station = make_station(mocker, busy_seconds=0.01, card_seconds=5)
        station.shape = lambda link: setattr(link, "waiting_for_transaction", True)
        mocker.patch.object(devices, "holders", return_value="scdaemon (812)")
        card = await with_card(station, cards)
        await station.devices.run(card, lambda link, cancel: None)
        hold = Hold()
        with pytest.raises(DeviceBusy) as caught:
            await station.devices.run(card, hold)
        assert caught.value.by == "scdaemon (812)"
        hold.go_on.set()
        await hold.ended.wait()
        assert isinstance(hold.error, Cancelled)

    run(work())


def test_a_removal_that_the_link_notices_first_counts_at_once(mocker: MockerFixture, cards: Bench) -> None:
    async def work() -> None:
        station = make_station(mocker)
        card = await with_card(station, cards)

        def pulled(link: Any, cancel: Cancel) -> None:
            raise DeviceRemoved()

        with pytest.raises(DeviceRemoved):
            await station.devices.run(card, pulled)
        with pytest.raises(NoDevice):
            station.devices.card(READER)

    run(work())


def test_a_job_for_the_card_before_does_not_reach_the_one_that_is_there_now(
    mocker: MockerFixture, cards: Bench
) -> None:
    async def work() -> None:
        station = make_station(mocker)
        before = await with_card(station, cards)
        now = await with_card(station, cards)
        assert before is not now
        started = time.monotonic()
        with pytest.raises(DeviceRemoved):
            await station.devices.run(before, lambda link, cancel: None)
        assert time.monotonic() - started < 2
        assert station.devices.card(READER) is now
        await station.devices.run(now, lambda link, cancel: None)

    run(work())


def test_stop_ends_all_workers(mocker: MockerFixture, cards: Bench) -> None:
    async def work() -> None:
        station = make_station(mocker)
        card = await with_card(station, cards)
        await station.devices.run(card, lambda link, cancel: None)
        await station.devices.stop()
        await asyncio.to_thread(card.worker._thread.join, 5)
        assert not card.worker._thread.is_alive()
        assert station.links[0].gone

    run(work())
