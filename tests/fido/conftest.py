"""Our side of security keys against virtual ones in this process, judged as a relying party would by python-fido2."""

from __future__ import annotations

import os
import time
from base64 import urlsafe_b64encode
from collections.abc import Iterator
from typing import Any

import pytest
from fido2.server import Fido2Server
from fido2.webauthn import (
    AttestationConveyancePreference,
    AttestedCredentialData,
    PublicKeyCredentialRpEntity,
    PublicKeyCredentialUserEntity,
    ResidentKeyRequirement,
    UserVerificationRequirement,
)

from tokenbridge.fido import pin as key_pin
from tokenbridge.fido import register, sign_in, verification
from tokenbridge.fido.info import Verification
from tokenbridge.fido.register import Made
from tokenbridge.fido.request import assertion_request, creation_request
from tokenbridge.fido.session import KeySession
from tokenbridge.fido.sign_in import Assertion
from tokenbridge.interaction import Secret
from tokenbridge.rig.virtual_key import Profile, VirtualKey
from tokenbridge.transport.base import KeyPlace
from tokenbridge.transport.worker import Cancel

ORIGIN = "https://portal.example.org"
RP_ID = "portal.example.org"
PIN = b"4711"
PLACE = KeyPlace(path="/in-process", name="Test key")


def untraced(name: str, command: bytes, response: bytes, seconds: float) -> None:
    """A trace that keeps nothing."""


def pin(text: bytes = PIN) -> Secret:
    return Secret(bytearray(text))


class Site:
    """A relying party that is not ours."""

    def __init__(self, rp_id: str = RP_ID) -> None:
        self.server = Fido2Server(PublicKeyCredentialRpEntity(id=rp_id, name="Test Hospital"), attestation="direct")
        self.credentials: list[AttestedCredentialData] = []

    def register(
        self,
        bench: KeyBench,
        *,
        need: str = "preferred",
        resident: str = "preferred",
        exclude: bool = True,
        user: bytes = b"ada",
        extensions: dict[str, Any] | None = None,
        attestation: str = "direct",
        algorithms: tuple[int, ...] | None = None,
    ) -> Made:
        """Register the bench's key, as far as our server would, and verify what comes of it."""
        self.server.attestation = AttestationConveyancePreference(attestation)
        options, state = self.server.register_begin(
            PublicKeyCredentialUserEntity(id=user, name=user.decode(), display_name="Ada Lovelace"),
            credentials=self.credentials if exclude else None,
            resident_key_requirement=ResidentKeyRequirement(resident),
            user_verification=UserVerificationRequirement(need),
            extensions=extensions,
        )
        data = _public_key(options)
        if algorithms is not None:
            data["pubKeyCredParams"] = [{"type": "public-key", "alg": number} for number in algorithms]
        request = creation_request(data, bench.origin)
        how = verification.to_register(bench.session.facts, request.verification)
        made = register.create(bench.session, request, how, pin() if how is Verification.PIN else None)
        auth_data = self.server.register_complete(state, made.response)
        assert auth_data.credential_data is not None
        self.credentials.append(auth_data.credential_data)
        return made

    def sign_in(
        self, bench: KeyBench, *, need: str = "preferred", named: bool = False, typed: bytes = PIN
    ) -> tuple[Assertion, ...]:
        """Sign in with the bench's key and verify every assertion."""
        options, state = self.server.authenticate_begin(
            self.credentials if named else None, user_verification=UserVerificationRequirement(need)
        )
        request = assertion_request(_public_key(options), bench.origin)
        how = verification.to_sign_in(bench.session.facts, request.verification)
        found = sign_in.sign(bench.session, request, how, pin(typed) if how is Verification.PIN else None)
        for item in found:
            self.server.authenticate_complete(state, self.credentials, item.response)
        return found


def _public_key(options: Any) -> dict[str, Any]:
    data: dict[str, Any] = dict(dict(options)["publicKey"])
    return data


class KeyBench:
    """A virtual key that is plugged in, and our session with it."""

    def __init__(self, key: VirtualKey, seconds: float = 20.0, origin: str = ORIGIN) -> None:
        self.key = key
        self.origin = origin
        self.touches = 0
        self._seconds = seconds
        self.session = self._connect()

    def _connect(self) -> KeySession:
        session = KeySession(self.key.plug_in_process(), PLACE, untraced)
        self.cancel = Cancel(time.monotonic() + self._seconds)
        # For the whole life of the session, where a worker does it for each job.
        self._job = session.during(self.cancel, self._touched)
        self._job.__enter__()
        return session

    def _touched(self) -> None:
        self.touches += 1

    def replug(self) -> None:
        """Out and in again: a new link, as after a real removal."""
        self.session.close()
        self.session = self._connect()

    def set_pin(self) -> None:
        key_pin.set_first(self.session, pin())
        self.heard()

    def heard(self) -> list[str]:
        """Names of the CTAP commands since the last call, subcommands of clientPIN by their own."""
        names = [item.command for item in self.key.transcript if item.name != "INIT"]
        self.key.transcript.clear()
        return names

    def close(self) -> None:
        self.session.close()
        self.key.close()


@pytest.fixture
def site() -> Site:
    return Site()


@pytest.fixture
def make_bench() -> Iterator[Any]:
    benches: list[KeyBench] = []

    def make(*, with_pin: bool = False, seconds: float = 20.0, origin: str = ORIGIN, **profile: Any) -> KeyBench:
        key = VirtualKey.create(Profile(aaguid=os.urandom(16), **profile))
        bench = KeyBench(key, seconds, origin)
        benches.append(bench)
        if with_pin:
            bench.set_pin()
        return bench

    yield make
    for bench in benches:
        bench.close()


@pytest.fixture
def bench(make_bench: Any) -> KeyBench:
    """A key without PIN."""
    made: KeyBench = make_bench()
    return made


@pytest.fixture
def pin_bench(make_bench: Any) -> KeyBench:
    """A key with the PIN `PIN`, which has been looked at."""
    made: KeyBench = make_bench(with_pin=True)
    assert made.session.facts.has_pin
    made.heard()
    return made


def challenge() -> str:
    return urlsafe_b64encode(os.urandom(32)).rstrip(b"=").decode()
