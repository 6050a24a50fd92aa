"""What an authenticator needs of the world. None of it is implemented here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import IntEnum, unique
from typing import Any, Generic, Protocol, TypeVar

from tokenbridge.authenticator.memory import Memory
from tokenbridge.authenticator.profile import Algorithm
from tokenbridge.authenticator.steps import Result, Wait

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


class Clock(Protocol):
    def now(self) -> float:
        """Monotonic time in seconds."""


class Random(Protocol):
    def bytes(self, count: int) -> bytes:
        """`count` bytes that nobody can guess."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NewKey:
    """A key pair that was just made. `public` is its COSE key."""

    handle: bytes
    public: Mapping[int, Any]


class KeyStore(Protocol):
    """Keeps the private keys and the memory. Keys never leave it but inside what it sealed itself.

    A handle is the store's own name for a key. It may hold the key itself; then nothing needs to be kept for
    credentials that are not discoverable. Handles leave the device inside what `seal` returned only.
    """

    def load(self) -> Memory | None:
        """What was saved last, None for a new device."""

    def save(self, memory: Memory) -> None:
        """Return only when it is durable."""

    def erase(self) -> None:
        """Forget all keys and the memory, so that nothing sealed before can be opened (section 6.6)."""

    def generate(self, algorithm: Algorithm, *, discoverable: bool) -> NewKey:
        """Raises `StoreFull` if it has no room, as all methods `StoreFault` for what else may go wrong."""

    def sign(self, handle: bytes, algorithm: Algorithm, message: bytes) -> bytes:
        """The signature of `message` in the form of WebAuthn section 6.5.5. Raises `KeyGone`."""

    def forget(self, handle: bytes) -> None:
        """The credential with this key is gone."""

    def seal(self, clear: bytes, context: bytes) -> bytes:
        """Encrypted and authenticated under a key of the device, bound to `context`."""

    def unseal(self, sealed: bytes, context: bytes) -> bytes | None:
        """Inverse of `seal`; None for anything that this device did not seal with this context."""

    def derive(self, label: bytes) -> bytes:
        """32 secret bytes that only this device can make, always the same for a label, until `erase`."""


class StoreFault(Exception):
    """The key store can't do it now; the command ends with the status OTHER."""


class StoreFull(StoreFault):
    """The key store has no room for another key."""


class KeyGone(StoreFault):
    """The key store has no key of that handle."""


class AttestationKey(Protocol):
    """The key of a batch of authenticators (WebAuthn section 14.4.1)."""

    @property
    def algorithm(self) -> Algorithm: ...

    @property
    def certificates(self) -> tuple[bytes, ...]:
        """DER, the leaf first, without the root."""

    def sign(self, message: bytes) -> bytes: ...


class Presence(Protocol):
    """The person at the device: button, sensor, or a prompt. One thing is asked for at a time."""

    def begin(self, wait: Wait, now: float) -> None:
        """Start to ask."""

    def poll(self, now: float) -> Result | None:
        """How it ended, None if it has not. Never blocks; time-outs and cancellation are the caller's."""

    def end(self) -> None:
        """Stop asking: answered, cancelled or timed out."""

    def wink(self) -> None:
        """Draw attention (section 11.2.9.2.2)."""


@unique
class SensorKind(IntEnum):
    """Section 6.7.2."""

    TOUCH = 1
    SWIPE = 2


class UserVerification(Protocol):
    """Built-in user verification: a sensor that keeps its templates and compares fingers itself.

    How it went comes through `Presence`, as answers to `Need.VERIFICATION` and `Need.SAMPLE`. A device that verifies
    people in another way needs no sensor, only a `Presence` that does it.
    """

    @property
    def kind(self) -> SensorKind: ...

    @property
    def samples(self) -> int:
        """Good samples that an enrolment takes."""

    @property
    def capacity(self) -> int:
        """Templates at most."""

    def enrol_begin(self, template: bytes) -> None:
        """The samples that follow are for a new template."""

    def enrol_finish(self) -> None:
        """Keep the new template."""

    def enrol_cancel(self) -> None: ...

    def remove(self, template: bytes) -> None: ...

    def erase(self) -> None: ...


class Pending(Protocol, Generic[T_co]):
    """A job under way."""

    def done(self) -> bool: ...

    def result(self) -> T_co: ...


class Jobs(Protocol):
    """Runs slow jobs so that the device can go on answering."""

    def start(self, job: Callable[[], T]) -> Pending[T]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """All ports of one authenticator. `sensor` is needed if the profile has fingerprints."""

    store: KeyStore
    clock: Clock
    random: Random
    attestation: AttestationKey | None = None
    sensor: UserVerification | None = None
