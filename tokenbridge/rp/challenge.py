"""The challenge of one sign-in: a nonce bound to one origin for five minutes. Single use is the caller's to enforce.

No randomness and no clock here: both come in as parameters.
"""

from __future__ import annotations

from base64 import b64encode
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from tokenbridge.errors import Rejected, RejectReason

NONCE_BYTES: Final = 32
LIFETIME: Final = timedelta(minutes=5)


@dataclass(frozen=True, slots=True, kw_only=True)
class Challenge:
    """`nonce` is the base64 text (44 characters) that is sent and, as text, signed; times are aware UTC."""

    nonce: str
    origin: str
    issued_at: datetime
    expires_at: datetime


def new_challenge(*, random: bytes, origin: str, now: datetime, ttl: timedelta = LIFETIME) -> Challenge:
    """A challenge from 32 bytes of the caller's cryptographic randomness. ValueError on any other length."""
    if len(random) != NONCE_BYTES:
        raise ValueError(f"a nonce takes exactly {NONCE_BYTES} random bytes")
    if now.tzinfo is None:
        raise ValueError("the time must carry its time zone")
    return Challenge(nonce=b64encode(random).decode("ascii"), origin=origin, issued_at=now, expires_at=now + ttl)


def check(challenge: Challenge, now: datetime) -> None:
    """Raises Rejected(CHALLENGE_EXPIRED) from the moment of expiry on, and for a clock set back before the issue."""
    if not challenge.issued_at <= now < challenge.expires_at:
        raise Rejected(
            RejectReason.CHALLENGE_EXPIRED,
            "The sign-in took too long. Nothing was accepted.",
            detail=f"issued {challenge.issued_at.isoformat()}, checked {now.isoformat()}",
        )
