"""A worker is bound to one card: after a removal it never speaks to what is in its reader now."""

from __future__ import annotations

import time
from typing import Any

import pytest

from tokenbridge.errors import DeviceRemoved, LinkFailed

from .test_worker import SECONDS, Bench


def test_after_a_removal_no_new_link_is_opened() -> None:
    bench = Bench()

    def removed(link: Any, cancel: Any) -> None:
        raise DeviceRemoved()

    typed: list[str] = []
    queued = [bench.worker.submit(job, deadline=time.monotonic() + SECONDS) for job in (removed, lambda *_: typed)]
    for ticket in queued:
        with pytest.raises(DeviceRemoved):
            ticket.future.result(SECONDS)
    assert len(bench.links.opened) == 1
    bench.worker.stop()
    bench.join()


def test_after_another_failure_the_same_card_is_linked_to_again() -> None:
    bench = Bench()

    def fails(link: Any, cancel: Any) -> None:
        raise LinkFailed()

    with pytest.raises(LinkFailed):
        bench.do(fails)
    assert bench.do(lambda *_: "again") == "again"
    assert len(bench.links.opened) == 2
    bench.worker.stop()
    bench.join()
