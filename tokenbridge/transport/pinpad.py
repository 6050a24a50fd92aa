"""PIN entry on the reader: PC/SC part 10 structures, encoded and decoded. Pure; the control call is made in `pcsc`."""

from __future__ import annotations

import struct
from enum import IntEnum, unique
from typing import Final

FEATURE_REQUEST_CODE: Final = 3400
"""CM_IOCTL_GET_FEATURE_REQUEST is `SCARD_CTL_CODE(3400)` (part 10 section 2.2)."""
MAX_FEATURES: Final = 64
SECONDS_TO_TYPE: Final = 30

FORMAT_ASCII_LEFT_BYTES: Final = 0x82
"""bmFormatString: system units are bytes, PIN at offset 0, left justified, ASCII."""
VALIDATE_BY_KEY: Final = 0x02


@unique
class Feature(IntEnum):
    """Features that are used here (part 10 section 2.3)."""

    VERIFY_PIN_DIRECT = 0x06


@unique
class PadStatus(IntEnum):
    """Status words that the reader, not the card, gives (part 10 section 2.5.2)."""

    TIMED_OUT = 0x6400
    CANCELLED = 0x6401
    WRONG_LENGTH = 0x6403


def parse_features(data: bytes) -> dict[int, int]:
    """Feature tag -> control code from the answer to the feature request; what does not fit the format is ignored."""
    features: dict[int, int] = {}
    for offset in range(0, min(len(data), MAX_FEATURES * 6), 6):
        entry = data[offset : offset + 6]
        if len(entry) == 6 and entry[1] == 4:
            features[entry[0]] = int.from_bytes(entry[2:], "big")
    return features


def verify_structure(template: bytes, *, min_length: int, max_length: int) -> bytes:
    """PIN_VERIFY_STRUCTURE (part 10 section 2.5.2) around the VERIFY APDU `template`; little-endian, packed."""
    block = template[4]
    return (
        struct.pack(
            "<BBBBBHBBHB3sI",
            SECONDS_TO_TYPE,
            SECONDS_TO_TYPE,
            FORMAT_ASCII_LEFT_BYTES,
            block,  # bmPINBlockString: no length field in the block, its size in bytes
            0,  # bmPINLengthFormat: the APDU holds no PIN length
            min_length << 8 | max_length,
            VALIDATE_BY_KEY,
            0xFF,  # bNumberMessage: the reader's default
            0x0409,
            0,
            b"\0\0\0",
            len(template),
        )
        + template
    )
