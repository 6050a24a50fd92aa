"""One thread per device. It owns the device's link; everybody else hands it jobs and waits for futures."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, Generic, Protocol, TypeVar

from tokenbridge.errors import Cancelled, DeviceError, DeviceRemoved, TimedOut, TokenbridgeError
from tokenbridge.log import get

T = TypeVar("T")
L = TypeVar("L", bound="Link")


class Link(Protocol):
    """What a worker needs of the link that it owns; jobs need more."""

    @property
    def waiting_for_transaction(self) -> bool:
        """Whether the link waits until another program lets go of the device."""

    def close(self) -> None: ...


_log = get("worker")


@dataclass(slots=True)
class Cancel:
    """Set by the caller, asked by the job between two APDUs."""

    deadline: float
    """Absolute monotonic time in seconds."""
    _event: threading.Event = field(default_factory=threading.Event)

    def cancel(self) -> None:
        self._event.set()

    def check(self) -> None:
        """Raise `Cancelled` or `TimedOut` if the job should not go on."""
        if self._event.is_set():
            raise Cancelled("caller")
        if time.monotonic() > self.deadline:
            raise TimedOut()


Job = Callable[[L, Cancel], T]


@dataclass(slots=True)
class Ticket(Generic[L, T]):
    """A job that was handed in."""

    job: Job[L, T]
    cancel: Cancel
    future: Future[T] = field(default_factory=Future)


class DeviceWorker(Generic[L]):
    """Runs jobs on the device at `place` (a reader, a key's path), one after the other, over one link.

    The link is opened when first needed. One that failed is closed; the next job opens a new one, unless the device had
    left: what is in its place then may be another, which must not get what was meant for this one, a PIN least of all.
    `stop` when the device has left.
    """

    def __init__(self, place: str, open_link: Callable[[str], L]) -> None:
        self._place = place
        self._open_link = open_link
        self._link: L | None = None
        self._opening = False
        self._left = False
        self._queue: queue.SimpleQueue[Ticket[L, Any] | None] = queue.SimpleQueue()
        self._ended = False
        self._end = threading.Lock()
        self._thread = threading.Thread(target=self._run, name=f"tokenbridge {place}", daemon=True)
        self._thread.start()

    def submit(self, job: Job[L, T], *, deadline: float) -> Ticket[L, T]:
        """Queue `job`; `deadline` is an absolute monotonic time, also for the time it spends in the queue."""
        ticket = Ticket(job, Cancel(deadline))
        with self._end:
            if not self._ended:
                self._queue.put(ticket)
                return ticket
        _fail_late(ticket)
        return ticket

    @property
    def held_by_another_program(self) -> bool:
        """Whether the worker waits for another program's transaction to end; opening a link waits for that too."""
        link = self._link
        return self._opening or (link is not None and link.waiting_for_transaction)

    def stop(self) -> None:
        """End the thread after the job it is at; jobs behind it and later ones fail with `DeviceRemoved`. No wait."""
        self._queue.put(None)

    def join(self, seconds: float) -> None:
        """After `stop`: wait until the thread has ended, and the device has been left as it should be."""
        self._thread.join(max(seconds, 0))

    def _run(self) -> None:
        while (ticket := self._queue.get()) is not None:
            self._do(ticket)
            del ticket  # a job may hold a secret: not longer than needed
        self._close()
        with self._end:
            self._ended = True
        while not self._queue.empty():
            if (late := self._queue.get()) is not None:
                _fail_late(late)

    def _do(self, ticket: Ticket[L, Any]) -> None:
        if not ticket.future.set_running_or_notify_cancel():
            return
        try:
            ticket.cancel.check()
            ticket.future.set_result(ticket.job(self._open(), ticket.cancel))
        except DeviceError as err:
            self._left = self._left or isinstance(err, DeviceRemoved)
            self._close()
            ticket.future.set_exception(err)
        except TokenbridgeError as err:
            ticket.future.set_exception(err)
        except Exception as err:  # noqa: BLE001  the worker loop must outlive any job
            _log.exception("job on %s failed", self._place)
            self._close()
            ticket.future.set_exception(TokenbridgeError(detail=repr(err)))

    def _open(self) -> L:
        if self._left:
            raise DeviceRemoved(detail="it had left before")
        if self._link is None:
            self._opening = True
            try:
                self._link = self._open_link(self._place)
            finally:
                self._opening = False
        return self._link

    def _close(self) -> None:
        link, self._link = self._link, None
        if link is not None:
            link.close()


def _fail_late(ticket: Ticket[Any, Any]) -> None:
    if ticket.future.set_running_or_notify_cancel():
        ticket.future.set_exception(DeviceRemoved(detail="its worker has ended"))
