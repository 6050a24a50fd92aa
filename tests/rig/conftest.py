"""Cards in memory and the little that a host needs to talk to them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pytest

from tokenbridge.rig import piv_crypto
from tokenbridge.rig.card_state import DEFAULT_MANAGEMENT_KEY
from tokenbridge.rig.virtual_card import CardProfile, VirtualCard
from tokenbridge.wire import tlv
from tokenbridge.wire.apdu import INS, Command, Response
from tokenbridge.wire.chaining import run

PIV = bytes.fromhex("A00000030800001000")


@dataclass
class Host:
    """Speaks to one card as a program would, by short APDUs unless told otherwise."""

    card: VirtualCard
    extended: bool = False

    def send(self, ins: int, p1: int, p2: int, data: bytes = b"", *, le: int | None = 65536) -> Response:
        return run(Command(0, ins, p1, p2, data, le), self.card.transmit, extended=self.extended)

    def select(self) -> Response:
        return self.send(INS.SELECT, 4, 0, PIV)

    def verify(self, pin: bytes = b"123456", ref: int = 0x80) -> int:
        return self.send(INS.VERIFY, 0, ref, pad(pin), le=None).sw

    def tries(self, ref: int = 0x80) -> int:
        return self.send(INS.VERIFY, 0, ref, le=None).sw

    def get(self, tag: int) -> Response:
        name = tag.to_bytes((tag.bit_length() + 7) // 8, "big")
        return self.send(INS.GET_DATA, 0x3F, 0xFF, tlv.encode(0x5C, name))

    def put(self, tag: int, content: bytes) -> int:
        name = tag.to_bytes(3, "big")
        data = tlv.encode(0x5C, name) + tlv.encode(0x53, content)
        return self.send(INS.PUT_DATA, 0x3F, 0xFF, data, le=None).sw

    def authenticate(self, algorithm: int, ref: int, *items: tuple[int, bytes]) -> Response:
        body = b"".join(tlv.encode(tag, value) for tag, value in items)
        return self.send(INS.GENERAL_AUTHENTICATE, algorithm, ref, tlv.encode(0x7C, body))

    def sign(self, algorithm: int, ref: int, block: bytes) -> Response:
        return self.authenticate(algorithm, ref, (0x82, b""), (0x81, block))

    def manage(self, key: bytes = DEFAULT_MANAGEMENT_KEY, algorithm: int = 0x03) -> int:
        """External authentication with the management key."""
        asked = self.authenticate(algorithm, 0x9B, (0x81, b""))
        challenge = tlv.find(asked.data, 0x7C, 0x81)
        assert challenge is not None
        return self.authenticate(algorithm, 0x9B, (0x82, piv_crypto.encrypt_block(algorithm, key, challenge))).sw


def pad(pin: bytes) -> bytes:
    return pin.ljust(8, b"\xff")


@pytest.fixture
def make_host() -> Callable[..., Host]:
    def make(*, selected: bool = True, extended: bool = False, **profile: object) -> Host:
        card = VirtualCard.create(profile=CardProfile(extended_length=extended, **profile))
        host = Host(card, extended)
        if selected:
            assert host.select().ok
        return host

    return make


@pytest.fixture
def host(make_host: Callable[..., Host]) -> Host:
    return make_host()
