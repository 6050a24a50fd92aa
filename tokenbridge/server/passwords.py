"""Password hashes by argon2id. Asking for an unknown person costs the same work as for a known one."""

from __future__ import annotations

from functools import cache

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError
from argon2.profiles import RFC_9106_LOW_MEMORY

from tokenbridge.errors import BadRequest

MIN_LENGTH = 8  # SP 800-63B-4 section 3.1.1.2, password as one of two factors
MAX_LENGTH = 1024

_hasher = PasswordHasher.from_parameters(RFC_9106_LOW_MEMORY)


def hash_password(password: str) -> str:
    """An encoded argon2id hash. Raises `BadRequest` when the password is too short or too long."""
    if not MIN_LENGTH <= len(password) <= MAX_LENGTH:
        raise BadRequest(f"A password has {MIN_LENGTH} to {MAX_LENGTH} characters.", next_step="Choose another one.")
    return _hasher.hash(password)


def verify(encoded: str | None, password: str) -> bool:
    """Whether `password` is the one of the hash `encoded`; None stands for "nobody" and takes the same time."""
    try:
        return _hasher.verify(encoded or _nobody(), password) and encoded is not None
    except (VerificationError, InvalidHashError):
        return False


@cache
def _nobody() -> str:
    return _hasher.hash("nobody has this password")


def prepare() -> None:
    """Make the hash that stands for "nobody" before the first request needs it."""
    _nobody()
