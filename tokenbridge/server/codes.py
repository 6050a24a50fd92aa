"""Codes that people type once: for enrolling a key and for recovery. It stores nothing."""

from __future__ import annotations

import hashlib
import secrets
from typing import Final

ALPHABET: Final = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
"""Crockford's base 32: no letters that look like digits."""
LENGTH: Final = 24
"""120 bits: SP 800-63B-4 section 3.1.2.2 then lets a plain hash be stored, which needs no slow comparison."""
RECOVERY_CODES: Final = 10

_LOOKALIKES: Final = str.maketrans({"O": "0", "I": "1", "L": "1", "-": None, " ": None})


def new_code() -> str:
    """Six groups of four."""
    code = "".join(secrets.choice(ALPHABET) for _ in range(LENGTH))
    return "-".join(code[at : at + 4] for at in range(0, LENGTH, 4))


def new_set() -> tuple[str, ...]:
    return tuple(new_code() for _ in range(RECOVERY_CODES))


def hash_code(typed: str, *, account: int) -> str:
    """What is stored of a code: SHA-256 in hex, different for each account. Case, hyphens and blanks do not matter."""
    return hashlib.sha256(f"{account}:{plain(typed)}".encode("utf-8", "surrogatepass")).hexdigest()


def plain(typed: str) -> str:
    """A code as it is compared."""
    return typed.upper().translate(_LOOKALIKES)
