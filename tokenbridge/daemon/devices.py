"""What is plugged in now, on the event loop: events in, jobs to device workers out. One claim at a time per device."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Final, TypeVar

from tokenbridge.daemon.settings import Settings
from tokenbridge.errors import AccessDenied, DeviceBusy, DeviceError, DeviceRemoved, NoDevice, ServiceGone, TimedOut
from tokenbridge.transport import pinpad
from tokenbridge.transport.base import DeviceEvent, EventKind, Trace
from tokenbridge.transport.holders import holders
from tokenbridge.transport.pcsc import PcscLink
from tokenbridge.transport.worker import DeviceWorker, Job, Ticket

T = TypeVar("T")
MAX_BACKLOG: Final = 256


@dataclass(slots=True)
class Card:
    """A card in a reader. `worker` ends with it, so what was started on this card can't reach the next one."""

    reader: str
    atr: bytes
    inserted_at: float
    worker: DeviceWorker
    claimed_by: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """Readers and what is in them. `service` is "up", "down" or the reason why it can't be used."""

    service: str = "down"
    readers: tuple[str, ...] = ()
    cards: dict[str, Card] = field(default_factory=dict)


class Devices:
    """Belongs to the event loop, save for `sink`, which the monitor's thread calls."""

    def __init__(self, loop: asyncio.AbstractEventLoop, settings: Settings, trace: Trace) -> None:
        self._loop = loop
        self._settings = settings
        self._trace = trace
        self._listeners: set[asyncio.Queue[DeviceEvent]] = set()
        self.picture = Picture()
        self.settled = asyncio.Event()
        """Set when it is known what is there, or that the service is not."""

    def sink(self, event: DeviceEvent) -> None:
        self._loop.call_soon_threadsafe(self._apply, event)

    def absence(self) -> DeviceError:
        """Why there is no card: none inserted, or PC/SC can't be used at all."""
        match self.picture.service:
            case "up":
                return NoDevice()
            case AccessDenied.code:
                return AccessDenied()
            case _:
                return ServiceGone()

    def card(self, reader: str) -> Card:
        """Raises what `absence` says when `reader` is empty."""
        try:
            return self.picture.cards[reader]
        except KeyError:
            raise self.absence() from None

    @asynccontextmanager
    async def events(self) -> AsyncIterator[asyncio.Queue[DeviceEvent]]:
        """A queue of the events from now on. A listener that falls far behind loses the oldest."""
        queue: asyncio.Queue[DeviceEvent] = asyncio.Queue(MAX_BACKLOG)
        self._listeners.add(queue)
        try:
            yield queue
        finally:
            self._listeners.discard(queue)

    @contextmanager
    def claim(self, card: Card, by: str) -> Iterator[None]:
        """Keep `card` for one ceremony; a second caller gets `DeviceBusy` that names the first, at once."""
        if card.claimed_by:
            raise DeviceBusy(by=card.claimed_by)
        card.claimed_by = by
        try:
            yield
        finally:
            card.claimed_by = ""

    async def run(self, card: Card, job: Job[T], *, typing: bool = False) -> T:
        """Do `job` on `card`'s worker. Raises what the job raises, `DeviceBusy` when another program keeps the card.

        `typing`: a person types on the reader meanwhile. Cancelling the caller cancels the job between two APDUs.
        """
        seconds = self._settings.card_seconds + (pinpad.SECONDS_TO_TYPE if typing else 0)
        ticket = card.worker.submit(job, deadline=time.monotonic() + seconds)
        future = asyncio.wrap_future(ticket.future, loop=self._loop)
        try:
            await asyncio.wait({future}, timeout=self._settings.busy_seconds)
            if not future.done() and card.worker.held_by_another_program:
                ticket.cancel.cancel()  # now: the job must not begin while its holder is looked for
                raise DeviceBusy(by=await asyncio.to_thread(holders))
            return await self._finish(future, ticket, card)
        finally:
            # Whatever became of `future`: a cancelled one says nothing of the job, which may be running still.
            ticket.cancel.cancel()
            future.cancel()

    async def _finish(self, future: asyncio.Future[T], ticket: Ticket[Any], card: Card) -> T:
        try:
            async with asyncio.timeout(max(ticket.cancel.deadline - time.monotonic(), 0.1)):
                return await future
        except TimeoutError:
            raise TimedOut("The card did not finish in time.") from None
        except DeviceRemoved:
            # The link notices a removal before pcscd tells: what was in the reader is not there for the next ceremony.
            if self.picture.cards.get(card.reader) is card:
                self._drop(card.reader)
            raise

    def stop(self) -> None:
        for reader in list(self.picture.cards):
            self._drop(reader)

    def _apply(self, event: DeviceEvent) -> None:
        picture = self.picture
        match event.kind:
            case EventKind.SERVICE_UP:
                self.picture = replace(picture, service="up")
            case EventKind.SERVICE_DOWN:
                self.settled.set()
                self.picture = replace(picture, service=event.reason or "down")
            case EventKind.READER_ADDED:
                self.picture = replace(picture, readers=(*picture.readers, event.reader))
            case EventKind.READER_REMOVED:
                self.picture = replace(picture, readers=tuple(r for r in picture.readers if r != event.reader))
            case EventKind.CARD_INSERTED:
                self._drop(event.reader)
                worker = DeviceWorker(event.reader, lambda reader: PcscLink(reader, self._trace))
                picture.cards[event.reader] = Card(event.reader, event.atr, event.at, worker)
            case EventKind.CARD_REMOVED:
                self._drop(event.reader)
            case EventKind.SETTLED:
                self.settled.set()
        self._tell(event)

    def _drop(self, reader: str) -> None:
        card = self.picture.cards.pop(reader, None)
        if card is not None:
            card.worker.stop()

    def _tell(self, event: DeviceEvent) -> None:
        for queue in self._listeners:
            if queue.full():
                queue.get_nowait()
            queue.put_nowait(event)
