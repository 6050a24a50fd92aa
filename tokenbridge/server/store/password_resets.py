"""Password resets as rows. Each step is proved once, and what was proved is used once."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import Final

from sqlalchemy import delete, func, insert, or_, select, update
from sqlalchemy.orm import Session

from tokenbridge.rp.proof import Method
from tokenbridge.server.store.password_reset_schema import PasswordReset

LIFETIME: Final = dt.timedelta(minutes=15)
MOST_TRIES: Final = 5
MOST_RUNNING: Final = 10_000
"""A flood of beginnings pushes out the oldest and never fills the disk."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NewReset:
    """As `PasswordReset`. `first`: what was proved before it began; empty: nothing."""

    ref: str
    account_id: int | None
    counted_as: str
    password: str
    first: str = ""


def begin(tx: Session, new: NewReset, now: dt.datetime) -> None:
    """Store a reset, and forget those that are over. Others of the same account go on: strangers could end them."""
    connection = tx.connection()
    newest = select(func.max(PasswordReset.id)).scalar_subquery()
    over = or_(PasswordReset.expires_at < now, PasswordReset.id <= newest - MOST_RUNNING)
    which = select(PasswordReset.id).where(over).with_for_update(skip_locked=True)
    connection.execute(delete(PasswordReset).where(PasswordReset.id.in_(which)))
    values = {name: getattr(new, name) for name in new.__slots__}
    connection.execute(insert(PasswordReset), {**values, "second": "", "tries": 0, "expires_at": now + LIFETIME})


def find(tx: Session, ref: str, now: dt.datetime) -> PasswordReset | None:
    """As it stands in the database now."""
    query = select(PasswordReset).where(PasswordReset.ref == ref, PasswordReset.expires_at > now)
    return tx.scalar(query.execution_options(populate_existing=True))


def hold(tx: Session, ref: str, now: dt.datetime) -> PasswordReset | None:
    """As `find`, and nobody goes on with the reset until this transaction ends."""
    query = select(PasswordReset).where(PasswordReset.ref == ref, PasswordReset.expires_at > now)
    return tx.scalar(query.with_for_update().execution_options(populate_existing=True))


def count_try(tx: Session, ref: str, now: dt.datetime) -> bool:
    """Count a code before it is compared; False when there are no tries left, or another request went on with it."""
    fits = (PasswordReset.ref == ref, PasswordReset.expires_at > now, PasswordReset.tries < MOST_TRIES)
    change = update(PasswordReset).where(*fits).values(tries=PasswordReset.tries + 1)
    return tx.connection().execute(change).rowcount == 1


def prove(tx: Session, row: PasswordReset, method: Method, new_ref: str) -> bool:
    """Put on record what was proved; from now on the reset is known by `new_ref`. Only one caller is told True."""
    awaited = {"second": str(method)} if row.first else {"first": str(method)}
    fits = (PasswordReset.ref == row.ref, PasswordReset.first == row.first, PasswordReset.second == "")
    change = update(PasswordReset).where(*fits).values(ref=new_ref, tries=0, **awaited)
    return tx.connection().execute(change).rowcount == 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    account_id: int
    password: str
    first: str
    second: str


def take(tx: Session, ref: str, now: dt.datetime) -> Taken | None:
    """Remove a reset with both proofs and return it: only one caller gets it."""
    fits = (PasswordReset.ref == ref, PasswordReset.second != "", PasswordReset.expires_at > now)
    columns = (PasswordReset.account_id, PasswordReset.password, PasswordReset.first, PasswordReset.second)
    row = tx.connection().execute(delete(PasswordReset).where(*fits).returning(*columns)).one_or_none()
    return None if row is None else Taken(**row._mapping)


def end_all(tx: Session, account_id: int) -> None:
    """Whatever an account has begun is over."""
    tx.connection().execute(delete(PasswordReset).where(PasswordReset.account_id == account_id))
