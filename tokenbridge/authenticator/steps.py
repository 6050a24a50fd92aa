"""How a command pauses: it is a generator that yields what it waits for and is resumed with the answer.

So whoever runs it can serve keepalives, cancellation and other channels meanwhile. Nothing here waits.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass
from enum import StrEnum, unique
from typing import Any, TypeAlias, TypeVar

from tokenbridge.authenticator.status import Refusal, Status

T = TypeVar("T")


@unique
class Need(StrEnum):
    """What a person is asked for."""

    TOUCH = "touch"
    VERIFICATION = "verification"
    """To show who it is: a finger that is recognised, a PIN typed on the device."""
    SAMPLE = "sample"
    """A finger that is to be learnt."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wait:
    """The command waits for a person. `patient` is false where the host asks again and again itself (CTAP1).

    `purpose` is the command's name, `rp_id` and `user` tell for whom: an authenticator with a display shows them.
    """

    need: Need
    purpose: str
    rp_id: str = ""
    user: str = ""
    seconds: float = 30.0
    patient: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Slow:
    """The command waits for `job`, which may take long: making an RSA key, a signature by a smartcard."""

    job: Callable[[], Any]


@unique
class Result(StrEnum):
    """How a `Wait` ended."""

    GRANTED = "granted"
    DENIED = "denied"
    NO_MATCH = "no-match"
    """Somebody else's finger or PIN."""
    TIMED_OUT = "timed-out"
    CANCELLED = "cancelled"
    POOR_SAMPLE = "poor-sample"
    """A finger that was not read well enough to learn from it."""


Step: TypeAlias = Wait | Slow
Steps: TypeAlias = Generator[Step, Any, T]
"""Yields `Wait` (resumed with a `Result`) or `Slow` (resumed with what the job returned)."""


def slowly(job: Callable[[], T]) -> Steps[T]:
    """Run `job` aside; its value."""
    value: T = yield Slow(job=job)
    return value


def ask(wait: Wait) -> Steps[Result]:
    """Ask the person. A cancellation by the host ends the command with KEEPALIVE_CANCEL (section 11.2.9.1.5)."""
    result: Result = yield wait
    if result is Result.CANCELLED:
        raise Refusal(Status.KEEPALIVE_CANCEL)
    return result


def touch(wait: Wait) -> Steps[None]:
    """Evidence of user interaction, or the refusal that the specification wants (section 6.1.2 step 14 and others)."""
    result = yield from ask(wait)
    if result is Result.TIMED_OUT:
        raise Refusal(Status.USER_ACTION_TIMEOUT)
    if result is not Result.GRANTED:
        raise Refusal(Status.OPERATION_DENIED)
