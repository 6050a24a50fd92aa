"""A new key: its registration, verified as WebAuthn Level 3 section 7.1 says. It knows no account."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from tokenbridge.errors import RejectReason
from tokenbridge.rp.cbor_form import CborError, decode
from tokenbridge.rp.cose_keys import ALGORITHMS, load_key
from tokenbridge.rp.key_attestation import U2F, Statement, verify_statement
from tokenbridge.rp.refusals import refusal
from tokenbridge.rp.webauthn import (
    CREATE,
    MAX_CLIENT_DATA,
    AuthenticatorData,
    Expectation,
    check_authenticator_data,
    check_client_data,
    credential_id_of,
    from_base64url,
    malformed,
    member,
    parse_authenticator_data,
)

MAX_ATTESTATION_OBJECT: Final = 12_288
TRANSPORTS: Final = ("ble", "hybrid", "internal", "nfc", "smart-card", "usb")


@dataclass(frozen=True, slots=True, kw_only=True)
class Registration:
    """A `RegistrationResponseJSON` that could be read. Nothing in it is believed."""

    unverified_credential_id: bytes
    unverified_client_data: bytes = field(repr=False)
    unverified_attestation: bytes = field(repr=False)
    unverified_transports: tuple[str, ...] = ()
    unverified_discoverable: bool | None = None

    @classmethod
    def parse(cls, credential: Mapping[str, Any]) -> Registration:
        """Raises Rejected(MALFORMED). Transports that are not known are left out: they only help to find the key."""
        response = member(credential, "response")
        transports = response.get("transports", [])
        return cls(
            unverified_credential_id=credential_id_of(credential),
            unverified_client_data=from_base64url(
                response.get("clientDataJSON"), most=MAX_CLIENT_DATA, what="clientDataJSON"
            ),
            unverified_attestation=from_base64url(
                response.get("attestationObject"), most=MAX_ATTESTATION_OBJECT, what="attestationObject"
            ),
            unverified_transports=tuple(
                name for name in TRANSPORTS if isinstance(transports, list) and name in transports
            ),
            unverified_discoverable=_discoverable(credential.get("clientExtensionResults")),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class NewKey:
    """A key that passed every check of its own registration; whether its model is accepted is not asked here.

    `discoverable` is what the client said (credProps), None if nothing. `cred_protect` 1 to 3 and `min_pin_length` are
    the key's own, signed with the rest (CTAP 2.1 sections 12.1 and 12.4), None if it did not say.
    """

    credential_id: bytes
    cose: bytes = field(repr=False)
    algorithm: int
    aaguid: bytes
    counter: int
    user_verified: bool
    backup_eligible: bool
    backed_up: bool
    statement: Statement
    transports: tuple[str, ...] = ()
    discoverable: bool | None = None
    cred_protect: int | None = None
    min_pin_length: int | None = None


def verify_registration(
    registration: Registration, expected: Expectation, algorithms: frozenset[int] = ALGORITHMS
) -> NewKey:
    """Everything about one registration. Raises Rejected with the reason of the first check that fails."""
    check_client_data(registration.unverified_client_data, CREATE, expected)
    attestation = _parse_attestation(registration.unverified_attestation)
    data = parse_authenticator_data(attestation["authData"])
    check_authenticator_data(data, expected)
    if data.credential is None:
        malformed("a registration without a credential")
    if data.credential.credential_id != registration.unverified_credential_id:
        raise refusal(RejectReason.CREDENTIAL_UNKNOWN, "two different credential identifiers")
    key = load_key(data.credential.cose, algorithms)
    client_data_hash = hashlib.sha256(registration.unverified_client_data).digest()
    statement = verify_statement(attestation, data, key, client_data_hash)
    return NewKey(
        credential_id=data.credential.credential_id,
        cose=key.cose,
        algorithm=key.algorithm,
        # A U2F signature does not cover the AAGUID: its model is told by the certificate alone.
        aaguid=bytes(16) if statement.format == U2F else data.credential.aaguid,
        counter=data.counter,
        user_verified=data.user_verified,
        backup_eligible=data.backup_eligible,
        backed_up=data.backed_up,
        statement=statement,
        transports=registration.unverified_transports,
        discoverable=registration.unverified_discoverable,
        cred_protect=_number(data, "credProtect", 3),
        min_pin_length=_number(data, "minPinLength", 63),
    )


def _parse_attestation(unverified: bytes) -> dict[str, Any]:
    try:
        value = decode(unverified)
    except CborError as err:
        raise refusal(RejectReason.MALFORMED, f"attestation object: {err}") from err
    if not isinstance(value, dict) or not isinstance(value.get("authData"), bytes):
        malformed("attestation object without authenticator data")
    return value


def _discoverable(results: object) -> bool | None:
    """`credProps.rk` of the client's extension results (section 10.1.3)."""
    properties = results.get("credProps") if isinstance(results, dict) else None
    found = properties.get("rk") if isinstance(properties, dict) else None
    return found if isinstance(found, bool) else None


def _number(data: AuthenticatorData, extension: str, most: int) -> int | None:
    value = data.extensions.get(extension)
    return value if type(value) is int and 0 < value <= most else None
