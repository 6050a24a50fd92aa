"""What the monitor makes of PC/SC's states: swaps, readers that leave with their card, a service that comes and goes.

The real service is watched in hw-tests; here are the turns that it does not take on demand.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from pytest_mock import MockerFixture

from tests.patience import SECONDS
from tokenbridge.errors import AccessDenied, Cancelled, DeviceError
from tokenbridge.transport import monitor
from tokenbridge.transport.base import DeviceEvent, EventKind
from tokenbridge.transport.pcsc import ReaderState, ServiceGone

from .conftest import ATR, EMPTY, PRESENT

Turn = tuple[list[str], list[ReaderState]] | DeviceError


def state(reader: str, raw: int, insertions: int = 0) -> ReaderState:
    return ReaderState(reader, raw | insertions << 16, ATR if raw & PRESENT & 0x20 else b"")


class Service:
    """PC/SC by script: each wait takes one turn; without a turn it blocks as the real one does."""

    def __init__(self) -> None:
        self.turns: queue.Queue[Turn | None] = queue.Queue()
        self.refusals: list[DeviceError] = []
        self.readers: list[str] = []
        self.contexts = 0
        self.lock = threading.Lock()

    def play(self, *turns: Turn) -> None:
        for turn in turns:
            self.turns.put(turn)


class Context:
    service: Service

    def __init__(self) -> None:
        with self.service.lock:
            if self.service.refusals:
                raise self.service.refusals.pop(0)
            self.service.contexts += 1

    def readers(self) -> list[str]:
        return list(self.service.readers)

    def wait(self, known: list[ReaderState], timeout_ms: int | None) -> list[ReaderState]:
        turn = self.service.turns.get(timeout=SECONDS)
        if turn is None:
            raise Cancelled("caller")
        if isinstance(turn, DeviceError):
            raise turn
        self.service.readers, states = turn
        return states

    def cancel(self) -> None:
        self.service.turns.put(None)

    def close(self) -> None:
        self.service.contexts -= 1


class Watch:
    """A monitor that is running, and what it says."""

    def __init__(self, socket: Path) -> None:
        self.said: queue.Queue[DeviceEvent] = queue.Queue()
        self.monitor = monitor.Monitor(self.said.put, socket)

    def hears(self, count: int) -> list[tuple[str, str]]:
        events = [self.said.get(timeout=SECONDS) for _ in range(count)]
        return [(str(event.kind), event.reader) for event in events]


@pytest.fixture
def service(mocker: MockerFixture) -> Service:
    service = Service()
    mocker.patch.object(Context, "service", service, create=True)
    mocker.patch.object(monitor, "Context", Context)
    return service


@pytest.fixture
def watch(service: Service, tmp_path: Path) -> Iterator[Callable[[], Watch]]:
    watches: list[Watch] = []

    def start() -> Watch:
        watches.append(Watch(tmp_path / "pcscd.comm"))
        watches[-1].monitor.start()
        return watches[-1]

    yield start
    for started in watches:
        started.monitor.stop()
    assert service.contexts == 0


def test_what_is_there_at_the_start_comes_before_settled(service: Service, watch: Callable[[], Watch]) -> None:
    service.readers = ["A", "B"]
    service.play((["A", "B"], [state("A", PRESENT), state("B", EMPTY)]))
    assert watch().hears(5) == [
        ("service-up", ""),
        ("reader-added", "A"),
        ("reader-added", "B"),
        ("card-inserted", "A"),
        ("settled", ""),
    ]


def test_card_in_and_out(service: Service, watch: Callable[[], Watch]) -> None:
    service.readers = ["A"]
    service.play((["A"], [state("A", EMPTY)]))
    seen = watch()
    assert seen.hears(3)[-1] == ("settled", "")
    service.play((["A"], [state("A", PRESENT, 1)]))
    event = seen.said.get(timeout=SECONDS)
    assert (event.kind, event.reader, event.atr) == (EventKind.CARD_INSERTED, "A", ATR)
    service.play((["A"], [state("A", PRESENT | 0x100, 1)]), (["A"], [state("A", EMPTY, 2)]))
    assert seen.hears(1) == [("card-removed", "A")]


def test_a_card_that_is_swapped_between_two_looks_is_another_card(service: Service, watch: Callable[[], Watch]) -> None:
    service.readers = ["A"]
    service.play((["A"], [state("A", PRESENT, 1)]), (["A"], [state("A", PRESENT, 3)]))
    assert watch().hears(6)[-3:] == [("settled", ""), ("card-removed", "A"), ("card-inserted", "A")]


def test_a_mute_card_is_none(service: Service, watch: Callable[[], Watch]) -> None:
    service.readers = ["A"]
    service.play((["A"], [state("A", PRESENT | 0x200, 1)]), (["A"], [state("A", PRESENT, 3)]))
    assert watch().hears(4)[-2:] == [("settled", ""), ("card-inserted", "A")]


def test_a_reader_that_is_unplugged_takes_its_card_along(service: Service, watch: Callable[[], Watch]) -> None:
    service.readers = ["A", "B"]
    service.play((["A", "B"], [state("A", PRESENT), state("B", PRESENT)]), (["B"], []))
    assert watch().hears(8)[-3:] == [("settled", ""), ("card-removed", "A"), ("reader-removed", "A")]


def test_a_service_that_goes_away_takes_all_along_and_is_followed_again(
    service: Service, watch: Callable[[], Watch], tmp_path: Path
) -> None:
    service.readers = ["A"]
    service.play((["A"], [state("A", PRESENT)]))
    seen = watch()
    seen.hears(4)
    service.refusals = [ServiceGone()]
    service.play(ServiceGone())
    assert seen.hears(3) == [("card-removed", "A"), ("reader-removed", "A"), ("service-down", "")]
    service.play((["A"], [state("A", EMPTY)]))
    (tmp_path / "pcscd.comm").touch()
    assert seen.hears(3) == [("service-up", ""), ("reader-added", "A"), ("settled", "")]


def test_a_service_that_is_missing_is_told_of_once_with_the_reason(
    service: Service, watch: Callable[[], Watch], tmp_path: Path
) -> None:
    service.refusals = [AccessDenied(), AccessDenied(), AccessDenied()]
    seen = watch()
    event = seen.said.get(timeout=SECONDS)
    assert (event.kind, event.reason) == (EventKind.SERVICE_DOWN, "access-denied")
    service.play(([], []))
    (tmp_path / "pcscd.comm").touch()
    assert seen.hears(2) == [("service-up", ""), ("settled", "")]


def test_stop_while_the_service_is_missing(service: Service, watch: Callable[[], Watch]) -> None:
    service.refusals = [ServiceGone()]
    seen = watch()
    assert seen.hears(1) == [("service-down", "")]
    seen.monitor.stop()
    assert not seen.monitor._thread.is_alive()
    seen.monitor = monitor.Monitor(seen.said.put, Path("/nonexistent/pcscd.comm"))
    service.play(([], []))
    seen.monitor.start()
    assert seen.hears(2) == [("service-up", ""), ("settled", "")]
