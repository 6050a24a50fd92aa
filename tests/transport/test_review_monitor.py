"""Readers that leave between two calls, directories that go, and a trace on a full disk."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path

import pytest
from pytest_mock import MockerFixture

from tokenbridge.errors import DeviceRemoved, ServiceGone
from tokenbridge.transport.trace import TraceFile

from .conftest import PRESENT
from .test_monitor import Service, Watch, service, state, watch

__all__ = ["service", "watch"]  # fixtures


def test_a_reader_that_leaves_between_list_and_wait_takes_no_other_along(
    service: Service, watch: Callable[[], Watch]
) -> None:
    service.readers = ["A", "B"]
    service.play((["A", "B"], [state("A", PRESENT), state("B", PRESENT)]))
    seen = watch()
    assert seen.hears(6)[-1] == ("settled", "")
    service.play(DeviceRemoved(), (["A"], []))
    assert seen.hears(2) == [("card-removed", "B"), ("reader-removed", "B")]
    assert seen.said.empty()


def test_the_directory_may_go_while_it_is_watched(
    service: Service, watch: Callable[[], Watch], tmp_path: Path, mocker: MockerFixture
) -> None:
    mocker.patch("tokenbridge.transport.monitor.INotify.rm_watch", side_effect=OSError(22, "Invalid argument"))
    service.refusals = [ServiceGone()]
    seen = watch()
    assert seen.hears(1) == [("service-down", "")]
    service.play(([], []))
    (tmp_path / "pcscd.comm").touch()
    assert seen.hears(2) == [("service-up", ""), ("settled", "")]


def test_a_trace_that_cannot_be_written_does_not_undo_what_the_card_did(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    trace = TraceFile(tmp_path / "trace")
    trace.close()
    trace._file = open("/dev/full", "w", encoding="ascii")  # noqa: SIM115  closed below, which fails
    trace("Reader", b"\0\xa4\4\0", b"\x90\0", 0.001)
    assert "No space left" in caplog.text
    with contextlib.suppress(OSError):
        trace.close()
