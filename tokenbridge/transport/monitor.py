"""Readers and cards as one stream of events, by blocking calls only: an idle workstation is never woken.

It survives pcscd: when the service goes away the stream says so, and goes on when the service is back (its socket's
directory is watched). It opens no card.
"""

from __future__ import annotations

import contextlib
import os
import select
import threading
import time
from pathlib import Path
from typing import Final

from inotify_simple import INotify, flags

from tokenbridge.errors import Cancelled, DeviceError, DeviceRemoved, ServiceGone
from tokenbridge.log import get
from tokenbridge.transport.base import DeviceEvent, EventKind, EventSink
from tokenbridge.transport.pcsc import Context, ReaderState

DEFAULT_SOCKET: Final = "/run/pcscd/pcscd.comm"
START_TRIES: Final = 20
START_PAUSE: Final = 0.05
"""The socket's file appears a moment before pcscd listens on it."""

_log = get("monitor")


class Monitor:
    """Watches PC/SC in a thread of its own and calls `sink` from there, in order."""

    def __init__(self, sink: EventSink, socket: Path | None = None) -> None:
        self._sink = sink
        self._socket = socket or Path(os.environ.get("PCSCLITE_CSOCK_NAME", DEFAULT_SOCKET))
        self._known: dict[str, ReaderState] = {}
        self._context: Context | None = None
        self._told_down = False
        self._stopping = threading.Event()
        self._wake_read, self._wake_write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._thread = threading.Thread(target=self._run, name="tokenbridge-monitor", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """End the thread and wait for it."""
        self._stopping.set()
        os.write(self._wake_write, b"x")
        while self._thread.is_alive():
            # Repeated because a cancel that comes just before the thread blocks is lost.
            if (context := self._context) is not None:
                context.cancel()
            self._thread.join(0.1)
        os.close(self._wake_read)
        os.close(self._wake_write)

    def _run(self) -> None:
        with INotify() as watcher:
            while not self._stopping.is_set():
                # Watch first, then try: a service that starts in between is not missed.
                watched = self._watch_directory(watcher)
                context = self._establish()
                if context is None:
                    self._wait_for_service(watcher)
                    continue
                with contextlib.suppress(OSError):  # the directory is gone, and the watch with it
                    watcher.rm_watch(watched)
                self._serve(context)

    def _serve(self, context: Context) -> None:
        self._context = context
        try:
            self._told_down = False
            self._emit(EventKind.SERVICE_UP)
            self._follow(context)
        except Cancelled:
            pass
        except DeviceError as err:
            self._forget_all()
            self._say_down(err)
        finally:
            self._context = None
            context.close()

    def _follow(self, context: Context) -> None:
        self._update(context.readers(), [])
        first = True
        while not self._stopping.is_set():
            # The first round has a time limit of zero: it tells what is there now.
            try:
                states = context.wait(list(self._known.values()), 0 if first else None)
            except DeviceRemoved:
                # A reader left between the list and the wait. Its removal is news, not the end of the service.
                states = None
            self._update(context.readers(), states or [])
            if first:
                self._emit(EventKind.SETTLED)
            first = False

    def _update(self, readers: list[str], states: list[ReaderState]) -> None:
        for name in [name for name in self._known if name not in readers]:
            self._card_left(name)
            del self._known[name]
            self._emit(EventKind.READER_REMOVED, name)
        for name in readers:
            if name not in self._known:
                self._known[name] = ReaderState(name, 0, b"")
                self._emit(EventKind.READER_ADDED, name)
        for state in states:
            if state.reader in self._known:
                self._compare(self._known[state.reader], state)

    def _compare(self, old: ReaderState, new: ReaderState) -> None:
        swapped = old.present and new.present and old.insertions != new.insertions
        if old.present and (not new.present or swapped):
            self._card_left(new.reader)
        self._known[new.reader] = new
        if new.present and (not old.present or swapped):
            self._emit(EventKind.CARD_INSERTED, new.reader, new.atr)

    def _card_left(self, reader: str) -> None:
        if self._known[reader].present:
            self._emit(EventKind.CARD_REMOVED, reader)

    def _forget_all(self) -> None:
        self._update([], [])

    def _emit(self, kind: EventKind, reader: str = "", atr: bytes = b"", reason: str = "") -> None:
        self._sink(DeviceEvent(kind=kind, at=time.monotonic(), reader=reader, atr=atr, reason=reason))

    def _establish(self) -> Context | None:
        try:
            return Context()
        except DeviceError as err:
            self._say_down(err)
            return None

    def _say_down(self, err: DeviceError) -> None:
        if not self._told_down:
            _log.warning("PC/SC can't be used: %s %s", err.message, err.detail)
            self._emit(EventKind.SERVICE_DOWN, reason="" if isinstance(err, ServiceGone) else err.code)
        self._told_down = True

    def _watch_directory(self, watcher: INotify) -> int:
        """Watch the nearest directory that exists; pcscd's package may not even be installed yet."""
        directory = self._socket.parent
        wanted = flags.CREATE | flags.MOVED_TO | flags.ATTRIB | flags.DELETE_SELF
        while directory != directory.parent:
            try:
                return int(watcher.add_watch(str(directory), wanted))
            except OSError:  # not there, or not to be looked into
                directory = directory.parent
        return int(watcher.add_watch(str(directory), wanted))

    def _wait_for_service(self, watcher: INotify) -> None:
        poller = select.poll()
        poller.register(watcher.fileno(), select.POLLIN)
        poller.register(self._wake_read, select.POLLIN)
        poller.poll()
        watcher.read(timeout=0)
        for _ in range(START_TRIES):
            if self._stopping.wait(START_PAUSE) or self._answers():
                return

    def _answers(self) -> bool:
        try:
            Context().close()
        except DeviceError:
            return False
        return True
