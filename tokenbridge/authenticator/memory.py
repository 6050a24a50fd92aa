"""What an authenticator remembers when it has no power. It decides nothing; a `KeyStore` keeps it."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from enum import IntEnum, unique
from typing import Final

from tokenbridge.authenticator.parameters import User
from tokenbridge.authenticator.profile import Algorithm


@unique
class Protection(IntEnum):
    """credProtect levels (CTAP 2.1 section 12.1)."""

    UV_OPTIONAL = 1
    UV_OPTIONAL_WITH_ID = 2
    UV_REQUIRED = 3


@dataclass(slots=True, kw_only=True)
class Credential:
    """One credential. `handle` is what the key store knows its key by; `order` grows with the time of creation.

    A credential that is not discoverable has no `user`, and is kept nowhere: all of it is inside its id.
    """

    id: bytes
    rp_id: str
    rp_id_hash: bytes
    algorithm: Algorithm
    handle: bytes
    public_key: bytes = b""
    """COSE key, as CBOR."""
    user: User | None = None
    protection: Protection = Protection.UV_OPTIONAL
    hmac_secret: bool = False
    blob: bytes = b""
    large_blob_key: bool = False
    order: int = 0

    @property
    def discoverable(self) -> bool:
        return self.user is not None


@dataclass(slots=True, kw_only=True)
class Pin:
    """The PIN as it is stored: the first 16 bytes of its SHA-256 (section 6.5.5.5), and its length in code points."""

    digest: bytes
    length: int


def empty_large_blobs() -> bytes:
    """The serialised large-blob array of a new authenticator: an empty list and its checksum (section 6.10)."""
    return b"\x80" + hashlib.sha256(b"\x80").digest()[:16]


EMPTY_LARGE_BLOBS: Final = empty_large_blobs()


@dataclass(slots=True, kw_only=True)
class Memory:
    """All of it. Tries are those left."""

    pin_tries: int
    uv_tries: int
    min_pin_length: int
    pin: Pin | None = None
    force_pin_change: bool = False
    min_pin_rp_ids: list[str] = field(default_factory=list)
    always_uv: bool = False
    enterprise: bool = False
    counter: int = 0
    """Signature counter, one for all credentials."""
    order: int = 0
    credentials: list[Credential] = field(default_factory=list)
    large_blobs: bytes = EMPTY_LARGE_BLOBS
    fingerprints: dict[bytes, str] = field(default_factory=dict)
    """Friendly names by template id."""
