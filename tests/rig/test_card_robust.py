"""Whatever bytes come, the card answers with a status word, and gives nothing away."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from tokenbridge.rig.piv_crypto import Algorithm
from tokenbridge.rig.piv_objects import Tag
from tokenbridge.rig.virtual_card import CardProfile, VirtualCard, make_atr
from tokenbridge.wire.apdu import Command, Response

from .conftest import PIV, Host

INSTRUCTIONS = [0x20, 0x24, 0x2C, 0x47, 0x87, 0xA4, 0xC0, 0xCB, 0xDB, 0xF7, 0xF8, 0xFA, 0xFB, 0xFD, 0xFE, 0xFF]
REFERENCES = [0x00, 0x80, 0x81, 0x9A, 0x9B, 0x9C, 0x9E, 0xFF]
FRAGMENTS = [b"\x7c", b"\x82\x00", b"\x81", b"\x80\x00", b"\x5c\x03\x5f\xc1\x02", b"\x53", b"\xac", b"\x84\xff\xff\xff"]


def _card(extended: bool) -> VirtualCard:
    card = VirtualCard.create(profile=CardProfile(extended_length=extended))
    card.generate(0x9A, Algorithm.P256)
    card.put_object(Tag.PRINTED, b"private words")
    card.transmit(Command(0, 0xA4, 4, 0, PIV).short())
    return card


payload = st.one_of(
    st.binary(max_size=300), st.lists(st.one_of(st.sampled_from(FRAGMENTS), st.binary(max_size=20))).map(b"".join)
)
near_apdu = st.builds(
    lambda cla, ins, p1, p2, data, tail: bytes([cla, ins, p1, p2, len(data) & 0xFF]) + data[:255] + tail,
    st.sampled_from([0, 0, 0, 0x10, 0x80]),
    st.sampled_from(INSTRUCTIONS),
    st.integers(0, 255) | st.sampled_from([0, 4, 0x3F, 0x11]),
    st.integers(0, 255) | st.sampled_from(REFERENCES),
    payload,
    st.binary(max_size=3),
)


@settings(max_examples=150, deadline=None)
@given(st.booleans(), st.lists(st.one_of(st.binary(max_size=600), near_apdu), max_size=12))
def test_any_bytes_get_an_answer(extended: bool, commands: list[bytes]) -> None:
    card = _card(extended)
    for apdu in commands:
        answer = Response.parse(card.transmit(apdu))
        assert answer.sw1 in (0x61, 0x63, 0x67, 0x68, 0x69, 0x6A, 0x6D, 0x6E, 0x90)
        assert b"private words" not in answer.data
    assert card.apdus == len(commands) + 1


def test_endless_chain_is_cut_off() -> None:
    card = _card(extended=False)
    part = Command(0x10, 0xDB, 0x3F, 0xFF, bytes(255)).short()
    words = {Response.parse(card.transmit(part)).sw for _ in range(100)}
    assert words == {0x9000, 0x6700}


def test_get_response_without_anything_to_give(host: Host) -> None:
    assert host.send(0xC0, 0, 0).sw == 0x6985


def test_a_new_command_drops_the_rest_of_the_old_answer(host: Host) -> None:
    host.card.install_certificate(0x9A, bytes(600))
    first = Response.parse(host.card.transmit(bytes.fromhex("00CB3FFF055C035FC10500")))
    assert first.sw == 0x6100
    assert host.tries() == 0x63C3
    assert Response.parse(host.card.transmit(bytes.fromhex("00C0000000"))).sw == 0x6985


def test_extended_apdu_on_a_short_card(host: Host) -> None:
    raw = Command(0, 0xCB, 0x3F, 0xFF, bytes.fromhex("5C017E"), 65536).extended()
    assert Response.parse(host.card.transmit(raw)).sw == 0x6700


def test_answer_to_reset_has_a_right_check_byte() -> None:
    for extended in (False, True):
        check = 0
        for byte in make_atr(extended=extended)[1:]:
            check ^= byte
        assert check == 0
        assert len(make_atr(extended=extended)) <= 33
