"""Security keys as events in the same stream as readers and cards, by blocking calls only.

A uevent is a reason to look, never a fact: what is in sysfs then decides. So a "remove" that concerns another interface
of the key, or comes late, is not taken for the key's removal, and a key that was swapped in between is a new key.
"""

from __future__ import annotations

import contextlib
import os
import select
import threading
import time
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Final

from inotify_simple import INotify, flags

from tokenbridge.errors import SetupError
from tokenbridge.log import get
from tokenbridge.transport import hidraw, packets
from tokenbridge.transport.base import DeviceEvent, EventKind, EventSink, KeyPlace
from tokenbridge.transport.uevents import UeventSocket

_log = get("monitor")

ACCESS_CHANGED: Final = flags.ATTRIB
SOCKETS_CHANGED: Final = (
    flags.CREATE | flags.MOVED_TO | flags.MOVED_FROM | flags.DELETE | flags.DELETE_SELF | flags.MOVE_SELF
)
RETRY_SECONDS: Final = 10.0
"""Before watching is begun again: what was in the way is most often another program's doing."""


class KeyMonitor:
    """Watches for keys in a thread of its own and calls `sink` from there, in order.

    `sockets` is a directory in which files stand for keys (see `packets`), for test benches.
    """

    def __init__(self, sink: EventSink, sockets: Path | None = None, sysfs: Path = hidraw.SYSFS) -> None:
        self._sink = sink
        self._sockets = sockets
        self._sysfs = sysfs
        self._known: dict[str, KeyPlace] = {}
        self._watches: dict[str, int] = {}
        self._place_watch: int | None = None
        self._wake_read, self._wake_write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._thread = threading.Thread(target=self._run, name="tokenbridge-keys", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """End the thread and wait for it."""
        os.write(self._wake_write, b"x")
        self._thread.join()
        os.close(self._wake_read)
        os.close(self._wake_write)

    def _run(self) -> None:
        while not self._watched_until_stopped():
            if select.select([self._wake_read], [], [], RETRY_SECONDS)[0]:
                return

    def _watched_until_stopped(self) -> bool:
        """False when something is in the way: too many open files, a limit of inotify's."""
        try:
            self._watch_keys()
        except Exception as err:  # noqa: BLE001  who waits for keys must not wait for a thread that has ended
            _log.exception("security keys can't be watched")
            self._emit(EventKind.KEYS_UNWATCHED, reason=str(err))
            return False
        return True

    def _watch_keys(self) -> None:
        with contextlib.ExitStack() as stack:
            watcher = stack.enter_context(INotify())
            uevents = self._listen()
            if uevents is not None:
                stack.callback(uevents.close)
            self._watches.clear()
            self._place_watch = None
            for path in self._known:
                self._watch(watcher, path)
            self._make_directory()
            # Listen first, then look: a key that is plugged in meanwhile is seen at least once.
            self._look(watcher)
            self._emit(EventKind.KEYS_SETTLED)
            self._follow(watcher, uevents)

    def _listen(self) -> UeventSocket | None:
        try:
            return UeventSocket()
        except SetupError as err:
            _log.warning("%s %s", err.message, err.detail)
            return None

    def _follow(self, watcher: INotify, uevents: UeventSocket | None) -> None:
        poller = select.poll()
        poller.register(self._wake_read, select.POLLIN)
        poller.register(watcher.fileno(), select.POLLIN)
        if uevents is not None:
            poller.register(uevents.fileno(), select.POLLIN)
        while True:
            ready = {descriptor for descriptor, _ in poller.poll()}
            if self._wake_read in ready:
                return
            changed = bool(watcher.read(timeout=0)) if watcher.fileno() in ready else False
            if uevents is not None and uevents.fileno() in ready:
                changed = bool(uevents.read()) or changed
            if changed:
                self._look(watcher)

    def _look(self, watcher: INotify) -> None:
        """Compare what is there with what was."""
        self._watch_sockets(watcher)
        found = {place.path: place for place in self._there()}
        for path, old in list(self._known.items()):
            if path not in found or found[path].instance != old.instance:
                del self._known[path]
                self._unwatch(watcher, path)
                self._emit(EventKind.KEY_REMOVED, old)
        for path, new in found.items():
            if path not in self._known:
                self._watch(watcher, path)
                # Once more: access that was given before the watch was there would go unnoticed.
                self._known[path] = replace(new, usable=hidraw.may_open(path))
                self._emit(EventKind.KEY_ADDED, self._known[path])
            elif self._known[path].usable != new.usable:
                self._known[path] = new
                self._emit(EventKind.KEY_CHANGED, new)

    def _there(self) -> Iterable[KeyPlace]:
        yield from hidraw.keys(self._sysfs)
        if self._sockets is not None:
            yield from packets.keys(self._sockets)

    def _watch(self, watcher: INotify, path: str) -> None:
        """Access may be given later (udev is slower than the kernel) or taken away (another person at the seat)."""
        with contextlib.suppress(OSError):  # gone again already
            self._watches[path] = watcher.add_watch(path, ACCESS_CHANGED)

    def _unwatch(self, watcher: INotify, path: str) -> None:
        watch = self._watches.pop(path, None)
        if watch is not None:
            with contextlib.suppress(OSError):  # the kernel dropped it with the node
                watcher.rm_watch(watch)

    def _make_directory(self) -> None:
        if self._sockets is None:
            return
        try:
            self._sockets.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as err:
            _log.warning("%s can't be made for keys: %s", self._sockets, err)

    def _watch_sockets(self, watcher: INotify) -> None:
        """The directory, or what is there of the way to it: it may vanish, and come back. Watched twice is once."""
        if self._sockets is None:
            return
        for place in (self._sockets, *self._sockets.parents):
            with contextlib.suppress(OSError):  # not there, or not to be looked into
                watch = watcher.add_watch(str(place), SOCKETS_CHANGED)
                break
        else:
            return
        if self._place_watch not in (None, watch):
            with contextlib.suppress(OSError):  # the kernel dropped it with the directory
                watcher.rm_watch(self._place_watch)
        self._place_watch = watch

    def _emit(self, kind: EventKind, key: KeyPlace | None = None, reason: str = "") -> None:
        self._sink(DeviceEvent(kind=kind, at=time.monotonic(), key=key, reason=reason))
