"""APDUs: the encodings of ISO/IEC 7816-4 section 5.1, status words, masking."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokenbridge.wire.apdu import LE_ALL, SW, ApduError, Command, Response, masked


@pytest.mark.parametrize(
    ("command", "short", "extended"),
    [
        (Command(0, 0x20, 0, 0x80), "00200080", "00200080"),
        (Command(0, 0xC0, 0, 0, le=256), "00c0000000", "00c00000000100"),
        (Command(0, 0xC0, 0, 0, le=20), "00c0000014", "00c00000000014"),
        (Command(0, 0x20, 0, 0x80, b"12"), "00200080023132", "002000800000023132"),
        (Command(0, 0xCB, 0x3F, 0xFF, b"\x5c\x01\x7e", 256), "00cb3fff035c017e00", "00cb3fff0000035c017e0100"),
        (Command(0, 0xCB, 0x3F, 0xFF, b"\x7e", LE_ALL), None, "00cb3fff0000017e0000"),
        (Command(0, 0x87, 7, 0x9A, b"\0" * 256), None, "0087079a000100" + "00" * 256),
    ],
)
def test_encodings(command: Command, short: str | None, extended: str) -> None:
    if short is None:
        with pytest.raises(ApduError):
            command.short()
    else:
        assert command.short().hex() == short
        assert Command.parse(bytes.fromhex(short)) == command
    assert command.extended().hex() == extended
    assert Command.parse(bytes.fromhex(extended)) == command


@pytest.mark.parametrize(
    "bad", ["", "00a404", "00a4040005aa", "00a4040002aabbccdd", "00a404000000", "00a40400000002aa"]
)
def test_what_is_no_apdu_is_refused(bad: str) -> None:
    with pytest.raises(ApduError):
        Command.parse(bytes.fromhex(bad))


@given(st.binary(max_size=300))
def test_any_bytes_parse_to_what_encodes_the_same_or_are_refused(raw: bytes) -> None:
    try:
        command = Command.parse(raw)
    except ApduError:
        return
    assert raw in _encodings(command)


def _encodings(command: Command) -> list[bytes]:
    encodings = [command.extended()]
    with contextlib.suppress(ApduError):
        encodings.append(command.short())
    return encodings


@pytest.mark.parametrize(
    ("sw", "tries"),
    [
        (0x63C3, 3),
        (0x63C0, 0),
        (0x6303, 3),
        (0x6300, None),
        (0x6983, 0),
        (0x9000, None),
        (0x6982, None),
        (0x63D1, None),
    ],
)
def test_tries_left_of_both_families(sw: int, tries: int | None) -> None:
    assert Response(b"", sw).tries_left == tries


def test_more_data_and_right_length() -> None:
    assert Response(b"", 0x6100).more == 256
    assert Response(b"", 0x6110).more == 16
    assert Response(b"", 0x6C20).right_le == 32
    assert Response(b"", SW.OK).more is None


@pytest.mark.parametrize("ins", [0x20, 0x24, 0x2C])
@pytest.mark.parametrize("cla", [0x00, 0x10])
def test_pin_bytes_are_masked_also_in_a_chain(ins: int, cla: int) -> None:
    raw = bytes([cla, ins, 0, 0x80, 8]) + b"123456\xff\xff"
    assert b"1234" not in masked(raw)
    assert masked(raw)[:5] == raw[:5]
    assert len(masked(raw)) == len(raw)


def test_other_commands_are_shown() -> None:
    raw = bytes.fromhex("00cb3fff055c035fc10200")
    assert masked(raw) == raw


def test_response_without_status_is_refused() -> None:
    with pytest.raises(ApduError):
        Response.parse(b"\x90")
