"""Vendor instructions that provisioning programs need: version, serial, key import, metadata, retries, reset.

Published in Yubico's PIV extensions; a card without them still is a PIV card, but yubico-piv-tool can't fill it.
"""

from __future__ import annotations

import os
from enum import IntEnum, unique
from typing import Final

from cryptography.hazmat.primitives.asymmetric import ec, rsa

from tokenbridge.rig import piv_crypto
from tokenbridge.rig.card_state import (
    DEFAULT_MANAGEMENT_KEY,
    DEFAULT_PIN,
    DEFAULT_PUK,
    DEFAULT_SECOND_PIN,
    PinState,
    SlotKey,
    fresh_pins,
)
from tokenbridge.rig.piv_auth import policies
from tokenbridge.rig.piv_chip import Chip, Handler, refuse
from tokenbridge.rig.piv_crypto import Algorithm, PrivateKey
from tokenbridge.rig.piv_objects import KeyRef, PinRef, is_key_ref
from tokenbridge.wire import tlv
from tokenbridge.wire.apdu import SW, Command

VERSION: Final = bytes([5, 4, 3])
"""The lowest version whose instructions are all those below: metadata came with 5.3, AES management keys with 5.4."""
RSA_EXPONENT: Final = 65537


@unique
class VendorINS(IntEnum):
    """Instruction bytes."""

    GET_METADATA = 0xF7
    GET_SERIAL = 0xF8
    SET_RETRIES = 0xFA
    RESET = 0xFB
    GET_VERSION = 0xFD
    IMPORT_KEY = 0xFE
    SET_MANAGEMENT_KEY = 0xFF


def get_version(_chip: Chip, _command: Command) -> bytes:
    """Three bytes."""
    return VERSION


def get_serial(chip: Chip, _command: Command) -> bytes:
    """Four bytes, big-endian."""
    return chip.state.serial.to_bytes(4, "big")


def set_management_key(chip: Chip, command: Command) -> bytes:
    """Data: algorithm, 9B, length, key."""
    chip.require_management()
    if command.p1 != 0xFF or command.p2 not in (0xFE, 0xFF):
        refuse(SW.INCORRECT_P1P2)
    if len(command.data) < 3:
        refuse(SW.WRONG_DATA)
    algorithm, ref, length = command.data[:3]
    key = command.data[3:]
    size = piv_crypto.MANAGEMENT_KEY_BYTES.get(algorithm)
    if ref != KeyRef.MANAGEMENT or not size == length == len(key):
        refuse(SW.WRONG_DATA)
    chip.state.management_algorithm, chip.state.management_key = Algorithm(algorithm), key
    chip.save()
    return b""


def set_retries(chip: Chip, command: Command) -> bytes:
    """P1 tries of the PIN, P2 of the PUK; both values go back to the defaults."""
    chip.require_management()
    if not chip.pin_verified:
        refuse(SW.SECURITY_NOT_SATISFIED)
    if not (0 < command.p1 <= 15 and 0 < command.p2 <= 15):
        refuse(SW.INCORRECT_P1P2)
    pins = chip.state.pins
    pins[PinRef.APPLICATION] = PinState(value=DEFAULT_PIN, tries=command.p1, limit=command.p1)
    pins[PinRef.PUK] = PinState(value=DEFAULT_PUK, tries=command.p2, limit=command.p2)
    chip.session.verified.clear()
    chip.save()
    return b""


def reset(chip: Chip, _command: Command) -> bytes:
    """Back to an empty card; only when both PIN and PUK are blocked."""
    state = chip.state
    if state.pins[PinRef.APPLICATION].tries or state.pins[PinRef.PUK].tries:
        refuse(SW.CONDITIONS_NOT_SATISFIED)
    state.pins = fresh_pins(state.profile, pin=DEFAULT_PIN, puk=DEFAULT_PUK, second_pin=DEFAULT_SECOND_PIN)
    state.keys.clear()
    state.objects.clear()
    state.guid = os.urandom(16)
    state.management_algorithm, state.management_key = Algorithm.TDES, DEFAULT_MANAGEMENT_KEY
    chip.session.verified.clear()
    chip.session.management = False
    chip.save()
    return b""


def import_key(chip: Chip, command: Command) -> bytes:
    """P1 algorithm, P2 key reference; 01 to 05 primes, exponents and coefficient, or 06 the scalar; AA, AB policies."""
    chip.require_management()
    if not piv_crypto.is_asymmetric(command.p1) or not is_key_ref(command.p2):
        refuse(SW.INCORRECT_P1P2)
    try:
        items = {item.tag: item.value for item in tlv.parse(command.data)}
        private = _private(Algorithm(command.p1), items)
    except (tlv.TlvError, ValueError):
        refuse(SW.WRONG_DATA)
    policy, touch = policies(command.p2, items)
    chip.state.keys[command.p2] = SlotKey(private=private, policy=policy, touch=touch)
    chip.save()
    return b""


def get_metadata(chip: Chip, command: Command) -> bytes:
    """P2 key or PIN reference: algorithm, policies, origin, public key, whether default, tries."""
    if command.p2 == KeyRef.MANAGEMENT:
        default = chip.state.management_key == DEFAULT_MANAGEMENT_KEY
        algorithm = bytes([chip.state.management_algorithm])
        return tlv.encode(1, algorithm) + tlv.encode(2, b"\0\1") + tlv.encode(5, bytes([default]))
    if command.p2 in (PinRef.APPLICATION, PinRef.PUK):
        pin = chip.state.pins[command.p2]
        default = pin.value == (DEFAULT_PUK if command.p2 == PinRef.PUK else DEFAULT_PIN)
        tries = bytes([pin.limit, pin.tries])
        return tlv.encode(1, b"\xff") + tlv.encode(5, bytes([default])) + tlv.encode(6, tries)
    key = chip.state.keys.get(command.p2)
    if key is None:
        refuse(SW.REFERENCE_NOT_FOUND)
    origin = b"\1" if key.generated else b"\2"
    public = piv_crypto.public_template(key.private.public_key())
    fields = ((1, bytes([key.algorithm])), (2, bytes([key.policy, key.touch])), (3, origin), (4, public))
    return b"".join(tlv.encode(tag, value) for tag, value in fields)


HANDLERS: Final[dict[int, Handler]] = {
    VendorINS.GET_VERSION: get_version,
    VendorINS.GET_SERIAL: get_serial,
    VendorINS.SET_MANAGEMENT_KEY: set_management_key,
    VendorINS.SET_RETRIES: set_retries,
    VendorINS.RESET: reset,
    VendorINS.IMPORT_KEY: import_key,
    VendorINS.GET_METADATA: get_metadata,
}


def _private(algorithm: Algorithm, items: dict[int, bytes]) -> PrivateKey:
    if algorithm in piv_crypto.CURVES:
        return ec.derive_private_key(int.from_bytes(items.get(0x06, b""), "big"), piv_crypto.CURVES[algorithm])
    p, q = (int.from_bytes(items.get(tag, b""), "big") for tag in (0x01, 0x02))
    phi = (p - 1) * (q - 1)
    d = pow(RSA_EXPONENT, -1, phi)
    public = rsa.RSAPublicNumbers(RSA_EXPONENT, p * q)
    numbers = rsa.RSAPrivateNumbers(p, q, d, d % (p - 1), d % (q - 1), rsa.rsa_crt_iqmp(p, q), public)
    private = numbers.private_key()
    if private.key_size != piv_crypto.RSA_BITS[algorithm]:
        raise ValueError("not of the announced length")
    return private
