"""Recovery codes as rows, hashed. Each is spent once."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable

from sqlalchemy import delete, func, insert, select, update
from sqlalchemy.orm import Session

from tokenbridge.server.store.key_schema import RecoveryCode


def replace(tx: Session, account_id: int, hashes: Iterable[str], now: dt.datetime) -> None:
    """Give the account a new set; the old one is void."""
    connection = tx.connection()
    connection.execute(delete(RecoveryCode).where(RecoveryCode.account_id == account_id))
    rows = [{"account_id": account_id, "code_hash": value, "created_at": now} for value in hashes]
    connection.execute(insert(RecoveryCode), rows)


def spend(tx: Session, account_id: int, code_hash: str, now: dt.datetime) -> bool:
    """Use a code up; False when it is not one of the account's, or was used before."""
    fits = (RecoveryCode.account_id == account_id, RecoveryCode.code_hash == code_hash)
    mark = update(RecoveryCode).where(*fits, RecoveryCode.used_at.is_(None)).values(used_at=now)
    return tx.connection().execute(mark).rowcount == 1


def left(tx: Session, account_id: int) -> int:
    """How many codes were not used yet."""
    unused = select(func.count()).where(RecoveryCode.account_id == account_id, RecoveryCode.used_at.is_(None))
    return tx.scalar(unused) or 0
