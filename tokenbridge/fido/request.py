"""What a site asks of a key, in WebAuthn's JSON forms, taken apart and checked before a key sees any of it.

The origin is the address that the person asked for. The site may name an RP id, which must be that address's name or a
parent of it that is no public suffix (WebAuthn level 3 section 5.1.4); nothing else is ever signed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum, unique
from typing import Any, Final
from urllib.parse import urlsplit

from fido2.rpid import verify_rp_id
from fido2.webauthn import (
    CollectedClientData,
    PublicKeyCredentialCreationOptions,
    PublicKeyCredentialDescriptor,
    PublicKeyCredentialRequestOptions,
)

from tokenbridge.errors import OriginRefused, RelyingPartyUnavailable
from tokenbridge.fido.status import MALFORMED

MAX_LIST: Final = 256
MAX_ID: Final = 1023
MAX_CHALLENGE: Final = 1024
MAX_USER_ID: Final = 64
MAX_NAME: Final = 64
"""CTAP 2.1 section 6.1.2: names may be cut to 64 bytes by the key; no more is sent."""


@unique
class Need(StrEnum):
    """UserVerificationRequirement (WebAuthn level 3 section 5.8.6), ResidentKeyRequirement (5.4.6)."""

    REQUIRED = "required"
    PREFERRED = "preferred"
    DISCOURAGED = "discouraged"


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientData:
    """CollectedClientData (section 5.8.1): what the key signs the hash of."""

    json: bytes

    @property
    def hash(self) -> bytes:
        return hashlib.sha256(self.json).digest()


@dataclass(frozen=True, slots=True, kw_only=True)
class AssertionRequest:
    """`allow` is empty when any credential for the RP id will do."""

    rp_id: str
    client_data: ClientData
    allow: tuple[bytes, ...] = ()
    verification: Need = Need.PREFERRED


@dataclass(frozen=True, slots=True, kw_only=True)
class CreationRequest:
    """`parameters` are COSE algorithm numbers in the site's order of preference."""

    rp_id: str
    rp_name: str
    client_data: ClientData
    user_id: bytes
    user_name: str
    user_display_name: str
    parameters: tuple[int, ...]
    exclude: tuple[bytes, ...] = ()
    resident: Need = Need.DISCOURAGED
    verification: Need = Need.PREFERRED
    attestation: str = "none"
    extensions: Mapping[str, Any]


def assertion_request(options: Mapping[str, Any], origin: str) -> AssertionRequest:
    """From `PublicKeyCredentialRequestOptionsJSON`. Raises `OriginRefused`, `RelyingPartyUnavailable`."""
    try:
        given = PublicKeyCredentialRequestOptions.from_dict(options)
        return AssertionRequest(
            rp_id=_rp_id(given.rp_id, origin),
            client_data=_client_data("webauthn.get", given.challenge, origin),
            allow=_ids(given.allow_credentials),
            verification=_need(given.user_verification, Need.PREFERRED),
        )
    except MALFORMED as err:
        raise _not_understood(err) from err


def creation_request(options: Mapping[str, Any], origin: str) -> CreationRequest:
    """From `PublicKeyCredentialCreationOptionsJSON`. Raises `OriginRefused`, `RelyingPartyUnavailable`."""
    try:
        given = PublicKeyCredentialCreationOptions.from_dict(options)
        selection = given.authenticator_selection
        if not 0 < len(given.user.id) <= MAX_USER_ID or len(given.pub_key_cred_params) > MAX_LIST:
            raise ValueError("user id or parameters")
        rp_id = _rp_id(given.rp.id, origin)
        return CreationRequest(
            rp_id=rp_id,
            rp_name=_short(given.rp.name or rp_id),
            client_data=_client_data("webauthn.create", given.challenge, origin),
            user_id=given.user.id,
            user_name=_short(given.user.name or ""),
            user_display_name=_short(given.user.display_name or ""),
            parameters=tuple(int(parameter.alg) for parameter in given.pub_key_cred_params),
            exclude=_ids(given.exclude_credentials),
            resident=_resident(selection),
            verification=_need(selection.user_verification if selection else None, Need.PREFERRED),
            attestation=str(given.attestation.value if given.attestation else "none"),
            extensions=dict(given.extensions or {}),
        )
    except MALFORMED as err:
        raise _not_understood(err) from err


def _rp_id(named: str | None, origin: str) -> str:
    host = urlsplit(origin).hostname or ""
    rp_id = named or host
    # A name of one label is a public suffix, listed or not (the list's default rule): it may only be the host itself.
    if not isinstance(rp_id, str) or ("." not in rp_id and rp_id != host) or not verify_rp_id(rp_id, origin):
        raise OriginRefused(f"The site asks for a signature for another site ({str(rp_id)[:MAX_NAME]}).")
    return rp_id


def _client_data(kind: str, challenge: bytes, origin: str) -> ClientData:
    if not 16 <= len(challenge) <= MAX_CHALLENGE:  # section 13.4.3: at least 16 bytes
        raise ValueError("challenge")
    return ClientData(json=bytes(CollectedClientData.create(type=kind, challenge=challenge, origin=origin)))


def _ids(descriptors: Any) -> tuple[bytes, ...]:
    given: list[PublicKeyCredentialDescriptor] = list(descriptors or ())
    if len(given) > MAX_LIST or any(not 0 < len(item.id) <= MAX_ID for item in given):
        raise ValueError("credential list")
    return tuple(bytes(item.id) for item in given)


def _need(given: Any, default: Need) -> Need:
    """An unknown value counts as not given (section 2.1.1)."""
    value = getattr(given, "value", given)
    return Need(value) if value in set(Need) else default


def _resident(selection: Any) -> Need:
    if selection is None:
        return Need.DISCOURAGED
    return _need(selection.resident_key, Need.REQUIRED if selection.require_resident_key else Need.DISCOURAGED)


def _short(text: str) -> str:
    return text.encode("utf-8")[:MAX_NAME].decode("utf-8", "ignore")


def _not_understood(err: Exception) -> RelyingPartyUnavailable:
    return RelyingPartyUnavailable("The site's request for a security key can't be understood.", detail=repr(err))
