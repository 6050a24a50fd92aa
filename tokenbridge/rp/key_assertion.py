"""A sign-in with a key: its assertion, verified as WebAuthn Level 3 section 7.2 says. It knows no account."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from fido2 import cbor

from tokenbridge.errors import Rejected, RejectReason
from tokenbridge.rp.cose_keys import load_key
from tokenbridge.rp.refusals import refusal
from tokenbridge.rp.webauthn import (
    GET,
    MAX_AUTHENTICATOR_DATA,
    MAX_CLIENT_DATA,
    MAX_SIGNATURE,
    MAX_USER_HANDLE,
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

MAX_COUNTER: Final = 0xFFFF_FFFF


@dataclass(frozen=True, slots=True, kw_only=True)
class Assertion:
    """An `AuthenticationResponseJSON` that could be read. Nothing in it is believed."""

    unverified_credential_id: bytes
    unverified_user_handle: bytes | None
    unverified_client_data: bytes = field(repr=False)
    unverified_authenticator_data: bytes = field(repr=False)
    signature: bytes = field(repr=False)

    @classmethod
    def parse(cls, credential: Mapping[str, Any]) -> Assertion:
        """Raises Rejected(MALFORMED)."""
        response = member(credential, "response")
        handle = response.get("userHandle")
        return cls(
            unverified_credential_id=credential_id_of(credential),
            unverified_user_handle=None
            if handle is None
            else from_base64url(handle, most=MAX_USER_HANDLE, what="userHandle"),
            unverified_client_data=from_base64url(
                response.get("clientDataJSON"), most=MAX_CLIENT_DATA, what="clientDataJSON"
            ),
            unverified_authenticator_data=from_base64url(
                response.get("authenticatorData"), most=MAX_AUTHENTICATOR_DATA, what="authenticatorData"
            ),
            signature=from_base64url(response.get("signature"), most=MAX_SIGNATURE, what="signature"),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class RegisteredKey:
    """What was kept when the credential was registered. `cose` is its public key, `backup_eligible` never changes."""

    credential_id: bytes
    cose: bytes = field(repr=False)
    backup_eligible: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Signed:
    """What a good signature says. `uvm` are the ways in which the key checked the person, if it told (FIDO registry
    section 3.1), `None` if it did not."""

    counter: int
    user_verified: bool
    backed_up: bool
    uvm: tuple[int, ...] | None = None


# The base point of P-256 as a public key: everybody can sign for it, and nothing that it signs is believed.
DECOY: Final = cbor.encode(
    {
        1: 2,
        3: -7,
        -1: 1,
        -2: bytes.fromhex("6b17d1f2e12c4247f8bce6e563a440f277037d812deb33a0f4a13945d898c296"),
        -3: bytes.fromhex("4fe342e2fe1a7f9b8ee7eb4a7c0f9e162bce33576b315ececbb6406837bf51f5"),
    }
)


def verify_assertion(assertion: Assertion, key: RegisteredKey, expected: Expectation) -> Signed:
    """Everything about one assertion, its counter apart. Raises Rejected with the reason of the first check that fails.

    The caller has found `key` by the assertion's credential and has checked whose it is.
    """
    return verify_signature(assertion, check_request(assertion, expected), key)


def check_request(assertion: Assertion, expected: Expectation) -> AuthenticatorData:
    """What can be checked without the key: that it is an answer to this request. Raises Rejected.

    Its reasons say nothing about which credentials are registered.
    """
    check_client_data(assertion.unverified_client_data, GET, expected)
    data = parse_authenticator_data(assertion.unverified_authenticator_data)
    check_authenticator_data(data, expected)
    if data.credential is not None:
        malformed("an assertion with attested credential data")
    return data


def verify_nothing(assertion: Assertion, data: AuthenticatorData) -> None:
    """Take the time of `verify_signature` for a credential that is not registered."""
    with contextlib.suppress(Rejected):
        load_key(DECOY).verify(assertion.signature, _signed_bytes(assertion, data))


def verify_signature(assertion: Assertion, data: AuthenticatorData, key: RegisteredKey) -> Signed:
    """The rest of `verify_assertion`, after `check_request`. Raises Rejected."""
    if assertion.unverified_credential_id != key.credential_id:
        raise refusal(RejectReason.CREDENTIAL_UNKNOWN, "an assertion of another credential")
    load_key(key.cose).verify(assertion.signature, _signed_bytes(assertion, data))
    if data.backup_eligible != key.backup_eligible:
        raise refusal(RejectReason.BACKUP_STATE, "backup eligibility changed since registration")
    return Signed(
        counter=data.counter, user_verified=data.user_verified, backed_up=data.backed_up, uvm=ways_of_verification(data)
    )


def _signed_bytes(assertion: Assertion, data: AuthenticatorData) -> bytes:
    return data.raw + hashlib.sha256(assertion.unverified_client_data).digest()


def may_be_copied(*, stored: int, counter: int) -> bool:
    """Section 7.2 step 22: a counter that is in use must grow."""
    return (stored != 0 or counter != 0) and counter <= stored


def ways_of_verification(data: AuthenticatorData) -> tuple[int, ...] | None:
    """The signed output of the extension `uvm` (WebAuthn Level 2 section 10.3); rubbish counts as silence."""
    entries = data.extensions.get("uvm")
    if not isinstance(entries, list) or not 1 <= len(entries) <= 3:
        return None
    if not all(isinstance(entry, list) and len(entry) == 3 and type(entry[0]) is int for entry in entries):
        return None
    return tuple(entry[0] for entry in entries)
