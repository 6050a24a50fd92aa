"""What a fallback method is: the parts that it may have, each within one transaction of the database."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeAlias, runtime_checkable

from sqlalchemy.orm import Session

from tokenbridge.rp.proof import Method
from tokenbridge.server.senders.port import Message


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """Whom it is about, and what for.

    `ref`: the hash of a sign-in's token, or, when a method is set up, of what permits that (a session, an enrolment
    code), so that nobody goes on with what somebody else began. `client`, `address` and `device` say who asks, for
    people to read: the program, its network address, its browser. `allowed`: by what else a code may go out.
    """

    tx: Session
    now: dt.datetime
    account: int
    ref: str = ""
    client: str = ""
    address: str = ""
    device: str = ""
    allowed: frozenset[Method] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Outgoing:
    """A message that is reserved in the database and goes out once that is committed."""

    code_id: int
    phone_id: int
    method: Method
    message: Message
    sent_to: str
    resend_at: dt.datetime
    expires_at: dt.datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """An approval that is asked for, open once that is committed. `tell` then lets the telephone know of it; raising
    `SendFailed` takes the question back. `number` is what the person types on the telephone; empty: nothing."""

    approval_id: int
    method: Method
    sent_to: str
    number: str
    resend_at: dt.datetime
    expires_at: dt.datetime
    tell: Callable[[], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """What a person needs to confirm a method that does not count yet: `shown` is for them, JSON types."""

    shown: Mapping[str, Any] = field(default_factory=dict)
    outgoing: Outgoing | None = None


@runtime_checkable
class Enrols(Protocol):
    """Begins to set the method up by what the person gives; what was there before stays until it is confirmed."""

    def enrol(self, case: Case, given: str, /) -> Setup: ...


@runtime_checkable
class Confirms(Protocol):
    """Ends what `enrol` began. What is wrong comes back as text for the audit trail, empty when the code is good."""

    def confirm(self, case: Case, code: str, /) -> str: ...


@runtime_checkable
class Starts(Protocol):
    """Sends a code, or asks for an approval. One of `login.STARTED_FIRST`."""

    def start(self, case: Case, /) -> Outgoing | Question: ...


@runtime_checkable
class Checks(Protocol):
    """Compares a code and uses it up; the answer is as that of `confirm`. Not one of `login.APPROVED_ELSEWHERE`."""

    def check(self, case: Case, code: str, /) -> str: ...


FallbackMethod: TypeAlias = Enrols | Confirms | Starts | Checks
"""A method has the parts that it needs, and no others. All may raise `RequestRefused`."""
