"""The audit trail: an append-only chain of rows, each holding the hash of the one before. It decides nothing."""

from __future__ import annotations

import datetime as dt
import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from tokenbridge.errors import SetupError
from tokenbridge.server.store.schema import AuditHead, AuditRow

START = "0" * 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """What is to be recorded. `sign_in` is the hash of the transaction's token, `detail` holds JSON types."""

    event: str
    account: str = ""
    sign_in: str = ""
    request: str = ""
    detail: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One row of the trail."""

    seq: int
    at: str
    event: str
    account: str
    sign_in: str
    request: str
    detail: dict[str, Any]
    hash: str

    def as_dict(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.__slots__}


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """The outcome of a check: how many rows were read, and what is wrong with the first bad one."""

    rows: int
    broken_at: int | None = None
    what: str = ""


def append(tx: Session, at: dt.datetime, event: Event) -> Entry:
    """Add one row. Writers queue at the head row, so that the chain never forks."""
    tx.execute(update(AuditHead).values(seq=AuditHead.seq + 1))
    head = tx.execute(select(AuditHead.seq, AuditHead.hash)).one_or_none()
    if head is None:
        raise SetupError("The audit trail has no head row: the database is damaged.")
    row = AuditRow(
        seq=head.seq,
        at=at.astimezone(dt.UTC).isoformat(timespec="microseconds"),
        event=event.event,
        account=event.account,
        sign_in=event.sign_in,
        request=event.request,
        detail=json.dumps(event.detail, sort_keys=True, separators=(",", ":"), ensure_ascii=False),
        previous=head.hash,
        hash="",
    )
    row.hash = _hash(row)
    tx.add(row)
    tx.execute(update(AuditHead).values(hash=row.hash))
    tx.flush()
    return _entry(row)


def entries(tx: Session, *, account: str = "", after: int = 0, limit: int = 1000) -> list[Entry]:
    """The newest `limit` rows after number `after`, oldest first."""
    query = select(AuditRow).where(AuditRow.seq > after).order_by(AuditRow.seq.desc()).limit(limit)
    if account:
        query = query.where(AuditRow.account == account)
    return [_entry(row) for row in reversed(tx.scalars(query).all())]


def verify(tx: Session) -> Verdict:
    """Recompute the whole chain and compare it with the head, which also shows rows cut off at the end."""
    previous, count = START, 0
    for row in _all(tx):
        count += 1
        if row.seq != count:
            return Verdict(rows=count, broken_at=count, what=f"row {count} is missing")
        if row.previous != previous or row.hash != _hash(row):
            return Verdict(rows=count, broken_at=row.seq, what=f"row {row.seq} was changed")
        previous = row.hash
    head = tx.execute(select(AuditHead.seq, AuditHead.hash)).one_or_none()
    if head is None or (head.seq, head.hash) != (count, previous):
        return Verdict(rows=count, broken_at=count + 1, what="rows are missing at the end")
    return Verdict(rows=count)


def _all(tx: Session) -> Iterator[AuditRow]:
    yield from tx.scalars(select(AuditRow).order_by(AuditRow.seq).execution_options(yield_per=500))


def _hash(row: AuditRow) -> str:
    content = [row.previous, row.seq, row.at, row.event, row.account, row.sign_in, row.request, row.detail]
    return hashlib.sha256(json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode()).hexdigest()


def _entry(row: AuditRow) -> Entry:
    return Entry(
        seq=row.seq,
        at=row.at,
        event=row.event,
        account=row.account,
        sign_in=row.sign_in,
        request=row.request,
        detail=json.loads(row.detail),
        hash=row.hash,
    )
