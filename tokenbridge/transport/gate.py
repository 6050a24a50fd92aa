"""Lets one thread wait on descriptors that another thread may close at any moment. It opens no devices.

A descriptor that is closed while somebody polls it wakes nobody, and its number may be another file's the moment after.
"""

from __future__ import annotations

import os
import select
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tokenbridge.errors import DeviceRemoved


class Gate:
    """`release` closes the descriptors; it is called once, when the gate is closed and nobody waits."""

    def __init__(self, release: Callable[[], None], gone: str) -> None:
        self._release = release
        self._gone = gone
        self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._poll = select.poll()
        self._poll.register(self._wake, select.POLLIN)
        self._lock = threading.Lock()
        self._waiting = False
        self._closed = False

    @property
    def closed(self) -> bool:
        return self._closed

    def watch(self, descriptor: int) -> None:
        self._poll.register(descriptor, select.POLLIN)

    def forget(self, descriptor: int) -> None:
        self._poll.unregister(descriptor)

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Around everything that waits; raises `DeviceRemoved` if the gate is closed."""
        with self._lock:
            self._require_open()
            self._waiting = True
        try:
            yield
        finally:
            with self._lock:
                self._waiting = False
                if self._closed:
                    self._finish()

    @contextmanager
    def using(self) -> Iterator[None]:
        """Around a short use of a descriptor by any thread."""
        with self._lock:
            self._require_open()
            yield

    def ready(self, deadline: float | None) -> list[int]:
        """The descriptors with something to read, empty at the `deadline` (monotonic; None waits for ever).

        Raises `DeviceRemoved` once the gate is closed.
        """
        left = None if deadline is None else max(0.0, deadline - time.monotonic()) * 1000
        found = [descriptor for descriptor, _events in self._poll.poll(left)]
        self._require_open()
        return found

    def close(self, before: Callable[[], None] = lambda: None) -> None:
        """Wake who waits. `before` is called first, with the descriptors still open. Does nothing the second time."""
        with self._lock:
            if self._closed:
                return
            before()
            self._closed = True
            os.eventfd_write(self._wake, 1)
            if not self._waiting:
                self._finish()

    def _finish(self) -> None:
        self._release()
        os.close(self._wake)

    def _require_open(self) -> None:
        if self._closed:
            raise DeviceRemoved(self._gone)
