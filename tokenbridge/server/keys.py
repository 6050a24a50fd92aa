"""The server's own secrets: the key file, encryption of secrets at rest, and opaque tokens. It stores nothing else."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import os
import secrets
import stat
from dataclasses import dataclass
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from tokenbridge.errors import SetupError

KEY_ID_BYTES = 8
NONCE_BYTES = 12  # SP 800-38D section 8.2: 96-bit IVs
KEY_BYTES = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """One AES-256 key; `id` stands in front of everything it encrypted."""

    id: bytes
    value: bytes

    def __repr__(self) -> str:
        return f"Key({self.id.hex()})"


@dataclass(frozen=True, slots=True)
class KeyRing:
    """Keys of this server, newest first: the first encrypts, all of them decrypt, so keys can be rotated."""

    keys: tuple[Key, ...]

    def encrypt(self, plain: bytes, *, context: str) -> bytes:
        """key id (8) || nonce (12) || AES-256-GCM ciphertext and tag. `context` says where the value belongs:
        a value moved to another row does not decrypt."""
        key, nonce = self.keys[0], os.urandom(NONCE_BYTES)
        return key.id + nonce + AESGCM(key.value).encrypt(nonce, plain, context.encode())

    def decrypt(self, sealed: bytes, *, context: str) -> bytes:
        """The inverse of `encrypt`. Raises `SetupError` when no key of this server fits."""
        key_id, rest = sealed[:KEY_ID_BYTES], sealed[KEY_ID_BYTES:]
        for key in self.keys:
            if key.id == key_id:
                try:
                    return AESGCM(key.value).decrypt(rest[:NONCE_BYTES], rest[NONCE_BYTES:], context.encode())
                except (InvalidTag, ValueError) as err:
                    raise SetupError("A stored secret was changed from outside.", detail=context) from err
        raise SetupError(
            "A stored secret was encrypted with a key that is not in the key file.",
            next_step="Restore the key file that belongs to this database.",
            detail=f"{context}: key {key_id.hex()}",
        )

    def seal(self, data: bytes) -> str:
        """HMAC-SHA-256 of `data` in hex, by the newest key."""
        return _mac(self.keys[0], data)

    def sealed(self, data: bytes, seal: str) -> bool:
        """Whether `seal` was made of `data` with a key of this server."""
        return any(hmac.compare_digest(_mac(key, data).encode(), seal.encode()) for key in self.keys)

    def is_current(self, sealed: bytes) -> bool:
        """Whether the newest key encrypted `sealed`."""
        return sealed.startswith(self.keys[0].id)

    def rotated(self) -> KeyRing:
        """The same ring with a new first key."""
        return KeyRing((_new_key(), *self.keys))


def _mac(key: Key, data: bytes) -> str:
    # A key of its own for each purpose: what encrypts does not authenticate as well.
    own = hmac.digest(key.value, b"tokenbridge seal", "sha256")
    return hmac.digest(own, data, "sha256").hex()


def _new_key() -> Key:
    return Key(id=os.urandom(KEY_ID_BYTES), value=os.urandom(KEY_BYTES))


def create(path: Path) -> KeyRing:
    """Make the key file if it is not there, 0600; returns the ring that is in it."""
    if not path.exists():
        save(path, KeyRing((_new_key(),)))
    return load(path)


def save(path: Path, ring: KeyRing) -> None:
    """Replace the key file atomically."""
    items = [{"id": k.id.hex(), "key": base64.b64encode(k.value).decode()} for k in ring.keys]
    temporary = path.with_suffix(".new")
    temporary.unlink(missing_ok=True)
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        json.dump({"keys": items}, file)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def load(path: Path) -> KeyRing:
    """Read the key file. Raises `SetupError` when it is missing, broken or readable by others."""
    try:
        mode = stat.S_IMODE(path.stat().st_mode)
        items = json.loads(path.read_text("utf-8"))["keys"]
        keys = tuple(Key(id=bytes.fromhex(i["id"]), value=base64.b64decode(i["key"], validate=True)) for i in items)
    except (OSError, ValueError, KeyError, TypeError) as err:
        raise SetupError(
            f"The key file {path} can't be read.",
            next_step="Run `tokenbridge server init`, or restore the file from its backup.",
            detail=str(err),
        ) from err
    if mode & 0o077:
        raise SetupError(f"The key file {path} is open to others.", next_step=f"Run: chmod 600 {path}")
    if not keys or any(len(k.value) != KEY_BYTES or len(k.id) != KEY_ID_BYTES for k in keys):
        raise SetupError(f"The key file {path} holds no usable key.")
    return KeyRing(keys)


class KeyBook:
    """The key file's current ring: read again when the file has changed, so that keys can be rotated while serving."""

    def __init__(self, path: Path) -> None:
        """Raises `SetupError` like `load`."""
        self._path = path
        self._seen = _stamp(path)
        self._ring = load(path)

    def ring(self) -> KeyRing:
        """Raises `SetupError` like `load`."""
        seen = _stamp(self._path)
        if seen != self._seen:
            self._ring, self._seen = load(self._path), seen
        return self._ring


def _stamp(path: Path) -> tuple[int, int]:
    try:
        found = path.stat()
    except OSError:
        return 0, 0
    return found.st_mtime_ns, found.st_ino


def new_token() -> str:
    """An opaque token of 256 random bits, URL-safe."""
    return secrets.token_urlsafe(32)


def hash_token(token: str) -> str:
    """What is stored of a token: SHA-256 in hex. Tokens are random, so they need no salt and no slow hash."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()
