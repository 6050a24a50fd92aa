"""CBOR as CTAP2 allows it (CTAP 2.1 section 8): strict in what is read, canonical in what is written.

Reading refuses everything the canonical form does not have: indefinite lengths, tags, integers or lengths not in their
shortest form, map keys out of order or twice, more than four levels, bytes left over.
"""

from __future__ import annotations

from typing import Any, Final, TypeAlias

from fido2 import cbor as fido2_cbor

from tokenbridge.authenticator.status import Refusal, Status

Value: TypeAlias = Any
"""int, bytes, str, bool, None, and lists and dicts of them."""

MAX_DEPTH: Final = 4
"""Section 8: levels of maps and arrays, taken together."""

_UNSIGNED, _NEGATIVE, _BYTES, _TEXT, _ARRAY, _MAP, _TAG, _SIMPLE = range(8)
_SIMPLE_VALUES: Final[dict[int, bool | None]] = {20: False, 21: True, 22: None}
_ONE_BYTE: Final = 24
"""Additional information that says: the argument is in the next byte (RFC 8949 section 3)."""
_FLOATS: Final = (25, 26, 27)
_SMALLEST: Final = {24: 24, 25: 1 << 8, 26: 1 << 16, 27: 1 << 32}
"""The smallest argument for which each longer form may be used."""


def encode(value: Value) -> bytes:
    """Canonical CBOR of values that this program made itself."""
    return fido2_cbor.encode(value)


def decode(data: bytes) -> Value:
    """The single value in `data`. Raises `Refusal` with INVALID_CBOR or CBOR_UNEXPECTED_TYPE."""
    reader = _Reader(data)
    value = reader.value(0)
    if reader.position != len(data):
        raise Refusal(Status.INVALID_CBOR)
    return value


class _Reader:
    """Reads values from `data` at `position`. Recursion ends at `MAX_DEPTH`; counts never allocate in advance."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.position = 0

    def value(self, depth: int) -> Value:
        kind, argument = self._head()
        match kind:
            case 0:
                return argument
            case 1:
                return -1 - argument
            case 2:
                return self._take(argument)
            case 3:
                return self._text(argument)
            case 4 | 5:
                return self._container(kind, argument, depth + 1)
            case _:
                return self._simple(argument)

    def _head(self) -> tuple[int, int]:
        first = self._take(1)[0]
        kind, short = first >> 5, first & 0x1F
        if kind == _TAG or short > _FLOATS[-1]:
            raise Refusal(Status.INVALID_CBOR)
        if kind == _SIMPLE and short in _FLOATS:
            raise Refusal(Status.CBOR_UNEXPECTED_TYPE)
        if short < _ONE_BYTE:
            return kind, short
        argument = int.from_bytes(self._take(1 << (short - _ONE_BYTE)), "big")
        if argument < _SMALLEST[short]:
            raise Refusal(Status.INVALID_CBOR)
        return kind, argument

    def _take(self, count: int) -> bytes:
        end = self.position + count
        if end > len(self._data):
            raise Refusal(Status.INVALID_CBOR)
        taken = self._data[self.position : end]
        self.position = end
        return taken

    def _text(self, count: int) -> str:
        try:
            return self._take(count).decode("utf-8")
        except UnicodeDecodeError as err:
            raise Refusal(Status.INVALID_CBOR) from err

    def _simple(self, argument: int) -> Value:
        if argument not in _SIMPLE_VALUES:
            raise Refusal(Status.INVALID_CBOR)
        return _SIMPLE_VALUES[argument]

    def _container(self, kind: int, count: int, depth: int) -> Value:
        if depth > MAX_DEPTH or count > len(self._data) - self.position:
            raise Refusal(Status.INVALID_CBOR)
        if kind == _ARRAY:
            return [self.value(depth) for _ in range(count)]
        return self._map(count, depth)

    def _map(self, count: int, depth: int) -> dict[Value, Value]:
        """Keys are integers or texts, in ascending order: by type, then by length, then by bytes (section 8)."""
        entries: dict[Value, Value] = {}
        before: tuple[int, int, bytes] | None = None
        for _ in range(count):
            start = self.position
            key = self.value(depth)
            if isinstance(key, bool) or not isinstance(key, (int, str)):
                raise Refusal(Status.CBOR_UNEXPECTED_TYPE)
            raw = self._data[start : self.position]
            order = (raw[0] >> 5, len(raw), raw)
            if before is not None and order <= before:
                raise Refusal(Status.INVALID_CBOR)
            before = order
            entries[key] = self.value(depth)
        return entries
