"""A key that is plugged in: what the bridge hears of it, when, and when it can be opened. Prints its figures."""

from __future__ import annotations

import os
import select
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tokenbridge.transport.base import EventKind
from tokenbridge.transport.uevents import KERNEL_GROUP, UDEV_GROUP, UeventSocket

SECONDS = 30
ROUNDS = 10
LIMIT = 0.1
"""Plugged in -> usable, above what the kernel or udev itself takes."""


class Uevents:
    """When the kernel, or udev, reported what about which device node: heard by a thread of its own."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, group: int) -> None:
        monkeypatch.setattr("tokenbridge.transport.uevents.KERNEL_GROUP", group)
        monkeypatch.setattr("tokenbridge.transport.uevents.UDEV_GROUP", 0)
        self._socket = UeventSocket()
        monkeypatch.undo()
        self._seen: dict[tuple[str, str], float] = {}
        self._changed = threading.Condition()
        self._wake, self._stop = os.pipe()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while self._wake not in (ready := select.select([self._socket, self._wake], [], [])[0]) and ready:
            now = time.monotonic()
            with self._changed:
                for event in self._socket.read():
                    self._seen[event.action, event.name] = now
                self._changed.notify_all()

    def take(self, action: str, path: str) -> float:
        """When it was reported; waits for it, and forgets it."""
        what = action, path.rpartition("/")[2]
        with self._changed:
            assert self._changed.wait_for(lambda: what in self._seen, SECONDS), f"no {what}"
            return self._seen.pop(what)

    def close(self) -> None:
        os.close(self._stop)
        self._thread.join(SECONDS)
        self._socket.close()
        os.close(self._wake)


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> Iterator[Uevents]:
    made = Uevents(monkeypatch, KERNEL_GROUP)
    yield made
    made.close()


@pytest.fixture
def udev_events(monkeypatch: pytest.MonkeyPatch) -> Iterator[Uevents]:
    made = Uevents(monkeypatch, UDEV_GROUP)
    yield made
    made.close()


def _report(capsys: pytest.CaptureFixture[str], what: str, seconds: list[float]) -> None:
    milliseconds = sorted(1000 * value for value in seconds)
    with capsys.disabled():
        print(f"\n  {what}: median {statistics.median(milliseconds):.1f} ms, worst {milliseconds[-1]:.1f} ms")


def test_root_can_use_it_with_the_kernels_event(
    plug: Any, watch: Any, kernel: Uevents, capsys: pytest.CaptureFixture[str]
) -> None:
    key = plug()
    kernel.take("add", key.path)
    late, gone = [], []
    for _ in range(ROUNDS):
        key.virtual.unplug()
        removed = watch.next(EventKind.KEY_REMOVED)
        gone.append(removed.at - kernel.take("remove", key.path))
        key.plug_quietly()
        added = watch.next(EventKind.KEY_ADDED)
        assert added.key is not None
        assert added.key.usable
        key.place = added.key
        late.append(added.at - kernel.take("add", key.path))
    _report(capsys, "kernel's add -> the bridge knows a key that root may open", late)
    _report(capsys, "kernel's remove -> the bridge knows", gone)
    assert statistics.median(late) < LIMIT
    assert statistics.median(gone) < LIMIT


MONITOR = """
import os, sys, threading
from tokenbridge.transport.key_monitor import KeyMonitor
user = int(sys.argv[1])
os.setgroups([]), os.setgid(user), os.setuid(user)
def tell(event):
    usable, path = (int(event.key.usable), event.key.path) if event.key else (0, "-")
    print(event.kind, path, usable, event.at, flush=True)
KeyMonitor(tell).start()
threading.Event().wait()
"""


class Ordinary:
    """The bridge's key monitor in a process of an ordinary user. Says what it reports as `kind path usable time`."""

    def __init__(self, user: int) -> None:
        command = [sys.executable, "-c", MONITOR, str(user)]
        self._child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
        assert self._child.stdout is not None
        self._lines = self._child.stdout

    def until_usable(self) -> tuple[list[str], float]:
        """Kinds of event up to the one by which the key may be opened, and its time."""
        kinds = []
        for line in self._lines:
            kind, _, usable, at = line.split()
            kinds.append(kind)
            if usable == "1":
                return kinds, float(at)
        pytest.fail("the monitor ended")

    def until(self, wanted: EventKind) -> None:
        for line in self._lines:
            if line.split()[0] == wanted:
                return

    def stop(self) -> None:
        self._child.kill()
        self._child.wait(SECONDS)
        self._lines.close()


def test_the_person_at_the_seat_can_use_it_once_udev_has_given_access(
    plug: Any,
    udev: Any,
    alice: Any,
    install: Any,
    kernel: Uevents,
    udev_events: Uevents,
    capsys: pytest.CaptureFixture[str],
) -> None:
    udev.seat(alice.user)
    install()
    person = Ordinary(alice.user)
    try:
        person.until(EventKind.KEYS_SETTLED)
        above_kernel, above_udev = [], []
        key = None
        for _ in range(ROUNDS):
            if key is None:
                key = plug()
            else:
                key.virtual.unplug()
                person.until(EventKind.KEY_REMOVED)
                key.plug_quietly()
            kinds, at = person.until_usable()
            assert kinds == [EventKind.KEY_ADDED, EventKind.KEY_CHANGED]
            assert alice.may_open(key.path)
            above_kernel.append(at - kernel.take("add", key.path))
            above_udev.append(at - udev_events.take("add", key.path))
    finally:
        person.stop()
    _report(capsys, "kernel's add -> the person at the seat may open it, udev's work included", above_kernel)
    _report(capsys, "udev's add -> the bridge knows that", above_udev)
    assert statistics.median(above_udev) < LIMIT
