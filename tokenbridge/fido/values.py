"""What a key answers, taken as what it must be or refused as `BadKeyData`. A key may say anything: all is bounded."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from tokenbridge.errors import BadKeyData
from tokenbridge.interaction import one_line

MAX_TEXT: Final = 64
MAX_OCTETS: Final = 8192
"""More than any CTAPHID message holds (CTAP 2.1 section 11.2.4)."""


def octets(value: Any) -> bytes:
    """A byte string; a number, of which Python would make that many zeros, is none."""
    if not isinstance(value, bytes) or len(value) > MAX_OCTETS:
        raise BadKeyData(detail=f"{type(value).__name__} in place of bytes")
    return value


def count(value: Any, limit: int) -> int:
    """A number from 0 to `limit`."""
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= limit:
        raise BadKeyData(detail=f"{repr(value)[:MAX_TEXT]} in place of a number up to {limit}")
    return value


def text(value: Any) -> str:
    """A name for the eye, on one printable line; empty when there is none."""
    return one_line(value[:MAX_TEXT]) if isinstance(value, str) else ""


def members(value: Any) -> Mapping[Any, Any]:
    """A map; empty when it is left out."""
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise BadKeyData(detail=f"{type(value).__name__} in place of a map")
    return value
