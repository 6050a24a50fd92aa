"""Authenticator data (WebAuthn section 6.1): the bytes that a signature covers, besides the hash of the client data."""

from __future__ import annotations

from enum import IntFlag
from typing import Any

from tokenbridge.authenticator import cbor
from tokenbridge.authenticator.memory import Credential


class Flag(IntFlag):
    """Flags of the authenticator data. Credentials here are bound to the device: neither BE nor BS is ever set."""

    UP = 0x01
    UV = 0x04
    AT = 0x40
    ED = 0x80


def flags(*, up: bool, uv: bool) -> Flag:
    return (Flag.UP if up else Flag(0)) | (Flag.UV if uv else Flag(0))


def authenticator_data(
    rp_id_hash: bytes, flag: Flag, counter: int, *, attested: bytes = b"", extensions: dict[str, Any] | None = None
) -> bytes:
    """The flags AT and ED are set here, by what is given."""
    if attested:
        flag |= Flag.AT
    tail = b""
    if extensions:
        flag |= Flag.ED
        tail = cbor.encode(extensions)
    return rp_id_hash + bytes([flag]) + counter.to_bytes(4, "big") + attested + tail


def attested_data(aaguid: bytes, credential: Credential) -> bytes:
    """Attested credential data (WebAuthn section 6.5.2)."""
    return aaguid + len(credential.id).to_bytes(2, "big") + credential.id + credential.public_key
