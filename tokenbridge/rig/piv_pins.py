"""VERIFY, CHANGE REFERENCE DATA and RESET RETRY COUNTER (SP 800-73-4 part 2 sections 3.2.1 to 3.2.3).

A changed counter is durable before the answer leaves, so that pulling the card never gives a try back.
"""

from __future__ import annotations

import hmac
from typing import Final

from tokenbridge.rig.card_state import PinState, TriesWord
from tokenbridge.rig.piv_chip import Chip, Handler, Refusal, refuse
from tokenbridge.rig.piv_objects import PinRef
from tokenbridge.wire.apdu import INS, SW, Command

FIELD: Final = 8
MIN_PIN: Final = 6
PAD: Final = b"\xff"
LOG_OUT: Final = 0xFF


def verify(chip: Chip, command: Command) -> bytes:
    """P1 00 with data: compare; without: status query; P1 FF: forget that the PIN was verified."""
    pin = _pin(chip, command.p2, allowed=(PinRef.APPLICATION, PinRef.GLOBAL))
    if command.p1 == LOG_OUT and not command.data:
        _forget(chip, command.p2)
        return b""
    if command.p1 != 0:
        refuse(SW.INCORRECT_P1P2)
    if not command.data:
        return _status(chip, command.p2, pin)
    offered = _field(command.data)
    _check_digits(offered)
    _compare(chip, command.p2, offered)
    chip.session.verified.add(command.p2)
    chip.session.pin_fresh = True
    return b""


def change_reference_data(chip: Chip, command: Command) -> bytes:
    """Data: old value, new value, 8 bytes each."""
    if command.p1 != 0:
        refuse(SW.INCORRECT_P1P2)
    pin = _pin(chip, command.p2, allowed=(PinRef.APPLICATION, PinRef.GLOBAL, PinRef.PUK))
    old, new = _two_fields(command.data)
    if command.p2 != PinRef.PUK:
        _check_digits(old)
        _check_digits(new)
    _check_length(new)
    _compare(chip, command.p2, old)
    pin.value = new
    chip.save()
    if command.p2 != PinRef.PUK:
        chip.session.verified.add(command.p2)
    return b""


def reset_retry_counter(chip: Chip, command: Command) -> bytes:
    """Data: PUK, new PIN, 8 bytes each. The PIN is not verified by this."""
    if command.p1 != 0:
        refuse(SW.INCORRECT_P1P2)
    pin = _pin(chip, command.p2, allowed=(PinRef.APPLICATION, PinRef.GLOBAL))
    puk, new = _two_fields(command.data)
    _check_digits(new)
    _compare(chip, PinRef.PUK, puk)
    _forget(chip, command.p2)
    pin.value, pin.tries = new, pin.limit
    chip.save()
    return b""


HANDLERS: Final[dict[int, Handler]] = {
    INS.VERIFY: verify,
    INS.CHANGE_REFERENCE_DATA: change_reference_data,
    INS.RESET_RETRY_COUNTER: reset_retry_counter,
}


def _pin(chip: Chip, ref: int, *, allowed: tuple[PinRef, ...]) -> PinState:
    if ref not in allowed or ref not in chip.state.pins:
        refuse(SW.REFERENCE_NOT_FOUND)
    return chip.state.pins[ref]


def _status(chip: Chip, ref: int, pin: PinState) -> bytes:
    if ref in chip.session.verified:
        return b""
    raise Refusal(SW.AUTHENTICATION_BLOCKED if pin.tries == 0 else _tries_word(chip, pin.tries))


def _compare(chip: Chip, ref: int, offered: bytes) -> None:
    pin = chip.state.pins[ref]
    if pin.tries == 0:
        refuse(SW.AUTHENTICATION_BLOCKED)
    right = hmac.compare_digest(pin.value, offered)
    tries = pin.limit if right else pin.tries - 1
    if tries != pin.tries:
        pin.tries = tries
        chip.save()
    if not right:
        _forget(chip, ref)
        refuse(_tries_word(chip, tries))


def _forget(chip: Chip, ref: int) -> None:
    chip.session.verified.discard(ref)
    chip.session.pin_fresh = False


def _tries_word(chip: Chip, tries: int) -> int:
    shown = min(tries, 0xF)
    if chip.state.profile.tries_word is TriesWord.STANDARD:
        return 0x63C0 | shown
    # 6300 says "no information", so cards of this kind go straight to "blocked"
    return 0x6300 | shown if shown else SW.AUTHENTICATION_BLOCKED


def _field(data: bytes) -> bytes:
    """One 8-byte field without its padding."""
    if len(data) != FIELD:
        refuse(SW.WRONG_DATA)
    return data.rstrip(PAD)


def _two_fields(data: bytes) -> tuple[bytes, bytes]:
    if len(data) != 2 * FIELD:
        refuse(SW.WRONG_DATA)
    return _field(data[:FIELD]), _field(data[FIELD:])


def _check_length(value: bytes) -> None:
    if len(value) < MIN_PIN:
        refuse(SW.WRONG_DATA)


def _check_digits(value: bytes) -> None:
    """6 to 8 ASCII digits; anything else is refused without spending a try (part 2 section 3.2.1)."""
    _check_length(value)
    if not value.isdigit():
        refuse(SW.WRONG_DATA)
