"""The thread of a device: order, cancel, deadlines, links that fail, and its end."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import CancelledError
from typing import Any, cast

import pytest

from tests.patience import SECONDS
from tokenbridge.errors import Cancelled, DeviceRemoved, LinkFailed, PinWrong, TimedOut, TokenbridgeError
from tokenbridge.transport.pcsc import PcscLink
from tokenbridge.transport.worker import Cancel, DeviceWorker, Job


class Links:
    """Opens numbered links and keeps account of them."""

    def __init__(self) -> None:
        self.opened: list[str] = []
        self.closed: list[int] = []
        self.failing = False

    def __call__(self, reader: str) -> PcscLink:
        if self.failing:
            raise LinkFailed()
        self.opened.append(reader)
        return cast(PcscLink, Link(self, len(self.opened)))


class Link:
    waiting_for_transaction = False

    def __init__(self, links: Links, number: int) -> None:
        self.links = links
        self.number = number

    def close(self) -> None:
        self.links.closed.append(self.number)


class Bench:
    def __init__(self) -> None:
        self.links = Links()
        self.worker = DeviceWorker("Reader", self.links)

    def submit(self, job: Job[Any], seconds: float = SECONDS) -> Any:
        return self.worker.submit(job, deadline=time.monotonic() + seconds)

    def do(self, job: Job[Any]) -> Any:
        return self.submit(job).future.result(SECONDS)

    def join(self) -> None:
        self.worker._thread.join(SECONDS)
        assert not self.worker._thread.is_alive()


@pytest.fixture
def bench() -> Iterator[Bench]:
    bench = Bench()
    yield bench
    bench.worker.stop()
    bench.join()


class Gate:
    """A job that waits until it is let go."""

    def __init__(self) -> None:
        self.entered = threading.Event()
        self.open = threading.Event()

    def __call__(self, link: PcscLink, cancel: Cancel) -> str:
        self.entered.set()
        assert self.open.wait(SECONDS)
        cancel.check()
        return "done"


def number_of(link: PcscLink, _: Cancel) -> int:
    return cast(Link, link).number


def fail_with(error: Exception) -> Job[Any]:
    def job(link: PcscLink, cancel: Cancel) -> None:
        raise error

    return job


def test_no_link_is_opened_before_it_is_needed(bench: Bench) -> None:
    assert bench.links.opened == []
    assert bench.do(number_of) == 1
    assert bench.links.opened == ["Reader"]


def test_jobs_run_in_order_on_one_link_in_one_thread(bench: Bench) -> None:
    order: list[tuple[int, int, int]] = []

    def job(number: int) -> Job[Any]:
        return lambda link, _: order.append((number, cast(Link, link).number, threading.get_ident()))

    tickets = [bench.submit(job(number)) for number in range(50)]
    for ticket in tickets:
        ticket.future.result(SECONDS)
    assert [number for number, _, _ in order] == list(range(50))
    assert {(link, thread) for _, link, thread in order} == {(1, order[0][2])}
    assert order[0][2] != threading.get_ident()


def test_cancel_is_seen_by_the_job_at_its_next_check(bench: Bench) -> None:
    gate = Gate()
    ticket = bench.submit(gate)
    assert gate.entered.wait(SECONDS)
    ticket.cancel.cancel()
    gate.open.set()
    with pytest.raises(Cancelled) as caught:
        ticket.future.result(SECONDS)
    assert caught.value.by == "caller"
    assert bench.do(number_of) == 1


def test_a_job_that_was_cancelled_in_the_queue_never_starts(bench: Bench) -> None:
    gate, ran = Gate(), []
    first = bench.submit(gate)
    asked = bench.submit(lambda link, _: ran.append(1))
    withdrawn = bench.submit(lambda link, _: ran.append(2))
    asked.cancel.cancel()
    assert withdrawn.future.cancel()
    gate.open.set()
    assert first.future.result(SECONDS) == "done"
    with pytest.raises(Cancelled):
        asked.future.result(SECONDS)
    with pytest.raises(CancelledError):
        withdrawn.future.result(SECONDS)
    assert bench.do(number_of) == 1
    assert ran == []


def test_the_deadline_counts_in_the_queue_too(bench: Bench) -> None:
    ran: list[int] = []
    with pytest.raises(TimedOut):
        bench.submit(lambda link, _: ran.append(1), seconds=-1).future.result(SECONDS)
    assert ran == []
    assert bench.links.opened == []


def test_a_failed_link_is_closed_and_opened_anew(bench: Bench) -> None:
    with pytest.raises(LinkFailed):
        bench.do(fail_with(LinkFailed()))
    assert bench.links.closed == [1]
    assert bench.do(number_of) == 2


def test_an_error_of_the_card_keeps_the_link(bench: Bench) -> None:
    with pytest.raises(PinWrong):
        bench.do(fail_with(PinWrong(tries_left=2, sw=0x63C2)))
    assert bench.do(number_of) == 1
    assert bench.links.closed == []


def test_a_link_that_cannot_be_opened_fails_this_job_only(bench: Bench) -> None:
    bench.links.failing = True
    with pytest.raises(LinkFailed):
        bench.do(number_of)
    bench.links.failing = False
    assert bench.do(number_of) == 1


def test_a_defect_in_a_job_does_not_end_the_thread(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(TokenbridgeError) as caught:
        bench.do(fail_with(ZeroDivisionError("secret detail")))
    assert caught.value.code == "internal"
    assert "secret detail" in caught.value.detail
    assert "secret detail" not in str(caught.value.as_dict())
    assert "job on Reader failed" in caplog.text
    assert bench.do(number_of) == 2
    assert bench.links.closed == [1]


def test_stop_lets_the_job_finish_and_fails_those_behind_it(bench: Bench) -> None:
    gate = Gate()
    first = bench.submit(gate)
    assert gate.entered.wait(SECONDS)
    bench.worker.stop()
    late = [bench.submit(number_of) for _ in range(3)]
    gate.open.set()
    assert first.future.result(SECONDS) == "done"
    for ticket in late:
        with pytest.raises(DeviceRemoved):
            ticket.future.result(SECONDS)
    bench.join()
    assert bench.links.closed == [1]


def test_a_job_for_a_card_that_has_left_fails_at_once_as_removed(bench: Bench) -> None:
    bench.worker.stop()
    bench.join()
    with pytest.raises(DeviceRemoved):
        bench.submit(number_of).future.result(SECONDS)


def test_a_busy_card_is_seen_while_the_link_is_opened(bench: Bench) -> None:
    gate = Gate()

    def open_link(reader: str) -> PcscLink:
        gate.entered.set()
        assert gate.open.wait(SECONDS)
        return bench.links(reader)

    worker = DeviceWorker("Reader", open_link)
    assert not worker.held_by_another_program
    ticket = worker.submit(number_of, deadline=time.monotonic() + SECONDS)
    assert gate.entered.wait(SECONDS)
    assert worker.held_by_another_program
    gate.open.set()
    ticket.future.result(SECONDS)
    assert not worker.held_by_another_program
    worker.stop()
    worker._thread.join(SECONDS)
