"""Ports of the device layer: what a link to a card or a key can do, and what the stream of device events says."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from enum import StrEnum, unique
from typing import Final, Protocol, TypeAlias

PACKET_SIZE: Final = 64
"""Bytes of one HID report of a security key at full speed (CTAP 2.1 section 11.2.4); report id not counted."""


@unique
class EventKind(StrEnum):
    """What happened. `SETTLED` and `KEYS_SETTLED` follow the events that tell what was there when watching began."""

    SERVICE_UP = "service-up"
    SERVICE_DOWN = "service-down"
    READER_ADDED = "reader-added"
    READER_REMOVED = "reader-removed"
    CARD_INSERTED = "card-inserted"
    CARD_REMOVED = "card-removed"
    SETTLED = "settled"
    KEY_ADDED = "key-added"
    KEY_CHANGED = "key-changed"
    """It may be opened now, or no longer."""
    KEY_REMOVED = "key-removed"
    KEYS_SETTLED = "keys-settled"
    KEYS_UNWATCHED = "keys-unwatched"
    """It is not known (any more) which keys are there; watching is begun again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyPlace:
    """A security key that is plugged in, as the operating system describes it without opening it.

    `path` names the place, not the key: after a replug another key may have it. `serial` is empty for most keys.
    """

    path: str
    name: str = ""
    serial: str = ""
    vendor: int = 0
    product: int = 0
    instance: str = ""
    """Differs each time something is plugged in."""
    usable: bool = True
    """Whether this user may open it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceEvent:
    """One event. `at` is a monotonic time in seconds, taken when the operating system reported it."""

    kind: EventKind
    at: float
    reader: str = ""
    atr: bytes = b""
    reason: str = ""
    key: KeyPlace | None = None


EventSink = Callable[[DeviceEvent], None]
Trace = Callable[[str, bytes, bytes, float], None]
"""Called with reader, command, response (empty if none) and the seconds it took; masks before it keeps anything."""


class CardLink(Protocol):
    """An open connection to one card in one reader. All methods block and belong to the device's worker thread.

    They raise the `DeviceError` family only.
    """

    @property
    def reader(self) -> str: ...

    @property
    def atr(self) -> bytes: ...

    @property
    def extended_length(self) -> bool:
        """Whether card and protocol take extended APDUs."""

    @property
    def has_pin_pad(self) -> bool:
        """Whether the PIN can be typed on the reader (PC/SC part 10)."""

    def transmit(self, apdu: bytes) -> bytes:
        """Send one command APDU and return the response APDU."""

    def verify_on_reader(self, template: bytes, *, min_length: int, max_length: int) -> bytes:
        """Have the reader ask for the PIN and put it into `template` (a VERIFY APDU padded with FF); status word."""

    def transaction(self, *, reset_after: bool = False) -> AbstractContextManager[None]:
        """Keep other programs off the card inside the `with`; `reset_after` takes back what a PIN had allowed."""

    def close(self) -> None: ...


class PacketLink(Protocol):
    """64-byte packets to and from the other end: the host's end of a key, or the key's own end.

    Blocking, for one thread. Raises `DeviceRemoved` once the other end is gone, and the `DeviceError` family only.
    """

    def send(self, packet: bytes) -> None:
        """Send one packet of `PACKET_SIZE` bytes; shorter ones are filled up with zeros (section 11.2.4)."""

    def receive(self, timeout: float | None) -> bytes | None:
        """The next packet, or None after `timeout` seconds; None waits for ever, 0 does not wait."""

    def close(self) -> None: ...


DeviceEnd: TypeAlias = PacketLink
"""The key's own end: what `receive` returns was sent by the host."""
