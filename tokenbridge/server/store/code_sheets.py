"""Sheets of enrolment codes, each taken once by the account that made it. Contents arrive here as ciphertext."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from tokenbridge.server.store.admin_schema import CodeSheet


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """A sheet that nobody has taken yet, with the number of its codes."""

    id: int
    codes: int
    made_at: dt.datetime
    expires_at: dt.datetime


def context(account_id: int) -> str:
    """Where the ciphertext of a sheet belongs, for `KeyRing.encrypt`."""
    return f"code-sheet:{account_id}"


def add(tx: Session, account_id: int, codes: int, content: bytes, times: tuple[dt.datetime, dt.datetime]) -> None:
    """Keep a sheet from the first to the second of `times`, and forget those that are over."""
    made_at, expires_at = times
    tx.execute(delete(CodeSheet).where(CodeSheet.expires_at <= made_at))
    tx.add(CodeSheet(account_id=account_id, codes=codes, content=content, made_at=made_at, expires_at=expires_at))


def waiting(tx: Session, account_id: int, now: dt.datetime) -> list[Waiting]:
    """The newest first."""
    query = select(CodeSheet.id, CodeSheet.codes, CodeSheet.made_at, CodeSheet.expires_at)
    own = query.where(CodeSheet.account_id == account_id, CodeSheet.expires_at > now)
    return [Waiting(**row._mapping) for row in tx.execute(own.order_by(CodeSheet.id.desc()))]


def take(tx: Session, account_id: int, sheet: int, now: dt.datetime) -> tuple[int, bytes] | None:
    """Remove a sheet; returns the number of its codes and its content: only one caller gets it."""
    mine = (CodeSheet.id == sheet, CodeSheet.account_id == account_id, CodeSheet.expires_at > now)
    gone = tx.execute(delete(CodeSheet).where(*mine).returning(CodeSheet.codes, CodeSheet.content)).one_or_none()
    return None if gone is None else (gone.codes, gone.content)


def forget_all(tx: Session) -> None:
    tx.execute(delete(CodeSheet))
