"""Ports of the device layer: what a link to a card can do, and what the stream of device events says."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from enum import StrEnum, unique
from typing import Protocol


@unique
class EventKind(StrEnum):
    """What happened. `SETTLED` follows the events that describe what was there when watching (re)started."""

    SERVICE_UP = "service-up"
    SERVICE_DOWN = "service-down"
    READER_ADDED = "reader-added"
    READER_REMOVED = "reader-removed"
    CARD_INSERTED = "card-inserted"
    CARD_REMOVED = "card-removed"
    SETTLED = "settled"


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceEvent:
    """One event. `at` is a monotonic time in seconds, taken when the operating system reported it."""

    kind: EventKind
    at: float
    reader: str = ""
    atr: bytes = b""
    reason: str = ""


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
