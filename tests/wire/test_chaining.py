"""Chaining, GET RESPONSE and 6Cxx: the whole dialogue, byte by byte, and its limits."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokenbridge.wire import chaining
from tokenbridge.wire.apdu import LE_ALL, SW, Command, Response
from tokenbridge.wire.chaining import CommandAssembler, EndlessResponse, ResponseQueue


class Script:
    """Plays a card: pairs of expected command and answer."""

    def __init__(self, *pairs: tuple[str, str]) -> None:
        self._pairs = list(pairs)

    def __call__(self, raw: bytes) -> bytes:
        expected, answer = self._pairs.pop(0)
        assert raw.hex() == expected
        return bytes.fromhex(answer)

    def done(self) -> bool:
        return not self._pairs


def test_long_data_is_chained_and_only_the_last_part_asks() -> None:
    command = Command(0, 0x87, 7, 0x9A, bytes(300), LE_ALL)
    script = Script(
        ("1087079aff" + "00" * 255, "9000"),  # first part: chaining bit, no Le
        ("0087079a2d" + "00" * 45 + "00", "aabb9000"),
    )
    assert chaining.run(command, script) == Response(b"\xaa\xbb", SW.OK)
    assert script.done()


def test_a_refused_part_ends_the_chain() -> None:
    script = Script(("1087079aff" + "00" * 255, "6884"))
    assert chaining.run(Command(0, 0x87, 7, 0x9A, bytes(300)), script).sw == 0x6884


def test_get_response_gathers_everything() -> None:
    script = Script(
        ("00cb3fff035c017e00", "0102" + "6103"),
        ("00c0000003", "0304" + "6101"),
        ("00c0000001", "05" + "9000"),
    )
    response = chaining.run(Command(0, 0xCB, 0x3F, 0xFF, b"\x5c\x01\x7e", LE_ALL), script)
    assert response == Response(b"\1\2\3\4\5", SW.OK)
    assert script.done()


def test_wrong_le_is_corrected_once() -> None:
    script = Script(("00cb3fff035c017e00", "6c05"), ("00cb3fff035c017e05", "01020304059000"))
    response = chaining.run(Command(0, 0xCB, 0x3F, 0xFF, b"\x5c\x01\x7e", 256), script)
    assert response == Response(b"\1\2\3\4\5", SW.OK)


def test_wrong_le_of_a_chained_command_repeats_the_last_part_only() -> None:
    script = Script(
        ("1087079aff" + "00" * 255, "9000"),
        ("0087079a010000", "6c02"),
        ("0087079a010002", "aabb9000"),
    )
    assert chaining.run(Command(0, 0x87, 7, 0x9A, bytes(256), LE_ALL), script).data == b"\xaa\xbb"


def test_extended_length_is_used_where_it_saves_something() -> None:
    script = Script(("00cb3fff0000035c017e0000", "019000"))
    assert chaining.run(Command(0, 0xCB, 0x3F, 0xFF, b"\x5c\x01\x7e", LE_ALL), script, extended=True).ok
    script = Script(("0020008006313233343536", "9000"))
    assert chaining.run(Command(0, 0x20, 0, 0x80, b"123456"), script, extended=True).ok


def test_a_card_that_never_ends_is_stopped() -> None:
    with pytest.raises(EndlessResponse):
        chaining.run(Command(0, 0xCB, 0x3F, 0xFF, b"\x7e", LE_ALL), lambda _: b"\0" * 256 + b"\x61\x00")
    with pytest.raises(EndlessResponse):
        chaining.run(Command(0, 0xCB, 0x3F, 0xFF, b"\x7e", LE_ALL), lambda _: b"\x61\x01")


@given(st.binary(max_size=2000), st.integers(1, 256))
def test_host_and_device_side_agree(data: bytes, le: int) -> None:
    """An echo card behind our device side gives our host side back what it sent."""
    assembler, queue = CommandAssembler(), ResponseQueue()

    def card(raw: bytes) -> bytes:
        command = Command.parse(raw)
        if command.ins == 0xC0:
            return queue.get_response(command.le).encode()
        whole = assembler.feed(command)
        if isinstance(whole, Response):
            return whole.encode()
        return queue.answer(Response(whole.data, SW.OK), le).encode()

    assert chaining.run(Command(0, 0x10, 0, 0, data, LE_ALL), card).data == data


def test_assembler_refuses_a_command_in_the_middle_of_anothers_chain() -> None:
    assembler = CommandAssembler()
    assert assembler.feed(Command(0x10, 0x87, 7, 0x9A, b"a")) == Response(b"", SW.OK)
    other = assembler.feed(Command(0, 0xCB, 0x3F, 0xFF, b"b"))
    assert isinstance(other, Command)
    assert other.data == b"b"


def test_assembler_is_bounded() -> None:
    assembler = CommandAssembler(limit=300)
    assert assembler.feed(Command(0x10, 0x87, 7, 0x9A, b"a" * 255)) == Response(b"", SW.OK)
    assert assembler.feed(Command(0x10, 0x87, 7, 0x9A, b"a" * 255)) == Response(b"", SW.WRONG_LENGTH)


def test_nothing_to_fetch() -> None:
    assert ResponseQueue().get_response(256).sw == SW.CONDITIONS_NOT_SATISFIED
