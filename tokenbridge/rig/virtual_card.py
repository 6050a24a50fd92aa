"""The virtual PIV card: bytes of a command in, bytes of the answer out. It opens no sockets and starts no threads.

Card edge of NIST SP 800-73-4 part 2 (and -5), device side, T=1. Any input gets an answer; none ends the card.
"""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from tokenbridge.rig import card_state, piv_auth, piv_crypto, piv_data, piv_objects, piv_pins, piv_vendor
from tokenbridge.rig.card_state import (
    DEFAULT_MANAGEMENT_KEY,
    DEFAULT_PIN,
    DEFAULT_PUK,
    DEFAULT_SECOND_PIN,
    CardProfile,
    CardState,
    SlotKey,
)
from tokenbridge.rig.piv_chip import Chip, Handler, Refusal, Session
from tokenbridge.rig.piv_crypto import Algorithm, PrivateKey, PublicKey
from tokenbridge.rig.piv_objects import PinPolicy, PinRef, Tag
from tokenbridge.wire.apdu import CHAINING, INS, SW, ApduError, Command, Response
from tokenbridge.wire.chaining import CommandAssembler, ResponseQueue

HISTORICAL: Final = bytes.fromhex("80F9A0000003080000100073FF0100")
"""Historical bytes: PIV's identifier (F9) and the card capabilities (73), whose last byte tells about lengths.

ISO/IEC 7816-4 section 8.1.1. OpenSC takes a card that names PIV here for one that keeps to the standard; one with the
capabilities alone it probes for known faults, with more commands; on 3B80800101 it gives up elliptic curves.
"""
EXTENDED_CAPABILITY: Final = 0xC0
"""Command chaining and extended Lc and Le. Cards of the short profile say nothing, as most PIV cards do."""

MANDATORY: Final[dict[int, Handler]] = {**piv_pins.HANDLERS, **piv_data.HANDLERS, **piv_auth.HANDLERS}


def make_atr(*, extended: bool) -> bytes:
    """A direct-convention T=1 answer to reset with check byte (ISO/IEC 7816-3 section 8.2)."""
    capability = EXTENDED_CAPABILITY if extended else 0
    body = bytes.fromhex("9F138101") + HISTORICAL[:-1] + bytes([HISTORICAL[-1] | capability])
    check = 0
    for byte in body:
        check ^= byte
    return b"\x3b" + body + bytes([check])


class VirtualCard:
    """One card. `transmit` and `reset` may be called from any thread; a call waits for the one before it."""

    def __init__(self, state: CardState, path: Path | None = None) -> None:
        self.path = path
        self.apdus = 0
        self._lock = threading.Lock()
        self._chip = Chip(state, self.save)
        self._chain = CommandAssembler()
        self._queue = ResponseQueue()
        vendor = piv_vendor.HANDLERS if state.profile.vendor_instructions else {}
        self._handlers = {**MANDATORY, **vendor, INS.SELECT: self._select}

    @classmethod
    def create(
        cls,
        *,
        profile: CardProfile | None = None,
        pin: bytes = DEFAULT_PIN,
        puk: bytes = DEFAULT_PUK,
        second_pin: bytes = DEFAULT_SECOND_PIN,
        path: Path | None = None,
    ) -> VirtualCard:
        """A card without keys. `pin` is the PIN of the discovery object's primary reference."""
        profile = profile or CardProfile()
        guid = os.urandom(16)
        state = CardState(
            profile=profile, guid=guid, pins=card_state.fresh_pins(profile, pin=pin, puk=puk, second_pin=second_pin)
        )
        state.objects[Tag.CHUID] = piv_objects.chuid(guid)
        if profile.capability_container:
            state.objects[Tag.CCC] = piv_objects.capability_container(guid[:14])
        card = cls(state, path)
        card.save()
        return card

    @classmethod
    def load(cls, path: Path) -> VirtualCard:
        """The card kept in `path`; raises `SetupError`."""
        return cls(card_state.read(path), path)

    def save(self) -> None:
        """Make the state durable; does nothing for a card without a file."""
        if self.path is not None:
            card_state.write(self.path, self.state)

    @property
    def state(self) -> CardState:
        return self._chip.state

    @property
    def atr(self) -> bytes:
        return make_atr(extended=self.state.profile.extended_length)

    @property
    def guid(self) -> bytes:
        """The CHUID's 16 bytes that tell this card from all others."""
        return self.state.guid

    def generate(self, ref: int, algorithm: Algorithm, policy: PinPolicy | None = None) -> PublicKey:
        """Make a key without asking for the management key: personalisation, not the card edge."""
        return self.install_key(ref, piv_crypto.generate(algorithm), policy)

    def install_key(self, ref: int, private: PrivateKey, policy: PinPolicy | None = None) -> PublicKey:
        """Put a key into the slot `ref`; the policy is the standard's unless given."""
        rule = piv_objects.pin_policy(ref) if policy is None else policy
        with self._lock:
            self.state.keys[ref] = SlotKey(private=private, policy=rule, generated=True)
            self.save()
        return private.public_key()

    def install_certificate(self, ref: int, certificate: x509.Certificate | bytes) -> None:
        """Put the certificate (or any bytes, to test hosts) beside the key `ref`; compressed if the profile says so."""
        der = certificate if isinstance(certificate, bytes) else certificate.public_bytes(Encoding.DER)
        compressed = self.state.profile.gzip_certificates
        self.put_object(piv_objects.cert_tag(ref), piv_objects.certificate(der, compressed=compressed))

    def put_object(self, tag: int, content: bytes | None) -> None:
        """Set (or with None remove) a data object; `content` without 53, unchecked so that tests can lie."""
        with self._lock:
            if content is None:
                self.state.objects.pop(tag, None)
            else:
                self.state.objects[tag] = content
            self.save()

    def tries_left(self, ref: PinRef = PinRef.APPLICATION) -> int:
        return self.state.pins[ref].tries

    def set_tries(self, ref: PinRef, tries: int) -> None:
        """Put a counter where a test needs it."""
        with self._lock:
            self.state.pins[ref].tries = tries
            self.save()

    def reset(self) -> None:
        """Power lost or card reset: selection, PINs, management authentication and chains are forgotten."""
        with self._lock:
            self._chip.session = Session()
            self._chain.reset()
            self._queue.clear()

    def transmit(self, apdu: bytes) -> bytes:
        """Answer one command APDU, whatever its bytes are."""
        with self._lock:
            self.apdus += 1
            return self._answer(apdu).encode()

    def _answer(self, apdu: bytes) -> Response:
        try:
            part = Command.parse(apdu)
        except ApduError:
            return Response(b"", SW.WRONG_LENGTH)
        if part.cla & ~CHAINING:
            return Response(b"", SW.CLA_UNSUPPORTED)
        if not self.state.profile.extended_length and _is_extended(apdu, part):
            return Response(b"", SW.WRONG_LENGTH)
        if part.ins == INS.GET_RESPONSE:
            return self._queue.get_response(part.le)
        self._queue.clear()
        if part.ins not in (INS.VERIFY, INS.GENERAL_AUTHENTICATE):
            self._chip.session.pin_fresh = False
        command = self._chain.feed(part)
        if isinstance(command, Response):
            return command
        return self._queue.answer(self._carry_out(command), part.le)

    def _carry_out(self, command: Command) -> Response:
        handler = self._handlers.get(command.ins)
        if handler is None or not (self._chip.session.selected or command.ins == INS.SELECT):
            return Response(b"", SW.INS_UNSUPPORTED)
        try:
            return Response(handler(self._chip, command), SW.OK)
        except Refusal as refusal:
            return Response(b"", refusal.sw)

    def _select(self, chip: Chip, command: Command) -> bytes:
        """By identifier or its beginning. An unknown one leaves everything as it is (part 2 section 3.1.1)."""
        if (command.p1, command.p2) not in ((4, 0), (4, 0x0C)):
            raise Refusal(SW.INCORRECT_P1P2)
        if len(command.data) < piv_objects.MIN_AID or not piv_objects.AID.startswith(command.data):
            raise Refusal(SW.NOT_FOUND)
        chip.session.selected = True
        return piv_objects.application_property_template() if command.p2 == 0 else b""


def _is_extended(apdu: bytes, command: Command) -> bool:
    return len(apdu) > 5 and apdu[4] == 0 and bool(command.data or len(apdu) == 7)


__all__ = ["DEFAULT_MANAGEMENT_KEY", "DEFAULT_PIN", "DEFAULT_PUK", "CardProfile", "VirtualCard", "make_atr"]
