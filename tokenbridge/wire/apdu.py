"""Command and response APDUs, short and extended (ISO/IEC 7816-4 section 5), and the status words that matter here."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import IntEnum, unique
from typing import Final

MAX_SHORT_DATA: Final = 255
MAX_SHORT_LE: Final = 256
MAX_EXTENDED: Final = 65535
LE_ALL: Final = MAX_EXTENDED + 1
"""Everything there is: 256 bytes at a time in short APDUs, at once in an extended one."""
CHAINING: Final = 0x10
"""Class bit: more commands of this chain follow (section 5.3.3)."""


class ApduError(ValueError):
    """The bytes are not an APDU."""


@unique
class INS(IntEnum):
    """Instructions of ISO/IEC 7816-4 and NIST SP 800-73-4 part 2 that are used here."""

    VERIFY = 0x20
    CHANGE_REFERENCE_DATA = 0x24
    RESET_RETRY_COUNTER = 0x2C
    GENERATE_ASYMMETRIC = 0x47
    GENERAL_AUTHENTICATE = 0x87
    SELECT = 0xA4
    GET_RESPONSE = 0xC0
    GET_DATA = 0xCB
    PUT_DATA = 0xDB


@unique
class SW(IntEnum):
    """Status words. `63Cx`, `630x`, `61xx` and `6Cxx` are ranges: see `Response`."""

    OK = 0x9000
    NO_INFORMATION = 0x6300
    WRONG_LENGTH = 0x6700
    LAST_COMMAND_EXPECTED = 0x6883
    CHAINING_UNSUPPORTED = 0x6884
    SECURITY_NOT_SATISFIED = 0x6982
    AUTHENTICATION_BLOCKED = 0x6983
    CONDITIONS_NOT_SATISFIED = 0x6985
    WRONG_DATA = 0x6A80
    FUNCTION_UNSUPPORTED = 0x6A81
    NOT_FOUND = 0x6A82
    NOT_ENOUGH_MEMORY = 0x6A84
    INCORRECT_P1P2 = 0x6A86
    REFERENCE_NOT_FOUND = 0x6A88
    INS_UNSUPPORTED = 0x6D00
    CLA_UNSUPPORTED = 0x6E00
    UNKNOWN = 0x6F00


PIN_INSTRUCTIONS: Final = frozenset({INS.VERIFY, INS.CHANGE_REFERENCE_DATA, INS.RESET_RETRY_COUNTER})


@dataclass(frozen=True, slots=True)
class Command:
    """A command APDU. `le` is the number of bytes expected: None for none, 256 (short) or 65536 (extended) for all."""

    cla: int
    ins: int
    p1: int
    p2: int
    data: bytes = b""
    le: int | None = None

    @property
    def header(self) -> bytes:
        return bytes([self.cla, self.ins, self.p1, self.p2])

    def short(self) -> bytes:
        """Encoding with one-byte lengths; raises `ApduError` if it does not fit."""
        if len(self.data) > MAX_SHORT_DATA or (self.le or 0) > MAX_SHORT_LE:
            raise ApduError("does not fit a short APDU")
        body = bytes([len(self.data)]) + self.data if self.data else b""
        tail = b"" if self.le is None else bytes([self.le & 0xFF])
        return self.header + body + tail

    def extended(self) -> bytes:
        """Encoding with extended lengths."""
        if len(self.data) > MAX_EXTENDED or (self.le or 0) > MAX_EXTENDED + 1:
            raise ApduError("does not fit an extended APDU")
        tail = b"" if self.le is None else (self.le & 0xFFFF).to_bytes(2, "big")
        if not self.data:
            return self.header + (b"\0" + tail if tail else b"")
        return self.header + b"\0" + len(self.data).to_bytes(2, "big") + self.data + tail

    def with_le(self, le: int) -> Command:
        return replace(self, le=le)

    @classmethod
    def parse(cls, raw: bytes) -> Command:
        """Decode any of the seven cases of section 5.1; the device's side."""
        if len(raw) < 4:
            raise ApduError("shorter than a header")
        data, le = _body(raw[4:])
        return cls(raw[0], raw[1], raw[2], raw[3], data, le)


def _body(body: bytes) -> tuple[bytes, int | None]:
    if not body:
        return b"", None
    if len(body) == 1:
        return b"", body[0] or MAX_SHORT_LE
    if body[0] != 0:
        return _short_body(body)
    if len(body) == 3:
        return b"", int.from_bytes(body[1:3], "big") or MAX_EXTENDED + 1
    return _extended_body(body)


def _short_body(body: bytes) -> tuple[bytes, int | None]:
    length = body[0]
    rest = body[1 + length :]
    if len(body) < 1 + length or len(rest) > 1:
        raise ApduError("Lc does not match the data")
    return body[1 : 1 + length], (rest[0] or MAX_SHORT_LE) if rest else None


def _extended_body(body: bytes) -> tuple[bytes, int | None]:
    if len(body) < 3:
        raise ApduError("extended length truncated")
    length = int.from_bytes(body[1:3], "big")
    rest = body[3 + length :]
    if length == 0 or len(body) < 3 + length or len(rest) not in (0, 2):
        raise ApduError("extended Lc does not match the data")
    return body[3 : 3 + length], (int.from_bytes(rest, "big") or MAX_EXTENDED + 1) if rest else None


@dataclass(frozen=True, slots=True)
class Response:
    """A response APDU: data and status word."""

    data: bytes
    sw: int

    @classmethod
    def parse(cls, raw: bytes) -> Response:
        if len(raw) < 2:
            raise ApduError("shorter than a status word")
        return cls(raw[:-2], int.from_bytes(raw[-2:], "big"))

    def encode(self) -> bytes:
        return self.data + self.sw.to_bytes(2, "big")

    @property
    def ok(self) -> bool:
        return self.sw == SW.OK

    @property
    def sw1(self) -> int:
        return self.sw >> 8

    @property
    def sw2(self) -> int:
        return self.sw & 0xFF

    @property
    def more(self) -> int | None:
        """Bytes still to fetch by GET RESPONSE (256 for "256 or more"), None if `sw` is not 61xx."""
        return (self.sw2 or MAX_SHORT_LE) if self.sw1 == 0x61 else None

    @property
    def right_le(self) -> int | None:
        """The Le that the card wants, None if `sw` is not 6Cxx."""
        return (self.sw2 or MAX_SHORT_LE) if self.sw1 == 0x6C else None

    @property
    def tries_left(self) -> int | None:
        """Tries left after VERIFY: 63Cx, and 630x of some cards; 0 when blocked; None if `sw` says nothing on it."""
        if self.sw == SW.AUTHENTICATION_BLOCKED:
            return 0
        if self.sw & 0xFFF0 == 0x63C0:
            return self.sw & 0xF
        if self.sw & 0xFFF0 == 0x6300 and self.sw != SW.NO_INFORMATION:
            return self.sw & 0xF
        return None


def masked(raw: bytes) -> bytes:
    """`raw` as a trace may show it: the data field of PIN commands, chained or not, is overwritten with FF."""
    if len(raw) > 4 and raw[1] in PIN_INSTRUCTIONS:
        return raw[:5] + b"\xff" * (len(raw) - 5)
    return raw


def parse_or_none(raw: bytes) -> Command | None:
    """The command, or None where `raw` is not one: for tracing, which must not fail."""
    try:
        return Command.parse(raw)
    except ApduError:
        return None
