"""The PIV card application on raw APDUs (NIST SP 800-73-4 part 2, SP 800-78-4). It keeps no PIN and retries nothing.

The caller holds a transaction around every sequence that must not be interrupted by another program.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from tokenbridge.card import certificates
from tokenbridge.card.base import KeyKind, PinReference, Slot
from tokenbridge.card.channel import Channel
from tokenbridge.errors import (
    AppletMissing,
    BadCardData,
    Cancelled,
    NotPermitted,
    ObjectMissing,
    PinBlocked,
    PinUnfit,
    PinWrong,
    StatusError,
    TimedOut,
)
from tokenbridge.interaction import Secret
from tokenbridge.transport.pinpad import PadStatus
from tokenbridge.wire import tlv
from tokenbridge.wire.apdu import INS, LE_ALL, MAX_SHORT_LE, SW, Command, Response

AID: Final = bytes.fromhex("A00000030800001000")
"""Without the version, so that cards of any version answer (part 1 section 2.2)."""
PIN_MIN: Final = 6
PIN_MAX: Final = 8
PIN_PAD: Final = 0xFF

OBJECT_DISCOVERY: Final = 0x7E
OBJECT_CHUID: Final = 0x5FC102
OBJECT_CERTIFICATE: Final = {
    Slot.AUTHENTICATION: 0x5FC105,
    Slot.SIGNATURE: 0x5FC10A,
    Slot.KEY_MANAGEMENT: 0x5FC10B,
    Slot.CARD_AUTHENTICATION: 0x5FC101,
}
ALGORITHM: Final = {
    KeyKind.RSA_2048: 0x07,
    KeyKind.RSA_3072: 0x05,
    KeyKind.RSA_4096: 0x16,
    KeyKind.P_256: 0x11,
    KeyKind.P_384: 0x14,
}
"""Algorithm identifiers of SP 800-78-5 table 9; RSA 4096 is a vendors' extension."""

TAG_DYNAMIC: Final = 0x7C
TAG_RESPONSE: Final = 0x82
TAG_CHALLENGE: Final = 0x81
TAG_GUID: Final = 0x34

USAGE_APPLICATION_PIN: Final = 0x4000
USAGE_GLOBAL_PIN: Final = 0x2000
USAGE_GLOBAL_PRIMARY: Final = 0x20

_NO_APPLET: Final = {SW.NOT_FOUND, SW.FUNCTION_UNSUPPORTED, SW.INS_UNSUPPORTED, SW.CLA_UNSUPPORTED}
_ABSENT: Final = {SW.NOT_FOUND, SW.FUNCTION_UNSUPPORTED, SW.REFERENCE_NOT_FOUND, SW.WRONG_DATA}


@dataclass(frozen=True, slots=True)
class Discovery:
    """The discovery object: which PIN the card wants (part 1 section 3.3.2)."""

    pin_reference: PinReference


class Piv:
    """One PIV application on an open link."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel

    def select(self) -> None:
        """Raises `AppletMissing` if the card has no PIV application."""
        response = self._channel.send(Command(0, INS.SELECT, 4, 0, AID, le=MAX_SHORT_LE))
        if response.ok:
            return
        if response.sw in _NO_APPLET or response.sw1 in (0x6A, 0x69):
            raise AppletMissing(sw=response.sw)
        raise StatusError(sw=response.sw, detail=f"SELECT PIV: SW={response.sw:04X}")

    def get_object(self, tag: int) -> bytes:
        """A data object, its outer tag included. Raises `ObjectMissing`, `NotPermitted`."""
        wanted = tlv.encode(0x5C, tag.to_bytes((tag.bit_length() + 7) // 8, "big"))
        response = self._channel.send(Command(0, INS.GET_DATA, 0x3F, 0xFF, wanted, le=LE_ALL))
        if response.ok:
            return response.data
        if response.sw in _ABSENT:
            raise ObjectMissing(sw=response.sw, detail=f"object {tag:X}: SW={response.sw:04X}")
        raise _status(response, f"object {tag:X}")

    def discovery(self) -> Discovery | None:
        """The discovery object, None if the card has none that can be read.

        Because it names the PIV application, an answer also proves that this application is the selected one.
        """
        try:
            data = self.get_object(OBJECT_DISCOVERY)
        except (ObjectMissing, StatusError):
            return None
        return _parse_discovery(data)

    def guid(self) -> str:
        """The card's GUID from the CHUID, 32 hex digits; "" if it has none or an empty one (part 1 section 3.1.2)."""
        try:
            body = tlv.find(self.get_object(OBJECT_CHUID), 0x53)
            value = tlv.find(body, TAG_GUID) if body else None
        except ObjectMissing:
            return ""
        except tlv.TlvError as err:
            raise BadCardData(detail=f"CHUID: {err}") from err
        return value.hex() if value is not None and len(value) == 16 and any(value) else ""

    def certificate(self, slot: Slot) -> bytes:
        """DER certificate of `slot`, b"" if there is none."""
        try:
            return certificates.decode_object(self.get_object(OBJECT_CERTIFICATE[slot]))
        except ObjectMissing:
            return b""

    def tries_left(self, reference: PinReference) -> int | None:
        """Tries left without spending one; None if the PIN is verified already or the card does not tell."""
        response = self._channel.send(Command(0, INS.VERIFY, 0, reference))
        if response.sw == SW.REFERENCE_NOT_FOUND:
            raise ObjectMissing("The card has no such PIN.", sw=response.sw)
        return response.tries_left

    def verify(self, reference: PinReference, pin: Secret) -> None:
        """Spend one try. Raises `PinUnfit` before anything is sent, `PinWrong`, `PinBlocked`."""
        check_pin(pin)
        response = self._send_secret(INS.VERIFY, 0, reference, pin)
        _check_pin_response(response)

    def verify_on_reader(self, reference: PinReference) -> None:
        """As `verify`, the PIN typed on the reader. Raises `Cancelled` or `TimedOut` when nobody typed one."""
        template = Command(0, INS.VERIFY, 0, reference, bytes([PIN_PAD]) * PIN_MAX).short()
        raw = self._channel.link.verify_on_reader(template, min_length=PIN_MIN, max_length=PIN_MAX)
        response = Response.parse(raw)
        match response.sw:
            case PadStatus.CANCELLED:
                raise Cancelled("user")
            case PadStatus.TIMED_OUT:
                raise TimedOut("Nobody typed a PIN on the reader.")
            case PadStatus.WRONG_LENGTH:
                raise PinUnfit()
        _check_pin_response(response)

    def change_pin(self, reference: PinReference, old: Secret, new: Secret) -> None:
        """Replace the PIN (or, with `PinReference.PUK`, the PUK); spends a try of the old one."""
        check = check_puk if reference is PinReference.PUK else check_pin
        check(old)
        check(new)
        response = self._send_secret(INS.CHANGE_REFERENCE_DATA, 0, reference, old, new)
        _check_pin_response(response, puk=reference is PinReference.PUK)

    def unblock_pin(self, puk: Secret, new: Secret) -> None:
        """Set a new PIN with the PUK; spends a try of the PUK."""
        check_puk(puk)
        check_pin(new)
        response = self._send_secret(INS.RESET_RETRY_COUNTER, 0, PinReference.APPLICATION, puk, new)
        _check_pin_response(response, puk=True)

    def private_key_operation(self, slot: Slot, kind: KeyKind, block: bytes) -> bytes:
        """GENERAL AUTHENTICATE in its signing form. For `card.authentication` only: it decides what may be signed."""
        template = tlv.encode(TAG_DYNAMIC, tlv.encode(TAG_RESPONSE, b"") + tlv.encode(TAG_CHALLENGE, block))
        command = Command(0, INS.GENERAL_AUTHENTICATE, ALGORITHM[kind], slot, template, le=LE_ALL)
        response = self._channel.send(command)
        if not response.ok:
            raise _status(response, f"signature with {slot.value:02X}")
        try:
            signature = tlv.find(response.data, TAG_DYNAMIC, TAG_RESPONSE)
        except tlv.TlvError as err:
            raise BadCardData(detail=f"signature: {err}") from err
        if not signature:
            raise BadCardData(detail="signature missing in the answer")
        return signature

    def _send_secret(self, ins: INS, p1: int, p2: int, *secrets: Secret) -> Response:
        # The APDU is immutable bytes down to the PC/SC library, so this copy can't be wiped; it lives for this call.
        data = b"".join(bytes(s.reveal()).ljust(PIN_MAX, bytes([PIN_PAD])) for s in secrets)
        return self._channel.send(Command(0, ins, p1, p2, data))


def check_pin(pin: Secret) -> None:
    """Raise `PinUnfit` unless `pin` is 6 to 8 decimal digits (SP 800-73-4 part 2 section 2.4.3)."""
    value = pin.reveal()
    if not PIN_MIN <= len(value) <= PIN_MAX or not all(0x30 <= byte <= 0x39 for byte in value):
        raise PinUnfit()


def check_puk(puk: Secret) -> None:
    """Raise `PinUnfit` unless `puk` has 6 to 8 bytes (the PUK may be any bytes; section 2.4.3)."""
    if not PIN_MIN <= len(puk) <= PIN_MAX or PIN_PAD in puk.reveal():
        raise PinUnfit("That can't be a PUK of this card: it has 6 to 8 characters. It was not sent, no try was spent.")


def _check_pin_response(response: Response, *, puk: bool = False) -> None:
    if response.ok:
        return
    what = "PUK" if puk else "PIN"
    tries = response.tries_left
    if tries is None:
        raise _status(response, what)
    if tries == 0 and puk:
        raise PinBlocked(
            "The card's PUK is blocked, so its PIN can't be unblocked any more.",
            sw=response.sw,
            next_step="Ask the people who issue cards.",
        )
    if tries == 0:
        raise PinBlocked(sw=response.sw)
    raise PinWrong(tries_left=tries, sw=response.sw, what=what)


def _status(response: Response, what: str) -> StatusError:
    kinds: dict[int, Callable[..., StatusError]] = {
        SW.SECURITY_NOT_SATISFIED: NotPermitted,
        SW.CONDITIONS_NOT_SATISFIED: NotPermitted,
        SW.AUTHENTICATION_BLOCKED: PinBlocked,
        SW.REFERENCE_NOT_FOUND: ObjectMissing,
    }
    return kinds.get(response.sw, StatusError)(sw=response.sw, detail=f"{what}: SW={response.sw:04X}")


def _parse_discovery(data: bytes) -> Discovery | None:
    try:
        aid = tlv.find(data, OBJECT_DISCOVERY, 0x4F) or b""
        usage = tlv.find(data, OBJECT_DISCOVERY, 0x5F2F) or b""
    except tlv.TlvError:
        return None  # of another application perhaps: then it is not PIV that is selected
    if not aid.startswith(AID) or len(usage) != 2:
        return None
    bits = int.from_bytes(usage, "big")
    wants_global = bits & USAGE_GLOBAL_PIN and bits & USAGE_GLOBAL_PRIMARY
    return Discovery(PinReference.GLOBAL if wants_global else PinReference.APPLICATION)
