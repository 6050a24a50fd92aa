"""A new credential on one key: makeCredential, with a token before it when the key wants to know who holds it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from fido2.ctap2.base import AttestationResponse, Ctap2
from fido2.webauthn import (
    Aaguid,
    AttestationObject,
    AttestedCredentialData,
    AuthenticatorAttachment,
    AuthenticatorAttestationResponse,
    AuthenticatorData,
    CollectedClientData,
    RegistrationResponse,
)

from tokenbridge.errors import BadKeyData, CredentialExists, KeyFull, KeyUnsupported, TokenbridgeError
from tokenbridge.fido import pin as key_pin
from tokenbridge.fido import sign_in, u2f
from tokenbridge.fido.info import KeyFacts, Verification
from tokenbridge.fido.pin import Permission, Token
from tokenbridge.fido.request import CreationRequest, Need
from tokenbridge.fido.session import KeySession
from tokenbridge.fido.status import by_finger
from tokenbridge.interaction import Secret

PROTECTION: Final = {
    "userVerificationOptional": 1,
    "userVerificationOptionalWithCredentialIDList": 2,
    "userVerificationRequired": 3,
}
"""credentialProtectionPolicy (CTAP 2.1 section 12.1)."""
ES256: Final = -7


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """`response` is `RegistrationResponseJSON`."""

    response: Mapping[str, Any]
    discoverable: bool


def create(session: KeySession, request: CreationRequest, how: Verification, pin: Secret | None = None) -> Made:
    """Make a credential; waits for a touch. Raises as `sign_in.sign` does, and `CredentialExists`, `KeyFull`."""
    if not session.facts.ctap2:
        return _by_u2f(session, request)
    resident = _resident(request, session.facts)
    try:
        return _create(session, request, how, pin, resident=resident)
    except KeyFull:
        if not resident or request.resident is Need.REQUIRED:
            raise
        # The token is void after its use (section 6.1.2 step 16); the PIN was right, so a second one costs no try.
        return _create(session, request, how, pin, resident=False)
    finally:
        session.forget()  # it has one room less


def _resident(request: CreationRequest, facts: KeyFacts) -> bool:
    """Whether the key is asked to keep the credential."""
    if request.resident is Need.REQUIRED:
        if not facts.keeps_credentials:
            raise KeyUnsupported("The security key can't keep the credential, and the site wants it to.")
        return True
    return request.resident is Need.PREFERRED and facts.keeps_credentials and facts.rooms_left != 0


def _token(session: KeySession, request: CreationRequest, how: Verification, pin: Secret | None) -> Token | None:
    if how is not Verification.PIN:
        return None
    if pin is None:
        raise TokenbridgeError(detail="a PIN is needed and none was given")
    permission = Permission.MAKE_CREDENTIAL
    if len(request.exclude) > session.facts.credentials_in_list:
        permission |= Permission.GET_ASSERTION
    return key_pin.token(session, pin, permission, request.rp_id)


def _create(
    session: KeySession, request: CreationRequest, how: Verification, pin: Secret | None, *, resident: bool
) -> Made:
    token = _token(session, request, how, pin)
    built_in = how is Verification.BUILT_IN
    try:
        exclude = _excluded(session, request, token)
        with session.calling() as ctap, by_finger(built_in):
            made = _make(ctap, request, exclude, token, _options(resident=resident, built_in=built_in))
            return Made(response=_response(request, made, session.facts, resident=resident), discoverable=resident)
    finally:
        if token is not None:
            token.wipe()


def _options(*, resident: bool, built_in: bool) -> dict[str, bool] | None:
    options = {"rk": resident, "uv": built_in}
    return {name: True for name, on in options.items() if on} or None


def _make(
    ctap: Ctap2, request: CreationRequest, exclude: tuple[bytes, ...], token: Token | None, options: Any
) -> AttestationResponse:
    digest = request.client_data.hash
    return ctap.make_credential(
        digest,
        {"id": request.rp_id, "name": request.rp_name},
        {"id": request.user_id, "name": request.user_name, "displayName": request.user_display_name},
        [{"type": "public-key", "alg": algorithm} for algorithm in request.parameters],
        [{"type": "public-key", "id": item} for item in exclude] or None,
        _extensions(request, ctap.info.extensions) or None,
        options,
        None if token is None else token.sign(digest),
        None if token is None else token.protocol.VERSION,
    )


def _excluded(session: KeySession, request: CreationRequest, token: Token | None) -> tuple[bytes, ...]:
    """The list for the key. One that is too long is searched first; a hit is sent, so that a touch is still asked."""
    facts = session.facts
    usable = sign_in.fitting(request.exclude, facts)
    if len(usable) <= facts.credentials_in_list:
        return usable
    found = sign_in.probe(session, request.rp_id, usable, token)
    return () if found is None else (found,)


def _extensions(request: CreationRequest, known: Any) -> dict[str, Any]:
    """CTAP's inputs for those of the site's extensions that the key knows and that are served here."""
    asked = request.extensions
    inputs: dict[str, Any] = {}
    policy = asked.get("credentialProtectionPolicy")
    if policy in PROTECTION:
        if "credProtect" in known:
            inputs["credProtect"] = PROTECTION[policy]
        elif asked.get("enforceCredentialProtectionPolicy") is True and policy != "userVerificationOptional":
            raise KeyUnsupported("The security key can't protect the credential as the site wants it.")
    if asked.get("minPinLength") is True and "minPinLength" in known:
        inputs["minPinLength"] = True
    return inputs


def _response(
    request: CreationRequest, made: AttestationResponse, facts: KeyFacts, *, resident: bool
) -> Mapping[str, Any]:
    data = made.auth_data.credential_data
    if data is None:
        raise BadKeyData(detail="no credential in the answer")
    if request.attestation == "none":
        attestation = AttestationObject.create("none", _anonymous(made.auth_data, data), {})
    else:
        attestation = AttestationObject.create(made.fmt, made.auth_data, made.att_stmt)
    return _json(request, data.credential_id, attestation, facts, resident=resident)


def _anonymous(auth_data: AuthenticatorData, data: AttestedCredentialData) -> AuthenticatorData:
    """Without conveyance the model is not told either (WebAuthn level 3 section 5.1.3, step 27)."""
    anonymous: AuthenticatorData = AuthenticatorData.create(
        auth_data.rp_id_hash,
        auth_data.flags,
        auth_data.counter,
        AttestedCredentialData.create(Aaguid.NONE, data.credential_id, data.public_key),
        auth_data.extensions,
    )
    return anonymous


def _json(
    request: CreationRequest, credential: bytes, attestation: AttestationObject, facts: KeyFacts, *, resident: bool
) -> Mapping[str, Any]:
    response = RegistrationResponse(
        raw_id=credential,
        response=AuthenticatorAttestationResponse(
            client_data=CollectedClientData(request.client_data.json), attestation_object=attestation
        ),
        authenticator_attachment=AuthenticatorAttachment.CROSS_PLATFORM,
    )
    shown = dict(response)
    outputs = {"credProps": {"rk": resident}} if request.extensions.get("credProps") is True else {}
    inner = {**shown["response"], "transports": sorted(facts.transports or ("usb",))}
    return {**shown, "response": inner, "clientExtensionResults": outputs}


def _by_u2f(session: KeySession, request: CreationRequest) -> Made:
    if request.resident is Need.REQUIRED or request.verification is Need.REQUIRED or ES256 not in request.parameters:
        raise KeyUnsupported("This security key is too old for what the site wants.")
    if u2f.knows(session, request.rp_id, request.exclude) is not None:
        raise CredentialExists()
    attestation = u2f.register(session, request.rp_id, request.client_data.hash)
    data = attestation.auth_data.credential_data
    if data is None:
        raise BadKeyData(detail="no credential in the answer")
    if request.attestation == "none":
        attestation = AttestationObject.create("none", attestation.auth_data, {})
    response = _json(request, data.credential_id, attestation, session.facts, resident=False)
    return Made(response=response, discoverable=False)
