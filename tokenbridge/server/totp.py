"""Codes of authenticator apps (RFC 6238): making a secret, and which time step a code belongs to. It stores nothing."""

from __future__ import annotations

import datetime as dt
import hashlib
import hmac
from collections.abc import Callable
from typing import Any, Final

import pyotp

PERIOD: Final = 30
DIGITS: Final = 6
DIGESTS: Final[dict[str, Callable[..., Any]]] = {"sha1": hashlib.sha1, "sha256": hashlib.sha256}
"""Some apps ignore what the URI says and always use SHA-1, which is sound in HMAC: hence that is the default."""
DRIFT: Final = (0, -1, 1)
"""One step of clock drift to each side (RFC 6238 section 5.2)."""


def new_secret() -> str:
    """160 random bits in base32, as RFC 4226 section 4 recommends."""
    return pyotp.random_base32()


def uri(secret: str, *, username: str, issuer: str, algorithm: str = "sha1") -> str:
    """The `otpauth:` URI that apps read from a QR code."""
    return pyotp.TOTP(secret, digest=DIGESTS[algorithm]).provisioning_uri(name=username, issuer_name=issuer)


def step_of(secret: str, code: str, now: dt.datetime, algorithm: str = "sha1") -> int | None:
    """The time step that `code` is right for, the nearest first; None when it is wrong."""
    given = code.replace(" ", "").encode("utf-8", "surrogatepass")
    here = int(now.timestamp()) // PERIOD
    generator = pyotp.HOTP(secret, digits=DIGITS, digest=DIGESTS[algorithm])
    for drift in DRIFT:
        if hmac.compare_digest(generator.at(here + drift).encode(), given):
            return here + drift
    return None


def context(account_id: int) -> str:
    """Where an encrypted secret belongs; see `KeyRing.encrypt`."""
    return f"totp:{account_id}"
