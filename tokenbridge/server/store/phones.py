"""Telephone numbers as rows. Numbers arrive here as ciphertext and hash."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import Final

from sqlalchemy import delete, select, update
from sqlalchemy.orm import Session

from tokenbridge.rp.proof import Method
from tokenbridge.server.store.method_schema import Phone

MOST: Final = 5
"""Numbers that one account may have."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NewPhone:
    number: bytes
    number_hash: str
    text: bool
    whatsapp: bool
    voice: bool = True


def add(tx: Session, account_id: int, new: NewPhone, now: dt.datetime) -> Phone:
    """Store a number that is not confirmed yet. One that the account began with and never confirmed is replaced."""
    stale = (Phone.account_id == account_id, Phone.confirmed_at.is_(None))
    tx.execute(delete(Phone).where(*stale))
    values = {name: getattr(new, name) for name in new.__slots__}
    row = Phone(account_id=account_id, created_at=now, confirmed_at=None, **values)
    tx.add(row)
    tx.flush()
    return row


def of(tx: Session, account_id: int) -> list[Phone]:
    """The account's confirmed numbers, the oldest first."""
    query = select(Phone).where(Phone.account_id == account_id, Phone.confirmed_at.is_not(None))
    return list(tx.scalars(query.order_by(Phone.id)))


def everything(tx: Session) -> list[Phone]:
    return list(tx.scalars(select(Phone)))


def get(tx: Session, phone_id: int, account_id: int) -> Phone | None:
    return tx.scalar(select(Phone).where(Phone.id == phone_id, Phone.account_id == account_id))


def reached_by(tx: Session, account_id: int, method: Method) -> Phone | None:
    """The confirmed number that `method` uses."""
    return next((row for row in of(tx, account_id) if method in methods(row)), None)


def methods(row: Phone) -> frozenset[Method]:
    """By what a number may be reached."""
    ways = {Method.SMS: row.text, Method.WHATSAPP: row.whatsapp, Method.VOICE: row.voice}
    return frozenset(method for method, open_ in ways.items() if open_)


def confirm(tx: Session, phone_id: int, now: dt.datetime) -> bool:
    mark = update(Phone).where(Phone.id == phone_id, Phone.confirmed_at.is_(None)).values(confirmed_at=now)
    return tx.connection().execute(mark).rowcount == 1


def set_way(tx: Session, phone_id: int, method: Method, *, on: bool) -> None:
    """Whether the number may be reached by `method`: WhatsApp or voice calls."""
    column = {Method.WHATSAPP: "whatsapp", Method.VOICE: "voice"}[method]
    tx.execute(update(Phone).where(Phone.id == phone_id).values({column: on}))


def not_on_whatsapp(tx: Session, phone_id: int) -> None:
    """From now on a text message comes first; a number that takes nothing else is left as it is."""
    tx.execute(update(Phone).where(Phone.id == phone_id, Phone.text).values(whatsapp=False))


def remove(tx: Session, phone_id: int) -> None:
    tx.execute(delete(Phone).where(Phone.id == phone_id))
