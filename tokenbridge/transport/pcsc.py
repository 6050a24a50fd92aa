"""PC/SC through `smartcard.scard`: the one module that imports it, and the one table that translates its codes.

A `Context` belongs to one thread, save for `cancel`, which any thread may call. Reader names are data for people, never
identities.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from smartcard import scard

from tokenbridge.errors import (
    AccessDenied,
    Cancelled,
    CardReset,
    DeviceBusy,
    DeviceError,
    DeviceRemoved,
    LinkFailed,
    NoDevice,
    ServiceGone,
    TimedOut,
)
from tokenbridge.transport import pinpad
from tokenbridge.transport.base import Trace
from tokenbridge.transport.holders import holders
from tokenbridge.transport.trace import log_traffic

PNP: Final = "\\\\?PnP?\\Notification"
"""Pseudo reader whose state changes when a reader comes or goes (pcsc-lite's SCardGetStatusChange)."""
EXTENDED_LENGTH_BIT: Final = 0x40
REMOVAL_GRACE: Final = 1000
"""Milliseconds to wait for the removal that explains a failed transmission; pcscd notices one within about 400."""
MAX_RESETS: Final = 3


_ERRORS: Final[dict[int, type[DeviceError]]] = {
    scard.SCARD_E_NO_SERVICE: ServiceGone,
    scard.SCARD_E_SERVICE_STOPPED: ServiceGone,
    scard.SCARD_F_COMM_ERROR: ServiceGone,
    scard.SCARD_E_INVALID_HANDLE: ServiceGone,
    scard.SCARD_W_REMOVED_CARD: DeviceRemoved,
    scard.SCARD_E_READER_UNAVAILABLE: DeviceRemoved,
    scard.SCARD_E_UNKNOWN_READER: DeviceRemoved,
    scard.SCARD_E_NO_SMARTCARD: DeviceRemoved,
    scard.SCARD_E_NO_READERS_AVAILABLE: NoDevice,
    scard.SCARD_E_SHARING_VIOLATION: DeviceBusy,
    scard.SCARD_W_SECURITY_VIOLATION: AccessDenied,
    scard.SCARD_E_NO_ACCESS: AccessDenied,
    scard.SCARD_E_TIMEOUT: TimedOut,
    scard.SCARD_W_RESET_CARD: CardReset,
}


def _check(code: int, call: str) -> None:
    if code == scard.SCARD_S_SUCCESS:
        return
    detail = f"{call}: {scard.SCardGetErrorMessage(code)} ({code & 0xFFFFFFFF:08X})"
    if code == scard.SCARD_E_CANCELLED:
        raise Cancelled("caller")
    kind = _ERRORS.get(code, LinkFailed)
    if kind is DeviceBusy:
        raise DeviceBusy(by=holders(), detail=detail)
    raise kind(detail=detail)


@dataclass(frozen=True, slots=True)
class ReaderState:
    """What SCardGetStatusChange says of one reader; `raw` goes back in as the current state."""

    reader: str
    raw: int
    atr: bytes

    @property
    def present(self) -> bool:
        return bool(self.raw & scard.SCARD_STATE_PRESENT) and not self.raw & scard.SCARD_STATE_MUTE

    @property
    def insertions(self) -> int:
        """pcsc-lite counts insertions and removals in the upper half, so a quick swap is not missed."""
        return self.raw >> 16


class Context:
    """A resource-manager context."""

    def __init__(self) -> None:
        code, self._handle = scard.SCardEstablishContext(scard.SCARD_SCOPE_USER)
        _check(code, "SCardEstablishContext")

    def readers(self) -> list[str]:
        code, names = scard.SCardListReaders(self._handle, [])
        if code == scard.SCARD_E_NO_READERS_AVAILABLE:
            return []
        _check(code, "SCardListReaders")
        return list(names)

    def wait(self, known: Sequence[ReaderState], timeout_ms: int | None) -> list[ReaderState] | None:
        """Block until a state differs from `known` or a reader comes or goes; None if `timeout_ms` passed first.

        Give `ReaderState(name, 0, b"")` for a reader whose state is not known yet: that returns at once.
        """
        asked = [(PNP, scard.SCARD_STATE_UNAWARE)]
        asked += [(state.reader, state.raw & ~scard.SCARD_STATE_CHANGED) for state in known]
        limit = scard.INFINITE if timeout_ms is None else timeout_ms
        code, states = scard.SCardGetStatusChange(self._handle, limit, asked)
        if code == scard.SCARD_E_TIMEOUT:
            return None
        _check(code, "SCardGetStatusChange")
        return [ReaderState(name, raw, bytes(atr)) for name, raw, atr in states if name != PNP]

    def cancel(self) -> None:
        """End a `wait` of another thread."""
        scard.SCardCancel(self._handle)

    def connect(self, reader: str) -> tuple[object, int]:
        code, card, protocol = scard.SCardConnect(
            self._handle, reader, scard.SCARD_SHARE_SHARED, scard.SCARD_PROTOCOL_T0 | scard.SCARD_PROTOCOL_T1
        )
        _check(code, "SCardConnect")
        return card, protocol

    def card_is_gone(self, reader: str) -> bool:
        """Whether `reader` is empty, gone or unreadable now or within the grace time."""
        known = [ReaderState(reader, 0, b"")]
        limit = time.monotonic() + REMOVAL_GRACE / 1000
        while (left := limit - time.monotonic()) > 0:
            states = self.wait(known, round(left * 1000) or 1)
            if states is None:
                return False
            if not states or not states[0].present:
                return True
            known = states
        return False

    def close(self) -> None:
        scard.SCardReleaseContext(self._handle)


class PcscLink:
    """`base.CardLink` on a shared PC/SC connection."""

    def __init__(self, reader: str, trace: Trace = log_traffic) -> None:
        self.reader = reader
        self.waiting_for_transaction = False
        """True while another program's transaction keeps this thread waiting; read from other threads."""
        self._trace = trace
        self._context = Context()
        try:
            self._card, self._protocol = self._context.connect(reader)
            code, _, _, _, atr = scard.SCardStatus(self._card)
            _check(code, "SCardStatus")
        except DeviceError:
            self._context.close()
            raise
        self.atr = bytes(atr)
        self._features = self._read_features()

    @property
    def extended_length(self) -> bool:
        return self._protocol == scard.SCARD_PROTOCOL_T1 and atr_says_extended(self.atr)

    @property
    def has_pin_pad(self) -> bool:
        return pinpad.Feature.VERIFY_PIN_DIRECT in self._features

    def transmit(self, apdu: bytes) -> bytes:
        pci = scard.SCARD_PCI_T1 if self._protocol == scard.SCARD_PROTOCOL_T1 else scard.SCARD_PCI_T0
        sent = _without_le(apdu) if pci == scard.SCARD_PCI_T0 else apdu
        started = time.monotonic()
        code, answer = scard.SCardTransmit(self._card, pci, list(sent))
        response = bytes(answer) if code == scard.SCARD_S_SUCCESS else b""
        self._trace(self.reader, apdu, response, time.monotonic() - started)
        self._check_card(code, "SCardTransmit")
        return self._whole(response)

    def verify_on_reader(self, template: bytes, *, min_length: int, max_length: int) -> bytes:
        control = self._features[pinpad.Feature.VERIFY_PIN_DIRECT]
        structure = pinpad.verify_structure(template, min_length=min_length, max_length=max_length)
        code, answer = scard.SCardControl(self._card, control, list(structure))
        self._trace(self.reader, template, bytes(answer), 0.0)
        self._check_card(code, "SCardControl(VERIFY_PIN_DIRECT)")
        return self._whole(bytes(answer))

    @contextmanager
    def transaction(self, *, reset_after: bool = False) -> Iterator[None]:
        self._begin()
        try:
            yield
        finally:
            # A failure here means that card or service are gone already, and the exclusive access with them.
            scard.SCardEndTransaction(self._card, scard.SCARD_RESET_CARD if reset_after else scard.SCARD_LEAVE_CARD)

    def close(self) -> None:
        scard.SCardDisconnect(self._card, scard.SCARD_LEAVE_CARD)
        self._context.close()

    def _begin(self) -> None:
        for _ in range(MAX_RESETS):
            self.waiting_for_transaction = True
            code = scard.SCardBeginTransaction(self._card)
            self.waiting_for_transaction = False
            try:
                self._check_card(code, "SCardBeginTransaction")
            except CardReset:
                self._reconnect()
                continue
            return
        raise LinkFailed(detail="the card is reset over and over by another program")

    def _reconnect(self) -> None:
        protocols = scard.SCARD_PROTOCOL_T0 | scard.SCARD_PROTOCOL_T1
        code, self._protocol = scard.SCardReconnect(
            self._card, scard.SCARD_SHARE_SHARED, protocols, scard.SCARD_LEAVE_CARD
        )
        self._check_card(code, "SCardReconnect")

    def _check_card(self, code: int, call: str) -> None:
        """As `_check`, but a failure that a removal explains is a removal."""
        try:
            _check(code, call)
        except (DeviceRemoved, ServiceGone, DeviceBusy, AccessDenied, CardReset):
            raise
        except DeviceError as err:
            raise self._explained(err) from err

    def _whole(self, response: bytes) -> bytes:
        """`response` if it has a status word. Some drivers report a card that left as success without an answer."""
        if len(response) < 2:
            raise self._explained(LinkFailed(detail="response shorter than a status word"))
        return response

    def _explained(self, err: DeviceError) -> DeviceError:
        """`err`, or `DeviceRemoved` if the card turns out to have left."""
        try:
            gone = self._context.card_is_gone(self.reader)
        except DeviceError as why:
            return why
        return DeviceRemoved(detail=err.detail) if gone else err

    def _read_features(self) -> dict[int, int]:
        code, answer = scard.SCardControl(self._card, scard.SCARD_CTL_CODE(pinpad.FEATURE_REQUEST_CODE), [])
        return pinpad.parse_features(bytes(answer)) if code == scard.SCARD_S_SUCCESS else {}


def _without_le(apdu: bytes) -> bytes:
    """Over T=0 a command with data carries no Le (ISO/IEC 7816-3 section 12.2.1); the card answers 61xx."""
    if len(apdu) > 5 and apdu[4] and len(apdu) == 6 + apdu[4]:
        return apdu[:-1]
    return apdu


def atr_says_extended(atr: bytes) -> bool:
    """Whether the historical bytes announce extended Lc and Le (ISO/IEC 7816-4 section 8.1.1.2.7, third byte)."""
    historical = _historical_bytes(atr)
    if not historical or historical[0] not in (0x00, 0x80):
        return False
    offset = 1
    while offset < len(historical):
        tag, length = historical[offset] >> 4, historical[offset] & 0xF
        value = historical[offset + 1 : offset + 1 + length]
        if tag == 7 and len(value) == 3:
            return bool(value[2] & EXTENDED_LENGTH_BIT)
        offset += 1 + length
    return False


def _historical_bytes(atr: bytes) -> bytes:
    if len(atr) < 2:
        return b""
    count, offset, indicator = atr[1] & 0xF, 2, atr[1] >> 4
    while indicator:
        offset += bin(indicator).count("1")
        if not indicator & 8 or offset > len(atr):
            break
        indicator = atr[offset - 1] >> 4
    return atr[offset : offset + count]
