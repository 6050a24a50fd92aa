"""The authenticator that the commands work on: profile, ports, lasting memory, and what is forgotten without power."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from tokenbridge.authenticator.memory import Credential, Memory
from tokenbridge.authenticator.pin_protocol import KeyAgreement
from tokenbridge.authenticator.ports import World
from tokenbridge.authenticator.profile import Algorithm, PinProtocol, Profile
from tokenbridge.authenticator.status import Refusal, Status, require
from tokenbridge.authenticator.steps import Need, Steps, Wait
from tokenbridge.authenticator.token import PinUvAuthToken

Parameters: TypeAlias = dict[Any, Any]
Answer: TypeAlias = dict[Any, Any] | None


@dataclass(slots=True, kw_only=True)
class Enrolment:
    """A fingerprint that is being learnt."""

    template: bytes
    remaining: int


@dataclass(slots=True, kw_only=True)
class BlobUpload:
    """A large-blob array that is being written (section 6.10.2)."""

    expected: int
    data: bytearray = field(default_factory=bytearray)


class Core:
    """State shared by all commands. `save` returns when the memory is durable."""

    def __init__(self, profile: Profile, world: World) -> None:
        self.profile = profile
        self.world = world
        self.memory = world.store.load() or fresh_memory(profile)
        self.power_up()

    def power_up(self) -> None:
        """Plugged in: everything that is not in the memory starts anew."""
        self.powered_at = self.world.clock.now()
        self.token = PinUvAuthToken(self.profile, self.world.random)
        self.agreements = {number: KeyAgreement(number, self.world.random) for number in self.profile.pin_protocols}
        self.wrong_pins = 0
        self.channel: object = None
        self.following: Iterator[Any] | None = None
        """The rest of an enumeration or assertion, for the "next" command that may follow."""
        self.following_kind = ""
        self.following_seconds = 0.0
        self.following_until = 0.0
        self.enrolment: Enrolment | None = None
        self.upload: BlobUpload | None = None

    @property
    def now(self) -> float:
        return self.world.clock.now()

    def save(self) -> None:
        self.world.store.save(self.memory)

    @property
    def has_pin(self) -> bool:
        return self.memory.pin is not None

    @property
    def has_built_in(self) -> bool:
        """Whether built-in user verification is set up."""
        return self.profile.verifies_itself or (self.profile.fingerprints and bool(self.memory.fingerprints))

    @property
    def protected(self) -> bool:
        """ "Protected by some form of user verification" (section 6.1.2)."""
        return self.has_pin or self.has_built_in

    @property
    def speaks_u2f(self) -> bool:
        """CTAP1 has no user verification, so it goes when that is always wanted (section 7.2.4)."""
        attestation = self.world.attestation
        signs = attestation is not None and attestation.algorithm is Algorithm.ES256
        return self.profile.u2f and signs and not self.memory.always_uv

    @property
    def rooms_left(self) -> int:
        return max(0, self.profile.max_credentials - len(self.memory.credentials))

    def reset(self) -> None:
        """Back to the state of delivery (section 6.6)."""
        self.world.store.erase()
        if self.world.sensor is not None:
            self.world.sensor.erase()
        self.memory = fresh_memory(self.profile)
        powered_at = self.powered_at
        self.power_up()
        self.powered_at = powered_at
        self.save()

    def wait(self, purpose: str, *, need: Need = Need.TOUCH, rp_id: str = "", user: str = "") -> Wait:
        return Wait(need=need, purpose=purpose, rp_id=rp_id, user=user, seconds=self.profile.presence_seconds)

    def agreement(self, number: int | None) -> KeyAgreement:
        """The key agreement of a protocol that the request names (section 6.5.5)."""
        if number is None:
            raise Refusal(Status.MISSING_PARAMETER)
        require(number in self.agreements, Status.INVALID_PARAMETER)
        return self.agreements[PinProtocol(number)]

    def counted(self) -> int:
        """The next value of the signature counter (WebAuthn section 6.1.1). The caller saves."""
        self.memory.counter = (self.memory.counter + 1) & 0xFFFFFFFF
        return self.memory.counter

    def follow(self, kind: str, rest: Iterator[Any], *, seconds: float) -> None:
        """Let the "next" command of this kind go on with `rest`; any other command ends that."""
        self.following, self.following_kind = rest, kind
        self.following_seconds = seconds
        self.following_until = self.now + seconds

    def next_of(self, kind: str) -> Any:
        """The next item for the "next" command of `kind`; refuses with NOT_ALLOWED if there is none."""
        live = self.following is not None and self.following_kind == kind and self.now <= self.following_until
        require(live, Status.NOT_ALLOWED)
        item = next(self.following, None) if self.following is not None else None
        require(item is not None, Status.NOT_ALLOWED)
        self.following_until = self.now + self.following_seconds
        return item

    def forget_following(self) -> None:
        self.following = None

    def discard(self, credential: Credential) -> None:
        """Delete a discoverable credential. The caller saves."""
        self.memory.credentials.remove(credential)
        self.world.store.forget(credential.handle)


Command: TypeAlias = Callable[[Core, Parameters], Steps[Answer]]
"""Carries out one command; refuses by raising `Refusal`."""


def fresh_memory(profile: Profile) -> Memory:
    """That of a new or reset device."""
    return Memory(pin_tries=profile.pin_tries, uv_tries=profile.uv_tries, min_pin_length=profile.min_pin_length)
