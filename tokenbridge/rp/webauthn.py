"""What a key's evidence consists of: client data and authenticator data (WebAuthn Level 3 sections 5.8.1 and 6.1), read
within limits and compared with what the server expects. Signatures are checked elsewhere.
"""

from __future__ import annotations

import binascii
import hashlib
import hmac
import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Final, NoReturn

from tokenbridge.errors import RejectReason
from tokenbridge.rp.cbor_form import CborError, decode_first
from tokenbridge.rp.refusals import refusal

MAX_CLIENT_DATA: Final = 4096
MAX_AUTHENTICATOR_DATA: Final = 8192
MAX_CREDENTIAL_ID: Final = 1023  # section 5.8.3
MAX_USER_HANDLE: Final = 64
MAX_SIGNATURE: Final = 1024

CREATE: Final = "webauthn.create"
GET: Final = "webauthn.get"

UP, UV, BE, BS, AT, ED = 0x01, 0x04, 0x08, 0x10, 0x40, 0x80
"""Flags of authenticator data (section 6.1)."""

_HEAD: Final = struct.Struct(">32sBI")
_NOT_URL_SAFE: Final = bytes.maketrans(b"-_+/=", b"+/   ")
_URL_SAFE: Final = bytes.maketrans(b"+/", b"-_")
_PADDING: Final = (b"", b"===", b"==", b"=")


@dataclass(frozen=True, slots=True, kw_only=True)
class Expectation:
    """What the server knows itself. `challenge` is base64url text, `origin` as browsers write it.

    `cross_origin`: the page may be embedded, and then only in pages of `top_origins` where the browser names them.
    """

    challenge: str
    origin: str
    rp_id: str
    user_verification: bool = False
    cross_origin: bool = False
    top_origins: frozenset[str] = frozenset()

    @property
    def rp_id_hash(self) -> bytes:
        return _hash_of(self.rp_id)


@lru_cache(maxsize=16)
def _hash_of(rp_id: str) -> bytes:
    return hashlib.sha256(rp_id.encode()).digest()


@dataclass(frozen=True, slots=True, kw_only=True)
class AttestedCredential:
    """The new credential of a registration (section 6.5.1). `aaguid` is 16 bytes, `cose` the encoded public key."""

    aaguid: bytes
    credential_id: bytes
    cose: bytes = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class AuthenticatorData:
    """Read, and not yet signed by anybody. `extensions` are the authenticator's own outputs."""

    raw: bytes = field(repr=False)
    rp_id_hash: bytes = field(repr=False)
    flags: int
    counter: int
    credential: AttestedCredential | None = None
    extensions: Mapping[str, Any] = field(default_factory=dict)

    @property
    def user_verified(self) -> bool:
        return bool(self.flags & UV)

    @property
    def backup_eligible(self) -> bool:
        return bool(self.flags & BE)

    @property
    def backed_up(self) -> bool:
        return bool(self.flags & BS)


def from_base64url(value: object, *, most: int, what: str) -> bytes:
    """The bytes of base64url text without padding (RFC 4648 section 5). Raises Rejected(MALFORMED)."""
    if not isinstance(value, str) or len(value) > (most * 4 + 2) // 3:
        malformed(f"{what} is missing, no text or too long")
    try:
        # What is not of this alphabet becomes a blank, which strict mode refuses.
        plain = value.encode("ascii").translate(_NOT_URL_SAFE)
        return binascii.a2b_base64(plain + _PADDING[len(value) & 3], strict_mode=True)
    except ValueError as err:
        raise refusal(RejectReason.MALFORMED, f"{what}: {err}") from err


def to_base64url(data: bytes) -> str:
    return binascii.b2a_base64(data, newline=False).rstrip(b"=").translate(_URL_SAFE).decode("ascii")


def malformed(detail: str) -> NoReturn:
    raise refusal(RejectReason.MALFORMED, detail)


def member(data: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """An object inside `data`. Raises Rejected(MALFORMED)."""
    value = data.get(name)
    if not isinstance(value, dict):
        malformed(f"{name} is missing or no object")
    return value


def credential_id_of(credential: Mapping[str, Any]) -> bytes:
    """The identifier, which the JSON forms carry twice. Raises Rejected(MALFORMED)."""
    if credential.get("type") != "public-key" or credential.get("id") != credential.get("rawId"):
        malformed("type, id or rawId")
    found = from_base64url(credential.get("rawId"), most=MAX_CREDENTIAL_ID, what="rawId")
    return found or malformed("rawId is empty")


# --- client data -----------------------------------------------------------------------------------------------


def check_client_data(unverified: bytes, kind: str, expected: Expectation) -> None:
    """Sections 7.1 steps 5 to 10 and 7.2 steps 9 to 14: type, challenge, origin, and no other site around the page."""
    data = _parse_client_data(unverified)
    if data.get("type") != kind:
        raise refusal(RejectReason.CLIENT_DATA_TYPE, f"type {str(data.get('type'))[:64]!r}")
    if not _same_text(data.get("challenge"), expected.challenge):
        raise refusal(RejectReason.CHALLENGE_MISMATCH)
    if data.get("origin") != expected.origin:
        raise refusal(RejectReason.ORIGIN_MISMATCH, f"origin {str(data.get('origin'))[:256]!r}")
    _check_embedding(data, expected)


def _parse_client_data(unverified: bytes) -> dict[str, Any]:
    if len(unverified) > MAX_CLIENT_DATA:
        malformed(f"client data of {len(unverified)} bytes")
    try:
        data = _CLIENT_DATA.decode(unverified.decode("utf-8"))
    except (ValueError, RecursionError) as err:
        raise refusal(RejectReason.MALFORMED, f"client data: {err}") from err
    if not isinstance(data, dict):
        malformed("client data is no object")
    return data


def _no_twins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("two members of one name")
    return found


# Made once: `json.loads` with a hook makes one each time.
_CLIENT_DATA: Final = json.JSONDecoder(object_pairs_hook=_no_twins)


def _same_text(given: object, expected: str) -> bool:
    return isinstance(given, str) and hmac.compare_digest(given.encode("utf-8", "replace"), expected.encode())


def _check_embedding(data: Mapping[str, Any], expected: Expectation) -> None:
    crossed, top = data.get("crossOrigin", False), data.get("topOrigin")
    if not isinstance(crossed, bool):
        malformed("crossOrigin is no boolean")
    if crossed and not expected.cross_origin:
        raise refusal(RejectReason.CROSS_ORIGIN, "crossOrigin")
    # topOrigin is there only when crossOrigin is true (section 5.8.1).
    if top is not None and (not crossed or not isinstance(top, str) or top not in expected.top_origins):
        raise refusal(RejectReason.CROSS_ORIGIN, f"topOrigin {str(top)[:256]!r}")


# --- authenticator data ----------------------------------------------------------------------------------------


def parse_authenticator_data(raw: bytes) -> AuthenticatorData:
    """Raises Rejected(MALFORMED) unless `raw` is whole, with nothing after it."""
    if not _HEAD.size <= len(raw) <= MAX_AUTHENTICATOR_DATA:
        malformed(f"authenticator data of {len(raw)} bytes")
    rp_id_hash, flags, counter = _HEAD.unpack_from(raw)
    if len(raw) == _HEAD.size and not flags & (AT | ED):
        return AuthenticatorData(raw=raw, rp_id_hash=rp_id_hash, flags=flags, counter=counter)
    try:
        credential, at = _parse_credential(raw) if flags & AT else (None, _HEAD.size)
        extensions, at = _parse_extensions(raw, at) if flags & ED else ({}, at)
    except CborError as err:
        raise refusal(RejectReason.MALFORMED, f"authenticator data: {err}") from err
    if at != len(raw):
        malformed("bytes after the authenticator data")
    return AuthenticatorData(
        raw=raw, rp_id_hash=rp_id_hash, flags=flags, counter=counter, credential=credential, extensions=extensions
    )


def _parse_credential(raw: bytes) -> tuple[AttestedCredential, int]:
    at = _HEAD.size + 18
    length = int.from_bytes(raw[at - 2 : at], "big")
    if len(raw) < at + length or not 0 < length <= MAX_CREDENTIAL_ID:
        malformed("attested credential data is truncated, or its identifier too long")
    key_at = at + length
    _, size = decode_first(raw[key_at:])
    credential = AttestedCredential(
        aaguid=raw[_HEAD.size : _HEAD.size + 16], credential_id=raw[at:key_at], cose=raw[key_at : key_at + size]
    )
    return credential, key_at + size


def _parse_extensions(raw: bytes, at: int) -> tuple[Mapping[str, Any], int]:
    value, size = decode_first(raw[at:])
    if not isinstance(value, dict):
        malformed("extensions are no map")
    return value, at + size


def check_authenticator_data(data: AuthenticatorData, expected: Expectation) -> None:
    """Sections 7.1 steps 14 to 18 and 7.2 steps 15 to 19: whose site, presence, verification, backup state."""
    if not hmac.compare_digest(data.rp_id_hash, expected.rp_id_hash):
        raise refusal(RejectReason.RP_ID_MISMATCH)
    if not data.flags & UP:
        raise refusal(RejectReason.USER_NOT_PRESENT)
    if expected.user_verification and not data.flags & UV:
        raise refusal(RejectReason.USER_NOT_VERIFIED)
    if data.flags & BS and not data.flags & BE:
        raise refusal(RejectReason.BACKUP_STATE, "backed up, but not eligible")
