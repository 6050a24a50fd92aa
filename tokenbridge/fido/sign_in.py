"""One sign-in with one key: getAssertion, with a PIN token before it when a PIN is wanted. Nothing else is sent.

known key, no PIN          getAssertion
known key, PIN             getKeyAgreement, getPinToken, getAssertion
known key, finger          getAssertion with the option "uv"
several accounts           getNextAssertion for each further one
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from fido2.ctap import CtapError
from fido2.ctap2.base import AssertionResponse, Ctap2, args
from fido2.webauthn import (
    AuthenticationResponse,
    AuthenticatorAssertionResponse,
    AuthenticatorAttachment,
    CollectedClientData,
)

from tokenbridge.errors import BadKeyData, KeyUnsupported, NoCredential, TokenbridgeError
from tokenbridge.fido import pin as key_pin
from tokenbridge.fido import u2f
from tokenbridge.fido.info import KeyFacts, Verification
from tokenbridge.fido.pin import Permission, Token
from tokenbridge.fido.request import AssertionRequest, Need
from tokenbridge.fido.session import KeySession
from tokenbridge.fido.status import by_finger
from tokenbridge.fido.values import count, members, octets, text
from tokenbridge.interaction import Secret

MAX_ACCOUNTS: Final = 64
CREDENTIAL: Final = 0x01
"""Member of getAssertion's answer (section 6.2)."""
PROBE_HASH: Final = b"\0" * 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Assertion:
    """A signature, and the name that the key keeps of the account, if it does and tells."""

    response: Mapping[str, Any]
    """`AuthenticationResponseJSON`."""
    account: str = ""
    display_name: str = ""


def sign(
    session: KeySession, request: AssertionRequest, how: Verification, pin: Secret | None = None
) -> tuple[Assertion, ...]:
    """The assertions of every account that the key has for the site; mostly one. Waits for a touch.

    `pin` is needed when `how` is PIN, and is sent once. Raises `NoCredential`, `KeyPinWrong` and its kin,
    `KeyUvFailed`, `KeyNotTouched`, `BadKeyData`, the `DeviceError` family, `Cancelled`, `TimedOut`.
    """
    facts = session.facts
    if not facts.ctap2:
        return (_by_u2f(session, request),)
    token = _token(session, request.rp_id, how, pin)
    try:
        chosen = _allowed(session, request, token)
        built_in = how is Verification.BUILT_IN
        with session.calling() as ctap, by_finger(built_in):
            found = _assertions(ctap, request, chosen, token, built_in=built_in)
        return tuple(_answer(request, item, chosen) for item in found)
    finally:
        if token is not None:
            token.wipe()


def _token(session: KeySession, rp_id: str, how: Verification, pin: Secret | None) -> Token | None:
    if how is not Verification.PIN:
        return None
    if pin is None:
        raise TokenbridgeError(detail="a PIN is needed and none was given")
    return key_pin.token(session, pin, Permission.GET_ASSERTION, rp_id)


def _assertions(
    ctap: Ctap2, request: AssertionRequest, allow: Sequence[bytes], token: Token | None, *, built_in: bool
) -> list[AssertionResponse]:
    digest = request.client_data.hash
    asked = args(
        request.rp_id,
        digest,
        _descriptors(allow),
        None,
        {"uv": True} if built_in else None,
        None if token is None else token.sign(digest),
        None if token is None else token.protocol.VERSION,
    )
    answer = dict(ctap.send_cbor(Ctap2.CMD.GET_ASSERTION, asked))
    if len(allow) == 1:
        answer.setdefault(CREDENTIAL, {"type": "public-key", "id": allow[0]})  # may be left out then (section 6.2.2)
    first = AssertionResponse.from_dict(answer)
    found = count(first.number_of_credentials or 1, MAX_ACCOUNTS)
    # A list of credentials names the account already: the first that fits is as good as any (section 6.2.2).
    return [first, *(ctap.get_next_assertion() for _ in range(found - 1 if not allow else 0))]


def _descriptors(ids: Sequence[bytes]) -> list[Mapping[str, Any]] | None:
    return [{"type": "public-key", "id": item} for item in ids] or None


def _allowed(session: KeySession, request: AssertionRequest, token: Token | None) -> tuple[bytes, ...]:
    """The credentials to name. A list that is longer than the key takes is narrowed down without a touch first."""
    facts = session.facts
    usable = fitting(request.allow, facts)
    if request.allow and not usable:
        raise NoCredential(detail="no identifier of the list has a length that the key makes")
    if len(usable) <= facts.credentials_in_list:
        return usable
    found = probe(session, request.rp_id, usable, token)
    if found is None:
        raise NoCredential(detail=f"none of {len(usable)}")
    return (found,)


def fitting(ids: Sequence[bytes], facts: KeyFacts) -> tuple[bytes, ...]:
    """Those that could be this key's: it never made longer ones (maxCredentialIdLength, section 6.4)."""
    return tuple(item for item in ids if not facts.id_length or len(item) <= facts.id_length)


def probe(session: KeySession, rp_id: str, ids: Sequence[bytes], token: Token | None) -> bytes | None:
    """The first of `ids` that the key knows: assertions without a touch (option "up" false), which prove nothing."""
    size = session.facts.credentials_in_list
    for start in range(0, len(ids), size):
        part = ids[start : start + size]
        with session.calling() as ctap:
            try:
                answer = ctap.get_assertion(
                    rp_id,
                    PROBE_HASH,
                    _descriptors(part),
                    options={"up": False},
                    pin_uv_param=None if token is None else token.sign(PROBE_HASH),
                    pin_uv_protocol=None if token is None else token.protocol.VERSION,
                )
            except CtapError as err:
                if err.code != CtapError.ERR.NO_CREDENTIALS:
                    raise
                continue
            return part[0] if len(part) == 1 else octets(answer.credential["id"])
    return None


def _answer(request: AssertionRequest, found: AssertionResponse, allow: Sequence[bytes]) -> Assertion:
    """Raises `BadKeyData` for an assertion that can't be the answer to `request`."""
    credential = octets(members(found.credential).get("id"))
    if allow and credential not in allow:
        raise BadKeyData(detail="a credential that was not asked for")
    user = members(found.user)
    handle = user.get("id")
    response = AuthenticationResponse(
        raw_id=credential,
        response=AuthenticatorAssertionResponse(
            client_data=CollectedClientData(request.client_data.json),
            authenticator_data=found.auth_data,
            signature=octets(found.signature),
            user_handle=None if handle is None else octets(handle),
        ),
        authenticator_attachment=AuthenticatorAttachment.CROSS_PLATFORM,
    )
    return Assertion(
        response=dict(response), account=text(user.get("name")), display_name=text(user.get("displayName"))
    )


def _by_u2f(session: KeySession, request: AssertionRequest) -> Assertion:
    if request.verification is Need.REQUIRED:
        raise KeyUnsupported("The site wants the security key to check your PIN or finger, and this one can't.")
    found = u2f.sign(session, request.rp_id, request.client_data.hash, request.allow)
    return _answer(request, found, request.allow)
