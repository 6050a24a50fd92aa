"""Keys as events: what was there, what comes, goes, is swapped, or may be opened only later."""

from __future__ import annotations

import queue
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.patience import SECONDS
from tokenbridge.transport import key_monitor, packets
from tokenbridge.transport.base import DeviceEvent, EventKind
from tokenbridge.transport.key_monitor import KeyMonitor

from .test_hidraw import Sysfs


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


# --- what may get in the way ---------------------------------------------------------------------------------------


def test_a_directory_that_vanishes_and_comes_back(watch: Watch) -> None:
    watch.monitor.start()
    watch.settle()
    first = packets.listen(watch.sockets / "first.key")
    assert watch.next() == (EventKind.KEY_ADDED, str(watch.sockets / "first.key"))
    (watch.sockets / "first.key").unlink()
    watch.sockets.rmdir()
    assert watch.next() == (EventKind.KEY_REMOVED, str(watch.sockets / "first.key"))
    first.close()
    watch.sockets.mkdir()
    again = packets.listen(watch.sockets / "again.key")
    assert watch.next() == (EventKind.KEY_ADDED, str(watch.sockets / "again.key"))
    again.close()


def test_a_directory_that_is_moved_away(watch: Watch) -> None:
    watch.monitor.start()
    watch.settle()
    key = packets.listen(watch.sockets / "first.key")
    assert watch.next() == (EventKind.KEY_ADDED, str(watch.sockets / "first.key"))
    watch.sockets.rename(watch.sockets.with_name("elsewhere"))
    assert watch.next() == (EventKind.KEY_REMOVED, str(watch.sockets / "first.key"))
    key.close()


def test_what_gets_in_the_way_is_told_and_watching_begins_again(watch: Watch, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(key_monitor, "RETRY_SECONDS", 0.05)
    real, failures = key_monitor.INotify, [OSError(24, "Too many open files"), OSError(28, "No space left on device")]

    def limited() -> object:
        if failures:
            raise failures.pop()
        return real()

    monkeypatch.setattr(key_monitor, "INotify", limited)
    watch.sysfs.plug("hidraw0")
    watch.monitor.start()
    told = [watch.events.get(timeout=SECONDS) for _ in range(2)]
    assert [event.kind for event in told] == [EventKind.KEYS_UNWATCHED] * 2
    assert "No space" in told[0].reason
    assert watch.settle() == [(EventKind.KEY_ADDED, "/dev/hidraw0"), (EventKind.KEYS_SETTLED, "")]


def test_an_accident_while_looking_loses_no_key(watch: Watch, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(key_monitor, "RETRY_SECONDS", 0.05)
    watch.monitor.start()
    watch.settle()
    real, failures = key_monitor.hidraw.keys, [RuntimeError("an accident")]

    def once(sysfs: Path) -> object:
        if failures:
            raise failures.pop()
        return real(sysfs)

    monkeypatch.setattr(key_monitor.hidraw, "keys", once)
    watch.sysfs.plug("hidraw0")
    watch.poke()
    assert watch.next() == (EventKind.KEYS_UNWATCHED, "")
    assert watch.settle() == [(EventKind.KEY_ADDED, "/dev/hidraw0"), (EventKind.KEYS_SETTLED, "")]


def test_it_ends_while_it_waits_to_begin_again(watch: Watch, monkeypatch: pytest.MonkeyPatch) -> None:
    def never() -> object:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(key_monitor, "INotify", never)
    watch.monitor.start()
    assert watch.next() == (EventKind.KEYS_UNWATCHED, "")
