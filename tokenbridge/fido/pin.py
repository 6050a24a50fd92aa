"""A key's PIN: tries left, setting and changing it, and the token that a right one gives (CTAP 2.1 section 6.5).

PINs stay in their `Secret`. python-fido2's own client takes them as text, which can't be wiped; its PIN protocols,
which do the arithmetic, are used here.
"""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import IntFlag
from typing import Any, Final

from fido2.ctap2.base import Ctap2
from fido2.ctap2.pin import ClientPin, PinProtocol, PinProtocolV1, PinProtocolV2

from tokenbridge.errors import (
    KeyPinMustChange,
    KeyPinPaused,
    KeyPinUnfit,
    KeyPinWrong,
    KeyUnsupported,
    TokenbridgeError,
)
from tokenbridge.fido.info import KeyFacts
from tokenbridge.fido.session import KeySession
from tokenbridge.fido.values import count
from tokenbridge.interaction import Secret

CMD = ClientPin.CMD
RESULT = ClientPin.RESULT
MAX_TRIES: Final = 255
MAX_BYTES: Final = 63
PADDED: Final = 64
"""Section 6.5.1: a PIN has at most 63 bytes of UTF-8 and is sent filled up to 64 with zeros."""


class Permission(IntFlag):
    """What a token may be used for (section 6.5.5.7)."""

    MAKE_CREDENTIAL = 0x01
    GET_ASSERTION = 0x02
    CREDENTIAL_MANAGEMENT = 0x04
    BIO_ENROLLMENT = 0x08
    LARGE_BLOB_WRITE = 0x10
    CONFIGURATION = 0x20


@dataclass(frozen=True, slots=True, kw_only=True)
class Tries:
    """`paused`: three wrong ones in a row, so the key wants to be plugged in again first."""

    left: int
    paused: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """What a right PIN or finger gives: it signs the requests that follow. Wiped with the `Secret` that holds it."""

    secret: Secret
    protocol: PinProtocol

    def sign(self, message: bytes) -> bytes:
        return self.protocol.authenticate(bytes(self.secret.reveal()), message)

    def wipe(self) -> None:
        self.secret.wipe()


def check(pin: Secret, facts: KeyFacts) -> None:
    """Raises `KeyPinUnfit` for what can't be this key's PIN; nothing is sent."""
    text = pin.reveal()
    try:
        length = len(text.decode("utf-8"))
    except UnicodeDecodeError as err:
        raise KeyPinUnfit(detail="not UTF-8") from err
    if not length >= 4 or len(text) > MAX_BYTES or 0 in text:
        raise KeyPinUnfit(detail="length")
    if length > facts.max_pin_length:
        raise KeyPinUnfit(detail="longer than the key takes")


def check_new(pin: Secret, facts: KeyFacts) -> None:
    """As `check`, and the key's own rule for new PINs."""
    check(pin, facts)
    if len(pin.reveal().decode("utf-8")) < facts.min_pin_length:
        raise KeyPinUnfit(
            "The PIN is too short for this security key.",
            next_step=f"Type at least {facts.min_pin_length} characters.",
        )


def tries(session: KeySession) -> Tries:
    """getPINRetries (section 6.5.5.2). Costs no try."""
    with session.calling() as ctap:
        answer = ctap.client_pin(protocol_of(session.facts).VERSION, CMD.GET_PIN_RETRIES)
        return Tries(
            left=count(answer[RESULT.PIN_RETRIES], MAX_TRIES), paused=answer.get(RESULT.POWER_CYCLE_STATE) is True
        )


def token(session: KeySession, pin: Secret, permission: Permission, rp_id: str | None = None) -> Token:
    """Exchange the PIN for a token: getKeyAgreement and getPinToken. The PIN is sent once, whatever comes of it.

    Raises `KeyPinUnfit` before anything is sent, `KeyPinWrong` with the tries that are left, `KeyPinPaused`,
    `KeyPinBlocked`, `KeyPinMustChange`.
    """
    check(pin, session.facts)
    protocol = protocol_of(session.facts)
    with _change_first(session), _wrong_pin_counted(session), session.calling() as ctap:
        agreement, shared = _agree(ctap, protocol)
        answer = ctap.client_pin(
            protocol.VERSION,
            *_how(session.facts),
            key_agreement=agreement,
            pin_hash_enc=protocol.encrypt(shared, _hash(pin)),
            **_permissions(session.facts, permission, rp_id),
        )
        return _token(protocol, shared, answer)


def built_in_token(session: KeySession, permission: Permission, rp_id: str | None = None) -> Token:
    """The same by finger (getPinUvAuthTokenUsingUvWithPermissions, section 6.5.5.7.3). Waits for the person."""
    protocol = protocol_of(session.facts)
    with session.calling() as ctap:
        agreement, shared = _agree(ctap, protocol)
        answer = ctap.client_pin(
            protocol.VERSION,
            CMD.GET_TOKEN_USING_UV,
            key_agreement=agreement,
            permissions=int(permission),
            permissions_rpid=rp_id,
        )
        return _token(protocol, shared, answer)


def set_first(session: KeySession, new: Secret) -> None:
    """setPIN (section 6.5.5.5): for a key without one."""
    check_new(new, session.facts)
    protocol = protocol_of(session.facts)
    with _forgetting(session), session.calling() as ctap:
        agreement, shared = _agree(ctap, protocol)
        encrypted = protocol.encrypt(shared, _padded(new))
        ctap.client_pin(
            protocol.VERSION,
            CMD.SET_PIN,
            key_agreement=agreement,
            new_pin_enc=encrypted,
            pin_uv_param=protocol.authenticate(shared, encrypted),
        )


def change(session: KeySession, old: Secret, new: Secret) -> None:
    """changePIN (section 6.5.5.6). Raises as `token` does."""
    check(old, session.facts)
    check_new(new, session.facts)
    protocol = protocol_of(session.facts)
    with _forgetting(session), _wrong_pin_counted(session), session.calling() as ctap:
        agreement, shared = _agree(ctap, protocol)
        encrypted, old_hash = protocol.encrypt(shared, _padded(new)), protocol.encrypt(shared, _hash(old))
        ctap.client_pin(
            protocol.VERSION,
            CMD.CHANGE_PIN,
            key_agreement=agreement,
            pin_hash_enc=old_hash,
            new_pin_enc=encrypted,
            pin_uv_param=protocol.authenticate(shared, encrypted + old_hash),
        )


def protocol_of(facts: KeyFacts) -> PinProtocol:
    """The best PIN/UV protocol that both sides know. Raises `KeyUnsupported`."""
    for kind in (PinProtocolV2, PinProtocolV1):
        if kind.VERSION in facts.pin_protocols:
            return kind()
    raise KeyUnsupported("The security key can't take a PIN.")


def _how(facts: KeyFacts) -> tuple[int]:
    permitted = facts.options.get("pinUvAuthToken") is True
    return (CMD.GET_TOKEN_USING_PIN if permitted else CMD.GET_TOKEN_USING_PIN_LEGACY,)


def _permissions(facts: KeyFacts, permission: Permission, rp_id: str | None) -> dict[str, Any]:
    if facts.options.get("pinUvAuthToken") is not True:
        return {}
    return {"permissions": int(permission), "permissions_rpid": rp_id}


def _agree(ctap: Ctap2, protocol: PinProtocol) -> tuple[Any, bytes]:
    answer = ctap.client_pin(protocol.VERSION, CMD.GET_KEY_AGREEMENT)
    return protocol.encapsulate(answer[RESULT.KEY_AGREEMENT])


def _token(protocol: PinProtocol, shared: bytes, answer: Any) -> Token:
    clear = protocol.decrypt(shared, answer[RESULT.PIN_UV_TOKEN])
    return Token(secret=Secret(bytearray(protocol.validate_token(clear))), protocol=protocol)


def _hash(pin: Secret) -> bytes:
    return hashlib.sha256(pin.reveal()).digest()[:16]


def _padded(pin: Secret) -> bytes:
    return bytes(pin.reveal()).ljust(PADDED, b"\0")


@contextmanager
def _wrong_pin_counted(session: KeySession) -> Iterator[None]:
    """A wrong PIN is told with the tries that are left; if the key can't say how many, without."""
    try:
        yield
    except KeyPinWrong as err:
        try:
            left = tries(session)
        except TokenbridgeError:
            raise err from None
        if left.paused:
            raise KeyPinPaused(detail=err.detail) from err
        raise KeyPinWrong(tries_left=left.left, detail=err.detail) from err


@contextmanager
def _forgetting(session: KeySession) -> Iterator[None]:
    """Afterwards the key is asked anew what it is: a refusal, too, may mean that it has a PIN already."""
    try:
        yield
    finally:
        session.forget()


@contextmanager
def _change_first(session: KeySession) -> Iterator[None]:
    """A key that insists on a new PIN refuses as if the one it got were wrong, or unfit (section 6.5.5.7)."""
    try:
        yield
    except (KeyPinWrong, KeyPinUnfit) as err:
        session.forget()
        if session.facts.force_pin_change:
            raise KeyPinMustChange(detail=err.detail) from err
        raise


def normalised(typed: Secret) -> Secret:
    """`typed` in Unicode's form C, as section 6.5.5.1 wants PINs; the given one is wiped."""
    with typed:
        try:
            text = typed.reveal().decode("utf-8")
        except UnicodeDecodeError as err:
            raise KeyPinUnfit(detail="not UTF-8") from err
        return Secret.from_text(unicodedata.normalize("NFC", text))
