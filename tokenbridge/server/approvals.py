"""Questions to a telephone: asked of an account within its limits, and the two-digit number that belongs to one."""

from __future__ import annotations

import datetime as dt
import hmac
import math
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
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

LOWEST: Final = 10
NUMBERS: Final = 90
"""Two digits, the first of which is no zero: people leave such zeros away."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A question that a sign-in has begun, as its own page may show it. `waiting`: nobody has answered so far."""

    method: Method
    number: str
    waiting: bool
    expires_at: dt.datetime
    seconds_left: int


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
        )

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

    def use(self, tx: Session, row: Approval, now: dt.datetime) -> tuple[RejectReason, str] | None:
        """Use an approval up: None, once. Else why there is none, and its detail: DECLINED, or APPROVAL_FAILED, which
        is told once, since the question is void after it. Raises `NotAnswered` while there is no answer, and
        `NotAllowedNow` when another question has taken the place of this one."""
        if row.stage == Stage.DENIED:
            return RejectReason.DECLINED, "declined on the telephone"
        if approvals.mark(tx, row.id, Stage.APPROVED, Stage.USED):
            return None
        for stage, detail in ((Stage.FAILED, "wrong number, too often"), (Stage.ASKED, "not answered in time")):
            over = stage is Stage.FAILED or row.expires_at <= now
            if over and approvals.mark(tx, row.id, stage, Stage.VOID):
                return RejectReason.APPROVAL_FAILED, detail
        if row.stage == Stage.ASKED:
            raise NotAnswered
        raise NotAllowedNow("Another request has taken the place of this one.", next_step="Send a new one.")

    def _check_limits(self, case: Case) -> None:
        until = approvals.blocked_until(case.tx, case.account)
        if until is not None and until > case.now:
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


def new_number() -> str:
    return str(LOWEST + secrets.randbelow(NUMBERS))


def _context(handle: str) -> str:
    return f"approval:{handle}"
