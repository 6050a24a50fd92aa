"""BER-TLV as smartcards use it (ISO/IEC 7816-4 section 5.2.2, X.690 section 8.1): bounded in depth and length.

Definite lengths only; tags of up to three bytes, lengths of up to three bytes after the first. Input is untrusted:
anything truncated, overlong or too deep raises `TlvError`, never an IndexError.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

MAX_LENGTH: Final = 1 << 16
MAX_DEPTH: Final = 8
MAX_ITEMS: Final = 1024


class TlvError(ValueError):
    """The bytes are not BER-TLV within the limits."""


@dataclass(frozen=True, slots=True)
class Tlv:
    """One data object. `tag` holds the tag's bytes as a big-endian number (0x53, 0x5FC105, 0x7F49)."""

    tag: int
    value: bytes

    @property
    def constructed(self) -> bool:
        first = self.tag
        while first > 0xFF:
            first >>= 8
        return bool(first & 0x20)

    def encode(self) -> bytes:
        return encode(self.tag, self.value)


def encode(tag: int, value: bytes) -> bytes:
    """Shortest definite-length encoding."""
    return tag.to_bytes((tag.bit_length() + 7) // 8 or 1, "big") + encode_length(len(value)) + value


def encode_length(length: int) -> bytes:
    if length < 0x80:
        return bytes([length])
    body = length.to_bytes((length.bit_length() + 7) // 8, "big")
    return bytes([0x80 | len(body)]) + body


def parse(data: bytes) -> list[Tlv]:
    """The data objects that fill `data` exactly, in order; not descended into."""
    return list(_items(data))


def parse_one(data: bytes) -> Tlv:
    """The single data object that fills `data` exactly."""
    items = parse(data)
    if len(items) != 1:
        raise TlvError(f"expected one data object, found {len(items)}")
    return items[0]


def find(data: bytes, *path: int) -> bytes | None:
    """The value at `path` (tags from the outside in), or None if a tag is absent. The first of equal tags wins."""
    if len(path) > MAX_DEPTH:
        raise TlvError("path deeper than the limit")
    value = data
    for tag in path:
        for item in _items(value):
            if item.tag == tag:
                value = item.value
                break
        else:
            return None
    return value


def walk(data: bytes, depth: int = 0) -> Iterator[tuple[int, Tlv]]:
    """Every data object with its depth, constructed ones descended into, at most `MAX_DEPTH` deep."""
    if depth >= MAX_DEPTH:
        raise TlvError("nested deeper than the limit")
    for item in _items(data):
        yield depth, item
        if item.constructed:
            yield from walk(item.value, depth + 1)


def _items(data: bytes) -> Iterator[Tlv]:
    if len(data) > MAX_LENGTH:
        raise TlvError("longer than the limit")
    offset = count = 0
    while offset < len(data):
        count += 1
        if count > MAX_ITEMS:
            raise TlvError("more data objects than the limit")
        tag, offset = _tag(data, offset)
        length, offset = _length(data, offset)
        if length > len(data) - offset:
            raise TlvError(f"tag {tag:X} claims {length} bytes, {len(data) - offset} are there")
        yield Tlv(tag, bytes(data[offset : offset + length]))
        offset += length


def _tag(data: bytes, offset: int) -> tuple[int, int]:
    if offset >= len(data):
        raise TlvError("tag missing")
    tag = data[offset]
    offset += 1
    if tag & 0x1F != 0x1F:
        return tag, offset
    for _ in range(2):
        if offset >= len(data):
            raise TlvError("tag truncated")
        tag = tag << 8 | data[offset]
        offset += 1
        if not data[offset - 1] & 0x80:
            return tag, offset
        # 5FC1xx of SP 800-73 keeps bit 8 of its second byte set and ends with its third
    return tag, offset


def _length(data: bytes, offset: int) -> tuple[int, int]:
    if offset >= len(data):
        raise TlvError("length missing")
    first = data[offset]
    offset += 1
    if first < 0x80:
        return first, offset
    count = first & 0x7F
    if count == 0 or count > 3:
        raise TlvError(f"length field {first:02X} is not allowed")
    if offset + count > len(data):
        raise TlvError("length truncated")
    length = int.from_bytes(data[offset : offset + count], "big")
    if length > MAX_LENGTH:
        raise TlvError("longer than the limit")
    return length, offset + count
