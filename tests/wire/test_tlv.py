"""BER-TLV: exact bytes, limits, and that no input escapes as anything but TlvError."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokenbridge.wire import tlv
from tokenbridge.wire.tlv import Tlv, TlvError


@pytest.mark.parametrize(
    ("tag", "value", "encoded"),
    [
        (0x53, b"", "5300"),
        (0x5C, bytes.fromhex("5fc102"), "5c035fc102"),
        (0x5FC105, b"\x01", "5fc1050101"),
        (0x7F49, b"\xab" * 128, "7f498180" + "ab" * 128),
        (0x70, b"\0" * 256, "70820100" + "00" * 256),
    ],
)
def test_encoding_is_shortest_and_decodes_again(tag: int, value: bytes, encoded: str) -> None:
    assert tlv.encode(tag, value).hex() == encoded
    assert tlv.parse(bytes.fromhex(encoded)) == [Tlv(tag, value)]


def test_find_follows_a_path_and_tells_absent_from_empty() -> None:
    data = bytes.fromhex("7e124f0ba0000003080000100001005f2f024010")
    assert tlv.find(data, 0x7E, 0x5F2F) == b"\x40\x10"
    assert tlv.find(data, 0x7E, 0x50) is None
    assert tlv.find(b"\x53\x00", 0x53) == b""


@pytest.mark.parametrize(
    "bad",
    ["53", "5f", "5fc1", "5302aa", "5380", "5384000000", "5383", "53830100", "5383020000", "7f"],
    ids=["no length", "tag cut", "tag cut in its third byte", "value cut", "indefinite", "four length bytes",
         "length missing", "length cut", "longer than allowed", "tag of one byte only"],
)  # fmt: skip
def test_damaged_input_is_refused(bad: str) -> None:
    with pytest.raises(TlvError):
        tlv.parse(bytes.fromhex(bad))


def test_nesting_is_bounded() -> None:
    data = b""
    for _ in range(tlv.MAX_DEPTH + 1):
        data = tlv.encode(0x7C, data)
    with pytest.raises(TlvError, match="deeper"):
        list(tlv.walk(data))


def test_number_of_objects_is_bounded() -> None:
    with pytest.raises(TlvError, match="more data objects"):
        tlv.parse(b"\x53\x00" * (tlv.MAX_ITEMS + 1))


@given(st.binary(max_size=300))
def test_any_input_parses_or_is_refused(data: bytes) -> None:
    try:
        items = tlv.parse(data)
        list(tlv.walk(data))
    except TlvError:
        return
    for item in items:
        assert tlv.parse(item.encode()) == [item]


@given(st.lists(st.tuples(st.sampled_from([0x53, 0x70, 0x71, 0xFE, 0x5FC102, 0x7F49]), st.binary(max_size=300))))
def test_what_was_encoded_comes_back(objects: list[tuple[int, bytes]]) -> None:
    data = b"".join(tlv.encode(tag, value) for tag, value in objects)
    assert [(item.tag, item.value) for item in tlv.parse(data)] == objects
