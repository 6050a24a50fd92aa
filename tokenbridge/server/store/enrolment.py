"""Registrations that run, and the codes that permit one. Codes and tokens arrive here as hashes."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from sqlalchemy import delete, func, insert, or_, select, update
from sqlalchemy.orm import Session

from tokenbridge.server.store.key_schema import EnrolmentCode, KeyRegistration

AT_ONCE: Final = 5000
MOST_RUNNING: Final = 10_000
"""A flood of beginnings pushes out the oldest and never fills the disk."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """A registration. `session_id` None: it was begun with an enrolment code. `challenge` is base64url text."""

    token_hash: str
    account_id: int
    session_id: int | None = None
    challenge: str
    expires_at: dt.datetime


def begin(tx: Session, new: Running, now: dt.datetime) -> None:
    """Store a registration, and forget those that are over."""
    connection = tx.connection()
    newest = select(func.max(KeyRegistration.id)).scalar_subquery()
    over = or_(KeyRegistration.expires_at < now, KeyRegistration.id <= newest - MOST_RUNNING)
    which = select(KeyRegistration.id).where(over).with_for_update(skip_locked=True)
    connection.execute(delete(KeyRegistration).where(KeyRegistration.id.in_(which)))
    connection.execute(insert(KeyRegistration), {name: getattr(new, name) for name in new.__slots__})


def take(tx: Session, token_hash: str) -> Running | None:
    """Remove a registration and return it: only one caller gets it."""
    table = KeyRegistration
    columns = (table.token_hash, table.account_id, table.session_id, table.challenge, table.expires_at)
    row = tx.connection().execute(delete(table).where(table.token_hash == token_hash).returning(*columns)).one_or_none()
    return None if row is None else Running(**row._mapping)


def set_codes(tx: Session, hashes: Mapping[int, str], now: dt.datetime, expires_at: dt.datetime) -> None:
    """Give accounts a code each; older ones are void. `hashes`: what is stored of the code, by account."""
    connection, which = tx.connection(), list(hashes)
    for at in range(0, len(which), AT_ONCE):
        connection.execute(delete(EnrolmentCode).where(EnrolmentCode.account_id.in_(which[at : at + AT_ONCE])))
    times = {"created_at": now, "expires_at": expires_at}
    rows = [{"account_id": account_id, "code_hash": code_hash, **times} for account_id, code_hash in hashes.items()]
    if rows:
        connection.execute(insert(EnrolmentCode), rows)


def void(tx: Session, account_id: int) -> None:
    """Take the account's code and its registrations back."""
    connection = tx.connection()
    connection.execute(delete(EnrolmentCode).where(EnrolmentCode.account_id == account_id))
    connection.execute(delete(KeyRegistration).where(KeyRegistration.account_id == account_id))


def reserve(tx: Session, account_id: int, code_hash: str, registration: str, now: dt.datetime) -> bool:
    """Bind the code to the newest registration; the one before can't complete any more. False: a wrong or old code."""
    fits = (EnrolmentCode.account_id == account_id, EnrolmentCode.code_hash == code_hash)
    mark = update(EnrolmentCode).where(*fits, EnrolmentCode.expires_at > now).values(registration=registration)
    return tx.connection().execute(mark).rowcount == 1


def consume(tx: Session, account_id: int, registration: str, now: dt.datetime) -> bool:
    """Use up the code that this registration was begun with; False when it is gone, void or bound to another."""
    fits = (EnrolmentCode.account_id == account_id, EnrolmentCode.registration == registration)
    mark = delete(EnrolmentCode).where(*fits, EnrolmentCode.expires_at > now)
    return tx.connection().execute(mark).rowcount == 1
