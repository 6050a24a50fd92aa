"""GENERAL AUTHENTICATE and GENERATE ASYMMETRIC KEY PAIR (SP 800-73-4 part 2 sections 3.2.4 and 3.3.2).

Which use of which key is sensible is left to the host, as on common cards: 9A may agree on keys and 9D may sign.
"""

from __future__ import annotations

import hmac
import os
from enum import IntEnum, unique
from typing import Final

from cryptography.hazmat.primitives.asymmetric import rsa

from tokenbridge.rig import piv_crypto
from tokenbridge.rig.card_state import SlotKey
from tokenbridge.rig.piv_chip import Chip, Handler, Refusal, refuse, template
from tokenbridge.rig.piv_crypto import Algorithm, PublicKey
from tokenbridge.rig.piv_objects import KeyRef, PinPolicy, is_key_ref, pin_policy
from tokenbridge.wire import tlv
from tokenbridge.wire.apdu import INS, SW, Command

DYNAMIC: Final = 0x7C
"""Dynamic authentication template."""
GENERATE: Final = 0xAC
"""Control reference template of GENERATE ASYMMETRIC KEY PAIR."""


@unique
class Auth(IntEnum):
    """Data objects in the dynamic authentication template (part 2 table 7)."""

    WITNESS = 0x80
    CHALLENGE = 0x81
    RESPONSE = 0x82
    EXPONENTIATION = 0x85


def general_authenticate(chip: Chip, command: Command) -> bytes:
    """P1 algorithm, P2 key reference."""
    items = template(command.data, DYNAMIC)
    if command.p2 == KeyRef.MANAGEMENT:
        return _management(chip, command.p1, items)
    key = chip.state.keys.get(command.p2)
    if key is None:
        refuse(SW.REFERENCE_NOT_FOUND)
    if command.p1 != key.algorithm:
        refuse(SW.INCORRECT_P1P2)
    chip.require_pin_for(key)
    return tlv.encode(DYNAMIC, tlv.encode(Auth.RESPONSE, _use(key, items)))


def generate_asymmetric(chip: Chip, command: Command) -> bytes:
    """P2 key reference; AC holds 80 algorithm and, as vendors extend it, AA PIN policy and AB touch policy."""
    chip.require_management()
    if command.p1 != 0 or not is_key_ref(command.p2):
        refuse(SW.INCORRECT_P1P2)
    items = template(command.data, GENERATE)
    algorithm = int.from_bytes(items.get(0x80, b""), "big")
    if not piv_crypto.is_asymmetric(algorithm):
        refuse(SW.WRONG_DATA)
    policy, touch = policies(command.p2, items)
    private = piv_crypto.generate(Algorithm(algorithm))
    chip.state.keys[command.p2] = SlotKey(private=private, policy=policy, touch=touch, generated=True)
    chip.save()
    return public_key_template(private.public_key())


HANDLERS: Final[dict[int, Handler]] = {
    INS.GENERAL_AUTHENTICATE: general_authenticate,
    INS.GENERATE_ASYMMETRIC: generate_asymmetric,
}


def public_key_template(public: PublicKey) -> bytes:
    """7F49 as GENERATE ASYMMETRIC KEY PAIR answers it."""
    return tlv.encode(0x7F49, piv_crypto.public_template(public))


def policies(ref: int, items: dict[int, bytes]) -> tuple[PinPolicy, int]:
    """PIN policy (AA) and touch policy (AB) asked for, or the standard's for `ref`. A virtual card is never touched."""
    pin = int.from_bytes(items.get(0xAA, b""), "big")
    touch = int.from_bytes(items.get(0xAB, b""), "big")
    if pin > max(PinPolicy) or touch > 3:
        refuse(SW.WRONG_DATA)
    return (PinPolicy(pin) if pin else pin_policy(ref)), touch or 1


def _use(key: SlotKey, items: dict[int, bytes]) -> bytes:
    if items.get(Auth.RESPONSE) != b"":
        refuse(SW.WRONG_DATA)
    try:
        if isinstance(key.private, rsa.RSAPrivateKey):
            return piv_crypto.rsa_private(key.private, items.get(Auth.CHALLENGE, b""))
        if Auth.EXPONENTIATION in items:
            return piv_crypto.ecdh(key.private, items[Auth.EXPONENTIATION])
        return piv_crypto.ecdsa_sign(key.private, items.get(Auth.CHALLENGE, b""))
    except piv_crypto.CryptoRefused:
        refuse(SW.WRONG_DATA)


def _management(chip: Chip, p1: int, items: dict[int, bytes]) -> bytes:
    """Mutual (witness first) or external (challenge first) authentication; each random value serves once."""
    algorithm = Algorithm.TDES if p1 == 0 else p1
    if algorithm != chip.state.management_algorithm:
        refuse(SW.INCORRECT_P1P2)
    witness, challenge = chip.session.witness, chip.session.challenge
    chip.session.witness = chip.session.challenge = None
    block = piv_crypto.block_size(algorithm)
    match items:
        case {Auth.WITNESS: b""}:
            chip.session.witness = os.urandom(block)
            return _answer(Auth.WITNESS, _encrypt(chip, chip.session.witness))
        case {Auth.WITNESS: shown, Auth.CHALLENGE: asked} if len(asked) == block:
            _admit(chip, shown, expected=witness)
            return _answer(Auth.RESPONSE, _encrypt(chip, asked))
        case {Auth.CHALLENGE: b""}:
            chip.session.challenge = os.urandom(block)
            return _answer(Auth.CHALLENGE, chip.session.challenge)
        case {Auth.RESPONSE: response} if response:
            _admit(chip, response, expected=_encrypt(chip, challenge) if challenge else None)
            return b""
    raise Refusal(SW.WRONG_DATA)


def _answer(tag: Auth, value: bytes) -> bytes:
    return tlv.encode(DYNAMIC, tlv.encode(tag, value))


def _encrypt(chip: Chip, block: bytes) -> bytes:
    return piv_crypto.encrypt_block(chip.state.management_algorithm, chip.state.management_key, block)


def _admit(chip: Chip, shown: bytes, *, expected: bytes | None) -> None:
    chip.session.management = expected is not None and hmac.compare_digest(shown, expected)
    if not chip.session.management:
        refuse(SW.SECURITY_NOT_SATISFIED)
