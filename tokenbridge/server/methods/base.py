"""What a fallback method is: one protocol for all of them, within one transaction of the database."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from sqlalchemy.orm import Session

from tokenbridge.rp.proof import Method
from tokenbridge.server.senders.port import Message


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """Whom it is about, and what for.

    `ref`: the hash of a sign-in's token, or, when a method is set up, of what permits that (a session, an enrolment
    code), so that nobody goes on with what somebody else began.
    """

    tx: Session
    now: dt.datetime
    account: int
    ref: str = ""


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
class Setup:
    """What a person needs to confirm a method that does not count yet: `shown` is for them, JSON types."""

    shown: Mapping[str, Any] = field(default_factory=dict)
    outgoing: Outgoing | None = None


class FallbackMethod(Protocol):
    """Everything that is wrong with a code comes back as text for the audit trail, empty when the code is good.

    `enrol` begins to set the method up by what the person gives; what was there before stays until `confirm`.
    `start` sends what `check` then compares. `check` uses a code up. All may raise `RequestRefused`.
    """

    def enrol(self, case: Case, given: str, /) -> Setup: ...

    def confirm(self, case: Case, code: str, /) -> str: ...

    def start(self, case: Case, /) -> Outgoing: ...

    def check(self, case: Case, code: str, /) -> str: ...
