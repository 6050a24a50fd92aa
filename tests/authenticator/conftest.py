"""An authenticator in memory with a clock that tests set, and the platform's half of the PIN protocols."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import pytest
from fido2 import cbor
from fido2.ctap2.pin import PinProtocol, PinProtocolV1, PinProtocolV2

from tokenbridge.authenticator.authenticator import Authenticator
from tokenbridge.authenticator.commands import CommandByte
from tokenbridge.authenticator.ports import World
from tokenbridge.authenticator.profile import Profile
from tokenbridge.authenticator.status import Status
from tokenbridge.authenticator.steps import Result, Wait
from tokenbridge.rig.key_person import Person, Sensor
from tokenbridge.rig.key_pki import BatchKey, KeyPki
from tokenbridge.rig.key_state import KeyState
from tokenbridge.rig.key_store import SoftKeyStore

AAGUID = bytes(range(16))
RP_ID = "example.org"
RP_HASH = hashlib.sha256(RP_ID.encode()).digest()
DIGEST = hashlib.sha256(b"client data").digest()
PIN = "1234"
CHALLENGE_U2F = bytes([9]) * 32


class Clock:
    """Stands still until it is told to go on."""

    def __init__(self) -> None:
        self.time = 1000.0

    def now(self) -> float:
        return self.time

    def advance(self, seconds: float) -> None:
        self.time += seconds


class Counting:
    """Not random at all, but never the same twice."""

    def __init__(self) -> None:
        self.calls = 0

    def bytes(self, count: int) -> bytes:
        self.calls += 1
        seed = self.calls.to_bytes(8, "big")
        return b"".join(hashlib.sha256(seed + bytes([i])).digest() for i in range(count // 32 + 1))[:count]


@dataclass
class Bench:
    """One device. `results` are what the person does next, in order; then she touches whatever asks."""

    profile: Profile
    batch: BatchKey
    clock: Clock = field(default_factory=Clock)
    results: list[Result] = field(default_factory=list)
    waits: list[Wait] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.state = KeyState(profile=self.profile, serial="0001", device_key=bytes(32), batch=self.batch)
        self.person = Person(self.state)
        self.store = SoftKeyStore(self.state)
        self.random = Counting()
        self.power_cycle()

    def power_cycle(self) -> None:
        sensor = Sensor(self.state, self.person) if self.profile.fingerprints else None
        world = World(store=self.store, clock=self.clock, random=self.random, attestation=self.batch, sensor=sensor)
        self.device = Authenticator(self.profile, world)

    @property
    def memory(self) -> Any:
        return self.device.core.memory

    def raw(self, request: bytes, channel: object = 1) -> bytes:
        return self.device.process_cbor(request, self._answer, channel)

    def call(self, command: int, parameters: Any = None, channel: object = 1) -> tuple[Status, dict[int, Any]]:
        body = b"" if parameters is None else cbor.encode(parameters)
        answer = self.raw(bytes([command]) + body, channel)
        return Status(answer[0]), cbor.decode(answer[1:]) if len(answer) > 1 else {}

    def ok(self, command: int, parameters: Any = None, channel: object = 1) -> dict[int, Any]:
        status, answer = self.call(command, parameters, channel)
        assert status is Status.OK, status
        return answer

    def _answer(self, wait: Wait) -> Result:
        self.waits.append(wait)
        if self.results:
            return self.results.pop(0)
        self.person.begin(wait, self.clock.now())
        return self.person.poll(self.clock.now()) or Result.TIMED_OUT


@dataclass
class Platform:
    """The host's half, by one PIN protocol."""

    bench: Bench
    protocol: PinProtocol

    @property
    def number(self) -> int:
        return self.protocol.VERSION

    def agree(self) -> tuple[Any, bytes]:
        answer = self.bench.ok(CommandByte.CLIENT_PIN, {1: self.number, 2: 2})
        return self.protocol.encapsulate(answer[1])

    def set_pin(self, pin: str = PIN, *, padded: bytes | None = None) -> Status:
        agreement, secret = self.agree()
        sealed = self.protocol.encrypt(secret, pin.encode().ljust(64, b"\0") if padded is None else padded)
        param = self.protocol.authenticate(secret, sealed)
        return self.bench.call(CommandByte.CLIENT_PIN, {1: self.number, 2: 3, 3: agreement, 4: param, 5: sealed})[0]

    def change_pin(self, old: str, new: str) -> Status:
        agreement, secret = self.agree()
        sealed = self.protocol.encrypt(secret, new.encode().ljust(64, b"\0"))
        digest = self.protocol.encrypt(secret, hashlib.sha256(old.encode()).digest()[:16])
        param = self.protocol.authenticate(secret, sealed + digest)
        request = {1: self.number, 2: 4, 3: agreement, 4: param, 5: sealed, 6: digest}
        return self.bench.call(CommandByte.CLIENT_PIN, request)[0]

    def try_token(
        self, pin: str = PIN, permissions: int | None = None, rp_id: str | None = None
    ) -> tuple[Status, bytes]:
        """By getPinToken without permissions, else by PIN with permissions."""
        agreement, secret = self.agree()
        digest = self.protocol.encrypt(secret, hashlib.sha256(pin.encode()).digest()[:16])
        request = {1: self.number, 2: 5 if permissions is None else 9, 3: agreement, 6: digest}
        return self._token(request, secret, permissions, rp_id)

    def try_uv_token(self, permissions: int, rp_id: str | None = None) -> tuple[Status, bytes]:
        agreement, secret = self.agree()
        return self._token({1: self.number, 2: 6, 3: agreement}, secret, permissions, rp_id)

    def token(self, permissions: int | None = None, rp_id: str | None = None, pin: str = PIN) -> bytes:
        status, token = self.try_token(pin, permissions, rp_id)
        assert status is Status.OK, status
        return token

    def uv_token(self, permissions: int, rp_id: str | None = None) -> bytes:
        status, token = self.try_uv_token(permissions, rp_id)
        assert status is Status.OK, status
        return token

    def sign(self, token: bytes, message: bytes = DIGEST) -> bytes:
        return self.protocol.authenticate(token, message)

    def manage(
        self, command: int, token: bytes, sub: int, params: Any = None, *, prefix: bytes = b""
    ) -> tuple[Status, dict[int, Any]]:
        """A management command whose members are subCommand 1, subCommandParams 2, protocol 3, param 4."""
        body = b"" if params is None else cbor.encode(params)
        param = self.sign(token, prefix + bytes([sub]) + body)
        request = {1: sub, 3: self.number, 4: param, **({} if params is None else {2: params})}
        return self.bench.call(command, request)

    def tries(self) -> dict[int, Any]:
        return self.bench.ok(CommandByte.CLIENT_PIN, {2: 1})

    def _token(
        self, request: dict[int, Any], secret: bytes, permissions: int | None, rp_id: str | None
    ) -> tuple[Status, bytes]:
        if permissions is not None:
            request[9] = permissions
        if rp_id is not None:
            request[10] = rp_id
        status, answer = self.bench.call(CommandByte.CLIENT_PIN, request)
        return status, self.protocol.decrypt(secret, answer[2]) if answer else b""


def register(**changes: Any) -> dict[int, Any]:
    """A makeCredential request; members are changed by name, None removes one."""
    names = {"hash": 1, "rp": 2, "user": 3, "algorithms": 4, "exclude": 5, "extensions": 6, "options": 7}
    names |= {"param": 8, "protocol": 9, "enterprise": 10}
    request = {
        1: DIGEST,
        2: {"id": RP_ID, "name": "Example"},
        3: {"id": b"user-1", "name": "ada", "displayName": "Ada Lovelace"},
        4: [{"alg": -7, "type": "public-key"}],
    }
    request |= {names[name]: value for name, value in changes.items()}
    return {number: value for number, value in request.items() if value is not None}


def sign_in(**changes: Any) -> dict[int, Any]:
    """A getAssertion request; members are changed by name, None removes one."""
    names = {"rp_id": 1, "hash": 2, "allow": 3, "extensions": 4, "options": 5, "param": 6, "protocol": 7}
    request: dict[int, Any] = {1: RP_ID, 2: DIGEST}
    request |= {names[name]: value for name, value in changes.items()}
    return {number: value for number, value in request.items() if value is not None}


def descriptor(identity: bytes) -> dict[str, Any]:
    return {"id": identity, "type": "public-key"}


def credential_id(auth_data: bytes) -> bytes:
    length = int.from_bytes(auth_data[53:55], "big")
    return auth_data[55 : 55 + length]


@pytest.fixture(scope="session")
def key_pki() -> KeyPki:
    return KeyPki.create(now=datetime.now(UTC))


@pytest.fixture(scope="session")
def batch(key_pki: KeyPki) -> BatchKey:
    return key_pki.batch(AAGUID, now=datetime.now(UTC))


@pytest.fixture
def make_bench(batch: BatchKey) -> Callable[..., Bench]:
    """A device whose profile differs from the default in what is named."""
    return lambda **changes: Bench(Profile(aaguid=AAGUID, **changes), batch)


@pytest.fixture
def bench(make_bench: Callable[..., Bench]) -> Bench:
    return make_bench()


@pytest.fixture
def finger_bench(make_bench: Callable[..., Bench]) -> Bench:
    """With a sensor that knows the person's finger."""
    made = make_bench(fingerprints=True)
    made.memory.fingerprints[b"\x01\x01"] = "thumb"
    made.state.fingers[b"\x01\x01"] = made.person.finger
    made.device.core.save()
    return made


@pytest.fixture(params=[PinProtocolV1, PinProtocolV2], ids=["one", "two"])
def platform(request: pytest.FixtureRequest, bench: Bench) -> Platform:
    return Platform(bench, request.param())
