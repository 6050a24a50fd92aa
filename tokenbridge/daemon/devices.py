"""What is plugged in now, on the event loop: events in, jobs to device workers out. One claim at a time per device."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Final, TypeVar

from tokenbridge.daemon.settings import Settings
from tokenbridge.errors import AccessDenied, DeviceBusy, DeviceError, DeviceRemoved, NoDevice, ServiceGone, TimedOut
from tokenbridge.fido.session import KeySession
from tokenbridge.transport import pinpad
from tokenbridge.transport.base import DeviceEvent, EventKind, KeyPlace, Trace
from tokenbridge.transport.holders import holders
from tokenbridge.transport.packets import KEY_GONE
from tokenbridge.transport.pcsc import PcscLink
from tokenbridge.transport.worker import DeviceWorker, Job, Link, Ticket

T = TypeVar("T")
L = TypeVar("L", bound=Link)
MAX_BACKLOG: Final = 256
NEVER: Final = float("-inf")
GRACE_SECONDS: Final = 1.5
"""For a job to notice its own deadline, and to tell a key to stop blinking, before it is given up."""


@dataclass(slots=True)
class Card:
    """A card in a reader. `worker` ends with it, so what was started on this card can't reach the next one."""

    reader: str
    atr: bytes
    inserted_at: float
    worker: DeviceWorker[PcscLink]
    claimed_by: str = ""


@dataclass(slots=True)
class Key:
    """A security key that is plugged in. `worker` ends with it, as a card's does.

    `plugged_at` is a monotonic time in seconds, or `NEVER` if it was there before the bridge.
    """

    place: KeyPlace
    plugged_at: float
    worker: DeviceWorker[KeySession]
    claimed_by: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """Readers, what is in them, and keys by path. `service` is "up", "down" or the reason why PC/SC can't be used.

    `key_watch` is "up", or the reason why it is not known which keys are there.
    """

    service: str = "down"
    key_watch: str = "down"
    readers: tuple[str, ...] = ()
    cards: dict[str, Card] = field(default_factory=dict)
    keys: dict[str, Key] = field(default_factory=dict)


class Devices:
    """Belongs to the event loop, save for `sink`, which the monitors' threads call."""

    def __init__(self, loop: asyncio.AbstractEventLoop, settings: Settings, trace: Trace) -> None:
        self._loop = loop
        self._settings = settings
        self._trace = trace
        self._listeners: set[asyncio.Queue[DeviceEvent]] = set()
        self.picture = Picture()
        self.settled = asyncio.Event()
        """Set when it is known which cards are there, or that the service is not."""
        self.keys_settled = asyncio.Event()
        """Set when it is known which keys are there, or that it can't be known."""

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

    def key(self, path: str) -> Key:
        """Raises `NoDevice` when no key is at `path` (any more)."""
        try:
            return self.picture.keys[path]
        except KeyError:
            raise DeviceRemoved(KEY_GONE, next_step="Plug the key in again and retry.") from None

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
    def claim(self, device: Card | Key, by: str) -> Iterator[None]:
        """Keep `device` for one ceremony; a second caller gets `DeviceBusy` that names the first, at once."""
        if device.claimed_by:
            what = "card" if isinstance(device, Card) else "security key"
            raise DeviceBusy(f"The {what} is held by {device.claimed_by}.", by=device.claimed_by)
        device.claimed_by = by
        try:
            yield
        finally:
            device.claimed_by = ""

    async def run(self, card: Card, job: Job[PcscLink, T], *, typing: bool = False) -> T:
        """Do `job` on `card`'s worker. Raises what the job raises, `DeviceBusy` when another program keeps the card.

        `typing`: a person types on the reader meanwhile. Cancelling the caller cancels the job between two APDUs.
        """
        seconds = self._settings.card_seconds + (pinpad.SECONDS_TO_TYPE if typing else 0)
        try:
            return await self._run(card.worker, job, seconds, _card_is_busy)
        except DeviceRemoved:
            # The link notices a removal before pcscd tells: what was in the reader is not there for the next ceremony.
            if self.picture.cards.get(card.reader) is card:
                self._drop(card.reader)
            raise

    async def run_on_key(self, key: Key, job: Job[KeySession, T], *, seconds: float | None = None) -> T:
        """Do `job` on `key`'s worker; `seconds` when a person is waited for meanwhile. Raises what the job raises.

        Cancelling the caller cancels the job: the key is told, and stops blinking.
        """
        try:
            return await self._run(key.worker, job, seconds or self._settings.card_seconds, _key_is_busy)
        except DeviceRemoved:
            if self.picture.keys.get(key.place.path) is key:
                self._drop_key(key.place.path)
            raise

    async def _run(
        self, worker: DeviceWorker[L], job: Job[L, T], seconds: float, is_busy: Callable[[], DeviceBusy]
    ) -> T:
        ticket = worker.submit(job, deadline=time.monotonic() + seconds)
        future = asyncio.wrap_future(ticket.future, loop=self._loop)
        try:
            await asyncio.wait({future}, timeout=self._settings.busy_seconds)
            if not future.done() and worker.held_by_another_program:
                ticket.cancel.cancel()  # now: the job must not begin while its holder is looked for
                raise await asyncio.to_thread(is_busy)
            return await self._finish(future, ticket)
        finally:
            # Whatever became of `future`: a cancelled one says nothing of the job, which may be running still.
            ticket.cancel.cancel()
            future.cancel()

    async def _finish(self, future: asyncio.Future[T], ticket: Ticket[Any, Any]) -> T:
        try:
            async with asyncio.timeout(max(ticket.cancel.deadline - time.monotonic(), 0.1) + GRACE_SECONDS):
                return await future
        except TimeoutError:
            raise TimedOut("The device did not finish in time.") from None

    async def stop(self) -> None:
        """Let go of all devices: a key that blinks is told to stop, which takes it a moment."""
        there: list[Card | Key] = [*self.picture.cards.values(), *self.picture.keys.values()]
        workers = [device.worker for device in there]
        for worker in workers:
            worker.stop()
        self.picture = replace(self.picture, cards={}, keys={})
        end = time.monotonic() + GRACE_SECONDS
        for worker in workers:
            await asyncio.to_thread(worker.join, end - time.monotonic())

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
            case _:
                self._apply_key(event)
        self._tell(event)

    def _apply_key(self, event: DeviceEvent) -> None:
        keys = self.picture.keys
        match event.kind, event.key:
            case EventKind.KEYS_SETTLED, _:
                self.picture = replace(self.picture, key_watch="up")
                self.keys_settled.set()
            case EventKind.KEYS_UNWATCHED, _:
                self.picture = replace(self.picture, key_watch=event.reason or "down")
                self.keys_settled.set()
            case EventKind.KEY_ADDED, KeyPlace() as place:
                self._drop_key(place.path)
                worker = DeviceWorker(place.path, lambda _: KeySession.open(place, self._trace))
                # One that was there before the bridge may have been so for hours.
                plugged_at = event.at if self.keys_settled.is_set() else NEVER
                keys[place.path] = Key(place, plugged_at, worker)
            case EventKind.KEY_CHANGED, KeyPlace() as place if place.path in keys:
                keys[place.path].place = place
            case EventKind.KEY_REMOVED, KeyPlace(path=path):
                self._drop_key(path)

    def _drop(self, reader: str) -> None:
        card = self.picture.cards.pop(reader, None)
        if card is not None:
            card.worker.stop()

    def _drop_key(self, path: str) -> None:
        key = self.picture.keys.pop(path, None)
        if key is not None:
            key.worker.stop()

    def _tell(self, event: DeviceEvent) -> None:
        for queue in self._listeners:
            if queue.full():
                queue.get_nowait()
            queue.put_nowait(event)


def _card_is_busy() -> DeviceBusy:
    return DeviceBusy(by=holders())


def _key_is_busy() -> DeviceBusy:
    """Which program it is can't be found out."""
    return DeviceBusy("The security key is busy with another program.")
