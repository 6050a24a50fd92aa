"""CBOR from strangers: its form is checked within limits before python-fido2 decodes it. It gives data no meaning.

CTAP 2.1 section 8 (canonical form) is what keys send: definite lengths, no tags, no floating point.
Order of map keys and shortest integers are not insisted on; what could be read in two ways is.
"""

from __future__ import annotations

from typing import Any, Final

from fido2 import cbor

MAX_DEPTH: Final = 8
MAX_ITEMS: Final = 512
MAX_BYTES: Final = 16_384

_WIDTHS: Final = {24: 1, 25: 2, 26: 4, 27: 8}
_FALSE, _TRUE = 0xF4, 0xF5


class CborError(ValueError):
    """The bytes are no CBOR that is accepted here. Does not leave `rp`."""


def decode(data: bytes) -> Any:
    """The one item that fills `data`. Raises `CborError`."""
    value, end = decode_first(data)
    if end != len(data):
        raise CborError(f"{len(data) - end} bytes after the item")
    return value


def decode_first(data: bytes) -> tuple[Any, int]:
    """The first item of `data` and how long it is. Raises `CborError`."""
    end = _Walk(data).item(0, 0)
    value, _ = cbor.decode_from(data[:end])
    return value, end


class _Walk:
    """Measures one item without building it."""

    def __init__(self, data: bytes) -> None:
        if len(data) > MAX_BYTES:
            raise CborError("longer than the limit")
        self._data = data
        self._items = 0

    def item(self, start: int, depth: int) -> int:
        """The offset after the item at `start`."""
        self._items += 1
        if depth > MAX_DEPTH or self._items > MAX_ITEMS:
            raise CborError("nested deeper, or more items, than the limit")
        kind, argument, at = self._head(start)
        match kind:
            case 0 | 1:
                return at
            case 2 | 3:
                return self._text(at, argument, utf8=kind == 3)
            case 4:
                return self._array(at, argument, depth)
            case 5:
                return self._map(at, argument, depth)
            case _:
                raise CborError("tags, floating point and other simple values are not accepted")

    def _head(self, start: int) -> tuple[int, int, int]:
        """Major type, argument and the offset after both (RFC 8949 section 3)."""
        if start >= len(self._data):
            raise CborError("truncated")
        first = self._data[start]
        if first in (_FALSE, _TRUE):
            return 0, 0, start + 1
        kind, low = first >> 5, first & 0x1F
        if low < 24:
            return kind, low, start + 1
        end = start + 1 + _WIDTHS.get(low, len(self._data))
        if end > len(self._data):
            raise CborError("truncated, or of indefinite length")
        return kind, int.from_bytes(self._data[start + 1 : end], "big"), end

    def _text(self, at: int, length: int, *, utf8: bool) -> int:
        if length > len(self._data) - at:
            raise CborError("truncated")
        if utf8:
            try:
                self._data[at : at + length].decode("utf-8")
            except UnicodeDecodeError as err:
                raise CborError("text is not UTF-8") from err
        return at + length

    def _array(self, at: int, count: int, depth: int) -> int:
        for _ in range(min(count, MAX_ITEMS + 1)):
            at = self.item(at, depth + 1)
        return at

    def _map(self, at: int, count: int, depth: int) -> int:
        seen: set[tuple[int, int | bytes]] = set()
        for _ in range(min(count, MAX_ITEMS + 1)):
            if at < len(self._data) and self._data[at] >> 5 > 3:
                raise CborError("a map's keys are numbers or text")
            end = self.item(at, depth + 1)
            kind, argument, content = self._head(at)
            # By value: one number, or the length of one text, can be written in several widths.
            key = (kind, argument if kind < 2 else self._data[content:end])
            if key in seen:
                raise CborError("two equal keys in one map")
            seen.add(key)
            at = self.item(end, depth + 1)
        return at
