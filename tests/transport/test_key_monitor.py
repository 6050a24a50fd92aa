"""Keys as events: what was there, what comes, goes, is swapped, or may be opened only later."""

from __future__ import annotations

import queue
from collections.abc import Iterator
from pathlib import Path

import pytest

from tokenbridge.transport import packets
from tokenbridge.transport.base import DeviceEvent, EventKind
from tokenbridge.transport.key_monitor import KeyMonitor

from .test_hidraw import Sysfs

SECONDS = 5.0


class Watch:
    """A monitor and the events that it sent. `poke` stands for a uevent, of which there are none here."""

    def __init__(self, root: Path) -> None:
        self.sockets = root / "keys"
        self.sysfs = Sysfs(root)
        self.events: queue.Queue[DeviceEvent] = queue.Queue()
        self.monitor = KeyMonitor(self.events.put, self.sockets, self.sysfs.root)

    def next(self) -> tuple[EventKind, str]:
        event = self.events.get(timeout=SECONDS)
        return event.kind, "" if event.key is None else event.key.path

    def settle(self) -> list[tuple[EventKind, str]]:
        seen = []
        while not seen or seen[-1][0] is not EventKind.KEYS_SETTLED:
            seen.append(self.next())
        return seen

    def poke(self) -> None:
        """Make the monitor look again, as any uevent would."""
        (self.sockets / "nothing").touch()
        (self.sockets / "nothing").unlink()


@pytest.fixture
def watch(tmp_path: Path) -> Iterator[Watch]:
    made = Watch(tmp_path)
    yield made
    made.monitor.stop()


def test_what_is_there_comes_first(watch: Watch) -> None:
    watch.sysfs.plug("hidraw3")
    watch.monitor.start()
    assert watch.settle() == [(EventKind.KEY_ADDED, "/dev/hidraw3"), (EventKind.KEYS_SETTLED, "")]


def test_plugged_in_and_out(watch: Watch) -> None:
    watch.monitor.start()
    watch.settle()
    watch.sysfs.plug("hidraw0")
    watch.poke()
    assert watch.next() == (EventKind.KEY_ADDED, "/dev/hidraw0")
    watch.sysfs.unplug("hidraw0")
    watch.poke()
    assert watch.next() == (EventKind.KEY_REMOVED, "/dev/hidraw0")


def test_a_uevent_of_another_interface_is_not_a_removal(watch: Watch) -> None:
    watch.sysfs.plug("hidraw0")
    watch.sysfs.plug("hidraw1", b"\x05\x01")
    watch.monitor.start()
    watch.settle()
    watch.sysfs.unplug("hidraw1")
    watch.poke()
    listener = packets.listen(watch.sockets / "next.key")
    assert watch.next() == (EventKind.KEY_ADDED, str(watch.sockets / "next.key"))
    listener.close()


def test_another_key_in_the_same_place_is_another_key(watch: Watch) -> None:
    watch.sysfs.plug("hidraw0")
    watch.monitor.start()
    watch.settle()
    watch.sysfs.unplug("hidraw0")
    watch.sysfs.plug("hidraw0", product="0407")
    watch.poke()
    assert watch.next() == (EventKind.KEY_REMOVED, "/dev/hidraw0")
    assert watch.next() == (EventKind.KEY_ADDED, "/dev/hidraw0")


def test_sockets_that_stand_for_keys(watch: Watch) -> None:
    watch.monitor.start()
    watch.settle()
    path = watch.sockets / "blue-0A1B.key"
    listener = packets.listen(path)
    assert watch.next() == (EventKind.KEY_ADDED, str(path))
    path.unlink()
    assert watch.next() == (EventKind.KEY_REMOVED, str(path))
    listener.close()


def test_access_that_is_given_later(watch: Watch, monkeypatch: pytest.MonkeyPatch) -> None:
    """root may open anything, so what the kernel answers is played."""
    path = watch.sockets / "blue.key"
    allowed: list[bool] = [False]
    monkeypatch.setattr("tokenbridge.transport.hidraw.may_open", lambda _: allowed[0])
    monkeypatch.setattr("tokenbridge.transport.hidraw.DEVICES", watch.sockets)
    watch.sysfs.plug("hidraw0")
    watch.sockets.mkdir()
    (watch.sockets / "hidraw0").touch(mode=0o600)
    watch.monitor.start()
    watch.settle()
    allowed[0] = True
    (watch.sockets / "hidraw0").chmod(0o660)
    event = watch.events.get(timeout=SECONDS)
    assert event.kind is EventKind.KEY_CHANGED
    assert event.key is not None
    assert event.key.usable
    assert not path.exists()


def test_stopping_before_anything_happened(tmp_path: Path) -> None:
    watch = Watch(tmp_path)
    watch.monitor.start()
    watch.monitor.stop()
    assert not watch.monitor._thread.is_alive()
