"""What a key is asked for, in the JSON forms of WebAuthn Level 3 (sections 5.4 and 5.5). It remembers nothing."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

from fido2.webauthn import (
    AttestationConveyancePreference,
    AuthenticatorSelectionCriteria,
    PublicKeyCredentialCreationOptions,
    PublicKeyCredentialHint,
    PublicKeyCredentialParameters,
    PublicKeyCredentialRequestOptions,
    PublicKeyCredentialRpEntity,
    PublicKeyCredentialType,
    PublicKeyCredentialUserEntity,
    ResidentKeyRequirement,
    UserVerificationRequirement,
)

from tokenbridge.rp.cose_keys import OFFERED
from tokenbridge.rp.key_models import KeyPolicy
from tokenbridge.rp.webauthn import to_base64url

HINT: Final = "security-key"


@dataclass(frozen=True, slots=True, kw_only=True)
class Credential:
    """A credential as options name it; `transports` help to find its key."""

    id: bytes
    transports: tuple[str, ...] = ()

    def as_json(self) -> dict[str, Any]:
        named = {"type": "public-key", "id": to_base64url(self.id)}
        return {**named, "transports": list(self.transports)} if self.transports else named


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """The relying party as keys know it."""

    name: str
    rp_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class User:
    """`handle` is random and says nothing about the person (section 5.4.3)."""

    handle: bytes
    name: str
    display_name: str


def request_options(
    site: Site, challenge: bytes, credentials: Iterable[Credential], policy: KeyPolicy, *, seconds: int
) -> dict[str, Any]:
    """`PublicKeyCredentialRequestOptionsJSON`."""
    options = PublicKeyCredentialRequestOptions(
        challenge=challenge,
        timeout=seconds * 1000,
        rp_id=site.rp_id,
        user_verification=UserVerificationRequirement(policy.user_verification),
        hints=[PublicKeyCredentialHint(HINT)],
    )
    return _plain({**dict(options), "allowCredentials": [one.as_json() for one in credentials]})


def creation_options(
    site: Site, user: User, challenge: bytes, registered: Iterable[Credential], policy: KeyPolicy, *, seconds: int
) -> dict[str, Any]:
    """`PublicKeyCredentialCreationOptionsJSON`; `registered` are the account's keys, which are not to be used again."""
    kind = PublicKeyCredentialType.PUBLIC_KEY
    options = PublicKeyCredentialCreationOptions(
        rp=PublicKeyCredentialRpEntity(name=site.name, id=site.rp_id),
        user=PublicKeyCredentialUserEntity(name=user.name, id=user.handle, display_name=user.display_name),
        challenge=challenge,
        pub_key_cred_params=[PublicKeyCredentialParameters(type=kind, alg=number) for number in OFFERED],
        timeout=seconds * 1000,
        authenticator_selection=AuthenticatorSelectionCriteria(
            resident_key=ResidentKeyRequirement(policy.resident_key),
            user_verification=UserVerificationRequirement(policy.user_verification),
        ),
        attestation=AttestationConveyancePreference.DIRECT,
        hints=[PublicKeyCredentialHint(HINT)],
        extensions={"credProps": True, "minPinLength": True},
    )
    return _plain({**dict(options), "excludeCredentials": [one.as_json() for one in registered]})


def _plain(options: dict[str, Any]) -> dict[str, Any]:
    """The same with plain text in place of python-fido2's enums, which are text as well."""
    return {name: _plain_value(value) for name, value in options.items()}


def _plain_value(value: Any) -> Any:
    if isinstance(value, dict):
        return _plain(value)
    if isinstance(value, list | tuple):
        return [_plain_value(item) for item in value]
    return str(value) if isinstance(value, str) else value
