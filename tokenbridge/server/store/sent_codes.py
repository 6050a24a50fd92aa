"""Codes that went to a telephone, as rows. Each counts once; the newest of a sign-in voids older ones."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from enum import StrEnum, unique
from typing import Final

from sqlalchemy import delete, insert, select, update
from sqlalchemy.orm import Session

from tokenbridge.rp.proof import Method
from tokenbridge.server.store.method_schema import SentCode
from tokenbridge.server.store.schema import Account

MOST_TRIES: Final = 5
LIFETIME: Final = dt.timedelta(minutes=10)
"""SP 800-63B-4 section 3.1.3.2: a secret sent out of band is valid for at most 10 minutes."""
KEEP: Final = dt.timedelta(days=1)
FIRST_WAIT: Final = dt.timedelta(seconds=30)
LONGEST_WAIT: Final = dt.timedelta(minutes=8)
WINDOW: Final = dt.timedelta(minutes=15)
"""How far back earlier messages count for the wait before the next one."""


@unique
class Stage(StrEnum):
    """Reserved before it is sent, so that a crash in between leaves nothing that could be used. FAILED: it was not
    taken; UNDELIVERED: it was, but did not get there."""

    RESERVED = "reserved"
    SENT = "sent"
    USED = "used"
    VOID = "void"
    FAILED = "failed"
    UNDELIVERED = "undelivered"


_LIVE: Final = (Stage.RESERVED, Stage.SENT)


@dataclass(frozen=True, slots=True, kw_only=True)
class NewCode:
    account_id: int
    ref: str
    method: Method
    phone_id: int
    code_hash: str
    reference: str
    instead: str = ""


def reserve(tx: Session, new: NewCode, now: dt.datetime) -> int:
    """Store a code that is about to be sent; returns its number. Older ones for the same `ref` are void."""
    connection = tx.connection()
    connection.execute(delete(SentCode).where(SentCode.created_at < now - KEEP))
    connection.execute(
        update(SentCode).where(SentCode.ref == new.ref, SentCode.stage.in_(_LIVE)).values(stage=Stage.VOID)
    )
    values = {name: getattr(new, name) for name in new.__slots__}
    row = {**values, "method": str(new.method), "stage": Stage.RESERVED, "tries": 0, "created_at": now}
    made = connection.execute(insert(SentCode), {**row, "expires_at": now + LIFETIME})
    key = made.inserted_primary_key
    assert key is not None
    return int(key[0])


def free_at(tx: Session, account_id: int, now: dt.datetime) -> dt.datetime:
    """When the account may be sent the next message: 30 s after the first that was not used, then twice as long.

    Takes the account's row first, so that two requests at once can't both find the way free.
    """
    hold_account(tx, account_id)
    counted = (SentCode.account_id == account_id, SentCode.created_at > now - WINDOW)
    tried = SentCode.stage.not_in((Stage.USED, Stage.FAILED, Stage.UNDELIVERED))
    times = list(tx.scalars(select(SentCode.created_at).where(*counted, tried).order_by(SentCode.created_at)))
    return times[-1] + wait_after(len(times)) if times else now


def hold_account(tx: Session, account_id: int) -> None:
    """Nobody else asks or sends anything for the account until this transaction ends."""
    tx.execute(select(Account.id).where(Account.id == account_id).with_for_update())


def wait_after(sent: int) -> dt.timedelta:
    """How long to wait after `sent` messages."""
    doubled: int = 2 ** min(max(sent - 1, 0), 10)
    return min(FIRST_WAIT * doubled, LONGEST_WAIT)


def mark(tx: Session, code_id: int, before: Stage, after: Stage) -> bool:
    """Move one on; False when it is not at `before` any more. Only one caller is told True."""
    change = update(SentCode).where(SentCode.id == code_id, SentCode.stage == before).values(stage=after)
    return tx.connection().execute(change).rowcount == 1


def undelivered(tx: Session, reference: str) -> SentCode | None:
    """The message of this `reference` did not get there: its code is nothing from now on. None when there is no such
    message, or it was used, replaced or reported before: only one caller gets it."""
    fits = (SentCode.reference == reference, SentCode.stage.in_(_LIVE))
    change = update(SentCode).where(*fits).values(stage=Stage.UNDELIVERED).returning(SentCode.id)
    found = tx.connection().execute(change).scalar_one_or_none()
    return None if found is None else tx.get(SentCode, found)


def under_way(tx: Session, reference: str) -> SentCode | None:
    """The message of this `reference`, while its code is awaited."""
    return tx.scalar(select(SentCode).where(SentCode.reference == reference, SentCode.stage.in_(_LIVE)))


def newest(tx: Session, ref: str) -> SentCode | None:
    return next(iter(_newest(tx, ref, 1)), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Newest:
    """The newest message of a sign-in. `replaces`: it is a text message after a WhatsApp message that was lost. `lost`:
    it did not get there, or did not even go out in place of one that was lost."""

    row: SentCode
    replaces: bool
    lost: bool


def standing(tx: Session, ref: str) -> Newest | None:
    """How the newest message of `ref` stands."""
    found = _newest(tx, ref, 2)
    if not found:
        return None
    row, before = found[0], found[-1]
    lost_before = (Method.WHATSAPP, Stage.UNDELIVERED, row.phone_id)
    replaces = row.method == Method.SMS and (before.method, before.stage, before.phone_id) == lost_before
    lost = row.stage == Stage.UNDELIVERED or (replaces and row.stage == Stage.FAILED)
    return Newest(row=row, replaces=replaces, lost=lost)


def really_sent(tx: Session, ref: str, method: Method) -> Method:
    """By what the code was sent that is given as one of `method`: whoever waits for a WhatsApp message may not know yet
    that a text message has taken its place."""
    found = standing(tx, ref) if method is Method.WHATSAPP else None
    return Method.SMS if found is not None and found.replaces else method


def _newest(tx: Session, ref: str, most: int) -> list[SentCode]:
    query = select(SentCode).where(SentCode.ref == ref).order_by(SentCode.id.desc()).limit(most)
    return list(tx.scalars(query.execution_options(populate_existing=True)))


def count_try(tx: Session, code_id: int, now: dt.datetime) -> bool:
    """Count an attempt before it is compared; False when there are none left, or the code is void or too old."""
    fits = (SentCode.id == code_id, SentCode.stage == Stage.SENT, SentCode.tries < MOST_TRIES)
    change = update(SentCode).where(*fits, SentCode.expires_at > now).values(tries=SentCode.tries + 1)
    return tx.connection().execute(change).rowcount == 1
