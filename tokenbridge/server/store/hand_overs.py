"""Hand-overs as rows. Tokens arrive here hashed or encrypted."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, delete, insert, select, update
from sqlalchemy.orm import Session

from tokenbridge.server.store.hand_over_schema import HandOver


@dataclass(frozen=True, slots=True, kw_only=True)
class NewHandOver:
    ref: str
    browser: str
    sign_in_id: int
    transaction: bytes
    account: str
    device: str
    onward: str
    expires_at: dt.datetime
    adds_to: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """A hand-over for which no evidence was shown yet. `adds`: the card is to be added, nobody is signed in."""

    transaction: bytes
    account: str
    device: str
    adds: bool


def add(tx: Session, new: NewHandOver, now: dt.datetime) -> None:
    """Store a hand-over, and forget those that are over. A sign-in has one: an older one of it is void."""
    connection = tx.connection()
    connection.execute(delete(HandOver).where(HandOver.expires_at < now))
    connection.execute(delete(HandOver).where(HandOver.sign_in_id == new.sign_in_id))
    values: dict[str, Any] = {name: getattr(new, name) for name in new.__slots__}
    connection.execute(insert(HandOver), values)


def find(tx: Session, ref: str, now: dt.datetime) -> Waiting | None:
    row = tx.scalar(select(HandOver).where(HandOver.ref == ref, HandOver.code.is_(None), HandOver.expires_at > now))
    if row is None:
        return None
    adds = row.adds_to is not None
    return Waiting(transaction=row.transaction, account=row.account, device=row.device, adds=adds)


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """What the browser gets: an encrypted `session`, if the sign-in is complete; or the `certificate` (DER) of the card
    that it may add."""

    session: bytes | None = None
    certificate: bytes | None = None


def done(tx: Session, ref: str, code: str, kept: Kept, now: dt.datetime) -> bool:
    """The bridge has shown its evidence: keep what the browser gets for `code`. False: somebody was faster."""
    mark = update(HandOver).where(HandOver.ref == ref, HandOver.code.is_(None), HandOver.expires_at > now)
    values = {"code": code, "session": kept.session, "certificate": kept.certificate}
    return tx.connection().execute(mark.values(**values)).rowcount == 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """`session` is encrypted; None: the sign-in is not complete."""

    session: bytes | None
    onward: str


def take(tx: Session, code: str, browser: str, now: dt.datetime) -> Taken | None:
    """Remove a hand-over and return what was kept: once, for its code, in its browser only."""
    fits = (HandOver.code == code, HandOver.browser == browser, HandOver.expires_at > now, HandOver.adds_to.is_(None))
    taking = delete(HandOver).where(*fits).returning(HandOver.session, HandOver.onward)
    row = tx.connection().execute(taking).one_or_none()
    return None if row is None else Taken(session=row.session, onward=row.onward)


def card(tx: Session, code: str, session_id: int, now: dt.datetime) -> bytes | None:
    """The certificate (DER) of the card that this session may add; it stays there."""
    return tx.scalar(select(HandOver.certificate).where(*_addable(code, session_id, now)))


def take_card(tx: Session, code: str, session_id: int, now: dt.datetime) -> bytes | None:
    """As `card`, and remove it: once."""
    taking = delete(HandOver).where(*_addable(code, session_id, now)).returning(HandOver.certificate)
    row = tx.connection().execute(taking).one_or_none()
    return None if row is None else row.certificate


def _addable(code: str, session_id: int, now: dt.datetime) -> tuple[ColumnElement[bool], ...]:
    return HandOver.code == code, HandOver.adds_to == session_id, HandOver.expires_at > now


def drop(tx: Session, ref: str) -> None:
    tx.connection().execute(delete(HandOver).where(HandOver.ref == ref))
