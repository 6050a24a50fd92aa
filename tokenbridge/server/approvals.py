"""Questions to a telephone: asked of an account within its limits, and the two-digit number that belongs to one."""

from __future__ import annotations

import datetime as dt
import hmac
import math
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import Final

from sqlalchemy.orm import Session

from tokenbridge.errors import NotAllowedNow, NotAnswered, RejectReason, TooMany
from tokenbridge.rp.proof import Method
from tokenbridge.server import keys
from tokenbridge.server.keys import KeyBook
from tokenbridge.server.message_limits import ANOTHER
from tokenbridge.server.methods.base import Case, Question
from tokenbridge.server.store import approvals, throttle
from tokenbridge.server.store.approval_schema import Approval
from tokenbridge.server.store.approvals import NewApproval, Stage

SAID_OF_CALLS: Final[Mapping[str, str]] = MappingProxyType(
    {
        Stage.BUSY: "Your phone was busy.",
        Stage.UNANSWERED: "Nobody answered the call.",
        Stage.UNREACHED: "The call did not get through.",
    }
)
LOWEST: Final = 10
NUMBERS: Final = 90
"""Two digits, the first of which is no zero: people leave such zeros away."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A question that a sign-in has begun, as its own page may show it. `waiting`: nobody has answered so far.
    `not_taken`: of a call that nobody has taken, why; else empty."""

    method: Method
    number: str
    waiting: bool
    expires_at: dt.datetime
    seconds_left: int
    not_taken: str = ""

    @property
    def problem(self) -> str:
        """Why there is no answer, for people; empty while there may be one."""
        return SAID_OF_CALLS.get(self.not_taken, "")


@dataclass(frozen=True, slots=True, kw_only=True)
class NotApproved:
    """Why there is no approval. `detail` is for the record; without a `message` people are told what `reason` says."""

    reason: RejectReason
    detail: str
    message: str = ""
    next_step: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Approvals:
    """Works inside the caller's transactions."""

    keys: KeyBook

    def ask(
        self, case: Case, method: Method, tell: Callable[[str], None], *, sent_to: str, numbered: bool = True
    ) -> Question:
        """Ask the account; `tell` gets the question's handle.

        Raises `TooMany` after a denial, too soon after the last question, and beyond the limit."""
        self._check_limits(case)
        handle, number = keys.new_token(), new_number() if numbered else ""
        new = NewApproval(
            handle=handle,
            account_id=case.account,
            ref=case.ref,
            method=method,
            number=self.keys.ring().encrypt(number.encode(), context=_context(handle)) if numbered else None,
            client=case.client,
            address=case.address,
            device=case.device,
        )
        return Question(
            approval_id=approvals.ask(case.tx, new, case.now),
            method=method,
            sent_to=sent_to,
            number=number,
            resend_at=approvals.free_at(case.tx, case.account, case.now),
            expires_at=case.now + approvals.LIFETIME,
            tell=partial(tell, handle),
        )

    def asked(self, tx: Session, ref: str, now: dt.datetime) -> Asked | None:
        """The newest question of a sign-in that nothing has come of yet."""
        row = approvals.newest(tx, ref)
        if row is None or row.stage in (Stage.USED, Stage.VOID):
            return None
        waiting = row.stage == Stage.ASKED and now < row.expires_at
        return Asked(
            method=Method(row.method),
            number=self.number(row),
            waiting=waiting,
            expires_at=row.expires_at,
            seconds_left=max(0, math.ceil((row.expires_at - now).total_seconds())),
            not_taken=row.stage if row.stage in approvals.NOT_TAKEN else "",
        )

    def barred_until(self, tx: Session, account: int, now: dt.datetime) -> dt.datetime | None:
        """Until when nobody is asked for the account, because a question was declined; None: it may be asked."""
        until = approvals.blocked_until(tx, account)
        return until if until is not None and until > now else None

    def number(self, row: Approval) -> str:
        """Empty when nothing has to be typed."""
        if row.number is None:
            return ""
        return self.keys.ring().decrypt(row.number, context=_context(row.handle)).decode()

    def fits(self, row: Approval, number: str) -> bool:
        """Whether `number` is the one that the sign-in page shows; no when there is none."""
        return row.number is not None and hmac.compare_digest(
            self.number(row).encode(), number.encode("utf-8", "surrogatepass")
        )

    def use(self, tx: Session, row: Approval, now: dt.datetime) -> NotApproved | None:
        """Use an approval up: None, once. Else why there is none: DECLINED, or APPROVAL_FAILED, which is told once,
        since the question is void after it. Raises `NotAnswered` while there is no answer, and `NotAllowedNow` when
        another question has taken the place of this one."""
        if row.stage == Stage.DENIED:
            return NotApproved(reason=RejectReason.DECLINED, detail="declined on the telephone")
        if approvals.mark(tx, row.id, Stage.APPROVED, Stage.USED):
            return None
        for stage, detail in ((Stage.FAILED, "wrong number, too often"), (Stage.ASKED, "not answered in time")):
            over = stage is Stage.FAILED or row.expires_at <= now
            if over and approvals.mark(tx, row.id, stage, Stage.VOID):
                return NotApproved(reason=RejectReason.APPROVAL_FAILED, detail=detail)
        for stage in approvals.NOT_TAKEN:
            if approvals.mark(tx, row.id, stage, Stage.VOID):
                return _not_taken(tx, row, stage, now)
        if row.stage == Stage.ASKED:
            raise NotAnswered
        raise NotAllowedNow("Another request has taken the place of this one.", next_step="Send a new one.")

    def _check_limits(self, case: Case) -> None:
        until = self.barred_until(case.tx, case.account, case.now)
        if until is not None:
            raise TooMany(
                "A request was declined on the telephone a short time ago.",
                seconds=math.ceil((until - case.now).total_seconds()),
                instead=ANOTHER,
            )
        free = approvals.free_at(case.tx, case.account, case.now)
        if free > case.now:
            seconds = math.ceil((free - case.now).total_seconds())
            raise TooMany("A request was sent a short time ago.", seconds=seconds)
        if not throttle.allow(case.tx, throttle.APPROVALS, str(case.account), case.now):
            seconds = throttle.wait(throttle.APPROVALS, case.now)
            raise TooMany("Too many requests were sent.", seconds=seconds, instead=ANOTHER)


def _not_taken(tx: Session, row: Approval, stage: Stage, now: dt.datetime) -> NotApproved:
    seconds = math.ceil((approvals.next_at(tx, row.account_id, now) - now).total_seconds())
    wait = f"Wait {seconds} seconds, then have us call again" if seconds > 0 else "Have us call again"
    return NotApproved(
        reason=RejectReason.APPROVAL_FAILED,
        detail=f"call {stage}",
        message=SAID_OF_CALLS[stage],
        next_step=f"{wait}, or use another method.",
    )


def new_number() -> str:
    return str(LOWEST + secrets.randbelow(NUMBERS))


def _context(handle: str) -> str:
    return f"approval:{handle}"
