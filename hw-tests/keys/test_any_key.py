"""What holds for every security key, virtual or real, as the bridge speaks to it; python-fido2's server judges."""

from __future__ import annotations

import secrets
from contextlib import AbstractContextManager
from typing import Any, Protocol

import pytest
from fido2.server import Fido2Server
from fido2.webauthn import (
    AttestedCredentialData,
    PublicKeyCredentialParameters,
    PublicKeyCredentialRpEntity,
    PublicKeyCredentialUserEntity,
)

from tokenbridge.errors import CredentialExists, KeyPinWrong, NoCredential
from tokenbridge.fido import pin as pins
from tokenbridge.fido import register, sign_in, verification
from tokenbridge.fido.info import Verification
from tokenbridge.fido.request import Need, assertion_request, creation_request
from tokenbridge.fido.session import KeySession
from tokenbridge.interaction import Secret

ORIGIN, RP_ID = "https://login.hospital.example", "hospital.example"
ES256, EDDSA, RS256 = -7, -8, -257


class Open(Protocol):
    def __call__(self, key: Any) -> AbstractContextManager[KeySession]: ...


class Site:
    """A relying party with one account."""

    def __init__(self, *algorithms: int) -> None:
        self._server = Fido2Server(PublicKeyCredentialRpEntity(id=RP_ID, name="Hospital"), attestation="direct")
        if algorithms:
            self._server.allowed_algorithms = [
                PublicKeyCredentialParameters(type="public-key", alg=algorithm) for algorithm in algorithms
            ]
        self.user_id = secrets.token_bytes(16)
        self.counters: list[int] = []

    def register(self, session: KeySession, secret: str = "", **wanted: Any) -> AttestedCredentialData:
        user = PublicKeyCredentialUserEntity(id=self.user_id, name="ada", display_name="Ada Lovelace")
        options, state = self._server.register_begin(user, **wanted)
        request = creation_request(dict(options)["publicKey"], ORIGIN)
        how = verification.to_register(session.facts, request.verification)
        made = register.create(session, request, how, _pin(how, secret))
        data = self._server.register_complete(state, made.response).credential_data
        assert data is not None
        return data

    def sign_in(
        self, session: KeySession, made: AttestedCredentialData, secret: str = "", *, by_id: bool = True, need: str
    ) -> str | None:
        """The user handle that the key gave."""
        allowed = [made] if by_id else None
        options, state = self._server.authenticate_begin(allowed, user_verification=need)
        request = assertion_request(dict(options)["publicKey"], ORIGIN)
        how = verification.to_sign_in(session.facts, Need(need))
        (found,) = sign_in.sign(session, request, how, _pin(how, secret))
        assert self._server.authenticate_complete(state, [made], found.response) == made
        handle: str | None = found.response["response"].get("userHandle")
        return handle


def _pin(how: Verification, secret: str) -> Secret | None:
    if how is not Verification.PIN:
        return None
    if not secret:
        pytest.skip("this key wants its PIN; --rig-allow-wipe gives it a known one")
    return Secret(secret.encode())


def test_it_says_what_it_is_and_is_asked_once(key: Any, open_key: Open) -> None:
    with open_key(key) as session:
        facts = session.facts
        assert session.facts is facts
        assert facts.versions


def test_registering_and_signing_in_by_touch(key: Any, open_key: Open) -> None:
    site = Site()
    with open_key(key) as session:
        key.touch()
        made = site.register(session, user_verification="discouraged")
        key.touch()
        site.sign_in(session, made, need="discouraged")


@pytest.mark.parametrize("algorithm", [ES256, EDDSA, RS256])
def test_algorithms(key: Any, open_key: Open, algorithm: int) -> None:
    site = Site(algorithm)
    with open_key(key) as session:
        with session.calling() as ctap:
            offered = {item["alg"] for item in ctap.info.algorithms}
        if offered and algorithm not in offered:
            pytest.skip(f"this key has no algorithm {algorithm}")
        key.touch()
        made = site.register(session, user_verification="discouraged")
        assert made.public_key[3] == algorithm
        key.touch()
        site.sign_in(session, made, need="discouraged")


def test_with_pin_and_without_a_user_name(key_with_pin: Any, open_key: Open) -> None:
    site, pin = Site(), key_with_pin.pin
    with open_key(key_with_pin) as session:
        key_with_pin.touch()
        made = site.register(session, pin, user_verification="required", resident_key_requirement="required")
        for by_id in (True, False):
            key_with_pin.touch()
            handle = site.sign_in(session, made, pin, by_id=by_id, need="required")
        assert handle is not None


def test_a_credential_that_exists_is_said_so(key: Any, open_key: Open) -> None:
    site = Site()
    with open_key(key) as session:
        key.touch()
        made = site.register(session, user_verification="discouraged")
        key.touch()
        with pytest.raises(CredentialExists):
            site.register(session, user_verification="discouraged", credentials=[made])


def test_a_key_without_credential_says_so(key: Any, open_key: Open) -> None:
    site = Site()
    with open_key(key) as session:
        key.touch()
        made = site.register(session, user_verification="discouraged")
        stranger = AttestedCredentialData.create(made.aaguid, bytes(len(made.credential_id)), made.public_key)
        key.touch()
        with pytest.raises(NoCredential):
            site.sign_in(session, stranger, need="discouraged")


def test_a_wrong_pin_costs_one_try_and_the_right_one_gives_it_back(key_with_pin: Any, open_key: Open) -> None:
    site, pin = Site(), key_with_pin.pin
    with open_key(key_with_pin) as session:
        full = pins.tries(session).left
        with pytest.raises(KeyPinWrong) as caught:
            site.register(session, "000000", user_verification="required")
        assert caught.value.tries_left == full - 1
        key_with_pin.touch()
        site.register(session, pin, user_verification="required")
        assert pins.tries(session).left == full


def test_it_is_the_same_key_after_a_replug(fresh_key: Any, open_key: Open) -> None:
    site = Site()
    with open_key(fresh_key) as session:
        fresh_key.touch()
        made = site.register(session, user_verification="discouraged")
    fresh_key.replug()
    with open_key(fresh_key) as session:
        fresh_key.touch()
        site.sign_in(session, made, need="discouraged")
