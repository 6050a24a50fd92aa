"""Approvals as rows: questions that are answered on a telephone. Each is answered once and used once."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from enum import StrEnum, unique
from typing import Final

from sqlalchemy import delete, func, insert, select, update
from sqlalchemy.orm import Session

from tokenbridge.rp.proof import Method
from tokenbridge.server.store import sent_codes
from tokenbridge.server.store.approval_schema import Approval

MOST_TRIES: Final = 3
"""Of 90 numbers: whoever guesses is right in one of 30 questions, and people are asked a few times an hour at most."""
LIFETIME: Final = dt.timedelta(minutes=3)
KEEP: Final = dt.timedelta(days=1)
BLOCKED: Final = dt.timedelta(minutes=30)
"""For how long nobody is asked after a "No, it's not me"."""


@unique
class Stage(StrEnum):
    """Asked, then approved or denied by the person, or failed: not told to any telephone, or tried too often. Approved
    is used by the sign-in; void is what another question has replaced, or what the sign-in was told of. A call that was
    never taken is busy, unanswered or unreached."""

    ASKED = "asked"
    APPROVED = "approved"
    DENIED = "denied"
    FAILED = "failed"
    USED = "used"
    VOID = "void"
    BUSY = "busy"
    UNANSWERED = "unanswered"
    UNREACHED = "unreached"


NOT_TAKEN: Final = (Stage.BUSY, Stage.UNANSWERED, Stage.UNREACHED)
"""What became of a call that nobody has taken."""
_LIVE: Final = (Stage.ASKED, Stage.APPROVED)


@dataclass(frozen=True, slots=True, kw_only=True)
class NewApproval:
    handle: str
    account_id: int
    ref: str
    method: Method
    number: bytes | None
    client: str
    address: str
    device: str


def ask(tx: Session, new: NewApproval, now: dt.datetime) -> int:
    """Store a question; returns its number. The account's older ones are void: there is one at a time."""
    connection = tx.connection()
    old = select(Approval.id).where(Approval.created_at < now - KEEP).limit(1000).with_for_update(skip_locked=True)
    connection.execute(delete(Approval).where(Approval.id.in_(old)))
    older = (Approval.account_id == new.account_id, Approval.stage.in_(_LIVE))
    connection.execute(update(Approval).where(*older).values(stage=Stage.VOID))
    values = {name: getattr(new, name) for name in new.__slots__}
    row = {**values, "method": str(new.method), "stage": Stage.ASKED, "tries": 0, "created_at": now}
    made = connection.execute(insert(Approval), {**row, "expires_at": now + LIFETIME})
    key = made.inserted_primary_key
    assert key is not None
    return int(key[0])


def free_at(tx: Session, account_id: int, now: dt.datetime) -> dt.datetime:
    """When the account may be asked again: as `sent_codes.free_at`, after questions that were not approved."""
    sent_codes.hold_account(tx, account_id)
    return next_at(tx, account_id, now)


def next_at(tx: Session, account_id: int, now: dt.datetime) -> dt.datetime:
    """As `free_at`, for people to read: another request may ask meanwhile."""
    counted = (Approval.account_id == account_id, Approval.created_at > now - sent_codes.WINDOW)
    tried = Approval.stage.not_in((Stage.APPROVED, Stage.USED))
    times = list(tx.scalars(select(Approval.created_at).where(*counted, tried).order_by(Approval.created_at)))
    return times[-1] + sent_codes.wait_after(len(times)) if times else now


def blocked_until(tx: Session, account_id: int) -> dt.datetime | None:
    """Until when nobody is asked, because the person said that it was not they; None: never said."""
    denied = (Approval.account_id == account_id, Approval.stage == Stage.DENIED)
    last = tx.scalar(select(func.max(Approval.created_at)).where(*denied))
    return last + BLOCKED if last is not None else None


def newest(tx: Session, ref: str) -> Approval | None:
    """The newest question of a sign-in, as it stands in the database now."""
    query = select(Approval).where(Approval.ref == ref).order_by(Approval.id.desc()).limit(1)
    return tx.scalar(query.execution_options(populate_existing=True))


def open_of(tx: Session, account_id: int, method: Method, now: dt.datetime) -> Approval | None:
    """What the account is being asked at this moment."""
    fits = (Approval.account_id == account_id, Approval.method == method, Approval.stage == Stage.ASKED)
    query = select(Approval).where(*fits, Approval.expires_at > now)
    return tx.scalar(query.order_by(Approval.id.desc()).limit(1))


def by_handle(tx: Session, handle: str, account_id: int) -> Approval | None:
    """A question to this account and no other."""
    return tx.scalar(select(Approval).where(Approval.handle == handle, Approval.account_id == account_id))


def of_call(tx: Session, handle: str) -> Approval | None:
    """The question that is asked in a voice call."""
    return tx.scalar(select(Approval).where(Approval.handle == handle, Approval.method == Method.VOICE))


def mark(tx: Session, approval_id: int, before: Stage, after: Stage) -> bool:
    """Move one on; False when it is not at `before` any more. Only one caller is told True."""
    change = update(Approval).where(Approval.id == approval_id, Approval.stage == before).values(stage=after)
    return tx.connection().execute(change).rowcount == 1


def answer(tx: Session, approval_id: int, said: Stage, now: dt.datetime) -> bool:
    """As `mark`, from the telephone: only while the question is open."""
    fits = (Approval.id == approval_id, Approval.stage == Stage.ASKED, Approval.expires_at > now)
    return tx.connection().execute(update(Approval).where(*fits).values(stage=said)).rowcount == 1


def withdraw_all(tx: Session) -> None:
    """Whatever is open is void; its number is gone."""
    tx.execute(update(Approval).where(Approval.stage.in_(_LIVE)).values(stage=Stage.VOID))
    tx.execute(update(Approval).values(number=None))


def count_try(tx: Session, approval_id: int, now: dt.datetime) -> int | None:
    """Count a number before it is compared; returns how many tries are left after it, None when there was none, or the
    question is not open any more."""
    fits = (Approval.id == approval_id, Approval.stage == Stage.ASKED, Approval.tries < MOST_TRIES)
    change = update(Approval).where(*fits, Approval.expires_at > now).values(tries=Approval.tries + 1)
    tries = tx.connection().execute(change.returning(Approval.tries)).scalar_one_or_none()
    return None if tries is None else MOST_TRIES - int(tries)
