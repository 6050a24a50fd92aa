"""The audit trail: an append-only chain of rows, each holding the hash of the one before. It decides nothing.

The end of the chain is sealed with a key that is not in the database. Without it a whole new chain, or a shorter one,
could be written in place of the true one.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Any, Final

from sqlalchemy import Select, bindparam, func, insert, select, update
from sqlalchemy.orm import Session

from tokenbridge import log
from tokenbridge.errors import SetupError
from tokenbridge.server.keys import KeyRing
from tokenbridge.server.store.schema import Account, AuditHead, AuditRow

START: Final = "0" * 64

# Built once: building a statement costs more than running it.
_NEXT: Final = (
    update(AuditHead)
    .values(seq=AuditHead.seq + bindparam("more"))
    .returning(AuditHead.seq, AuditHead.hash, AuditHead.seal)
)
_ADD: Final = insert(AuditRow)
_CLOSE: Final = update(AuditHead).values(hash=bindparam("new_hash"), seal=bindparam("new_seal"))
# PostgreSQL does both at once: everybody who writes waits while this goes back and forth.
_FIELDS: Final = tuple(column.key for column in AuditRow.__table__.columns)
_ADD_ONE: Final = insert(AuditRow).values({name: bindparam(f"row_{name}") for name in _FIELDS})
_ADD_AND_CLOSE: Final = _CLOSE.add_cte(_ADD_ONE.cte())

_log = log.get("server.audit")


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


def append(tx: Session, at: dt.datetime, event: Event, ring: KeyRing) -> Entry:
    """Add one row. Writers queue at the head row, so that the chain never forks.

    A trail whose seal does not fit goes on without a good one: adding a row must not hide what was done to it.
    """
    return append_all(tx, at, [event], ring)[0]


def tell(entry: Entry | None) -> None:
    """The same entry as a line of the log, where a program that collects logs finds it; nothing for None."""
    if entry is not None:
        log.audit().info(json.dumps(entry.as_dict()))


def append_all(tx: Session, at: dt.datetime, events: Sequence[Event], ring: KeyRing) -> list[Entry]:
    """As `append`, for at least one event, in as few statements."""
    connection = tx.connection()
    head = connection.execute(_NEXT, {"more": len(events)}).one_or_none()
    if head is None:
        raise SetupError("The audit trail has no head row: the database is damaged.")
    before, last, rows = head.seq - len(events), head.hash, []
    for seq, event in enumerate(events, before + 1):
        values = _row(seq, at, event, last)
        last = values["hash"]
        rows.append(values)
    good = head.seal is not None and ring.sealed(_end(before, head.hash), head.seal)
    if not good:
        _log.error("the end of the audit trail has no good seal: run `tokenbridge server audit --verify`")
    seal = ring.seal(_end(head.seq, last)) if good else head.seal
    end = {"new_hash": last, "new_seal": seal}
    if len(rows) == 1 and connection.dialect.name == "postgresql":
        connection.execute(_ADD_AND_CLOSE, {**{f"row_{name}": rows[0][name] for name in _FIELDS}, **end})
    else:
        connection.execute(_ADD, rows)
        connection.execute(_CLOSE, end)
    return [_entry(values) for values in rows]


def _row(seq: int, at: dt.datetime, event: Event, previous: str) -> dict[str, Any]:
    values: dict[str, Any] = {
        "seq": seq,
        "at": _at(at),
        "event": str(event.event),
        "account": event.account,
        "sign_in": event.sign_in,
        "request": event.request,
        "detail": json.dumps(event.detail, sort_keys=True, separators=(",", ":"), ensure_ascii=False),
        "previous": previous,
    }
    values["hash"] = _hash(values)
    return values


def seal_first(tx: Session, ring: KeyRing) -> bool:
    """Seal a trail that never was, if its chain is whole; False when it has a seal or is broken."""
    seq, last, seal = tx.execute(_HEAD).one()
    if seal is not None or _chain(tx).broken_at is not None:
        return False
    tx.connection().execute(_CLOSE, {"new_hash": last, "new_seal": ring.seal(_end(seq, last))})
    return True


_HEAD: Final = select(AuditHead.seq, AuditHead.hash, AuditHead.seal)


def append_of_somebody(tx: Session, at: dt.datetime, event: Event, ring: KeyRing) -> Entry | None:
    """As `append`. For a name of nobody (no `account`) the same is done, so that it takes the same time, and undone: of
    such names there is no end, and a flood of them must not fill the trail."""
    with tx.begin_nested() as point:
        entry = append(tx, at, event, ring)
        if not event.account:
            point.rollback()
    return entry if event.account else None


def _at(when: dt.datetime) -> str:
    """A time as the trail has it: text that sorts as times do."""
    return when.astimezone(dt.UTC).isoformat(timespec="microseconds")


def _end(seq: int, last: str) -> bytes:
    return f"audit:{seq}:{last}".encode()


@dataclass(frozen=True, slots=True, kw_only=True)
class Search:
    """What is looked for; empty: everything. `since` and `until` bound the time, `until` itself excluded; `text` stands
    anywhere in the detail, upper and lower case alike. `events`: one of these. `organisations`: only what concerns
    accounts that are there today and belong to one of these; None: everything."""

    account: str = ""
    event: str = ""
    text: str = ""
    since: dt.datetime | None = None
    until: dt.datetime | None = None
    events: tuple[str, ...] = ()
    organisations: frozenset[str] | None = None

    def narrow(self, query: Select[Any]) -> Select[Any]:
        if self.account:
            query = query.where(AuditRow.account == self.account)
        if self.event:
            query = query.where(AuditRow.event == self.event)
        if self.text:
            query = query.where(AuditRow.detail.icontains(self.text, autoescape=True))
        if self.since is not None:
            query = query.where(AuditRow.at >= _at(self.since))
        if self.until is not None:
            query = query.where(AuditRow.at < _at(self.until))
        if self.events:
            query = query.where(AuditRow.event.in_(self.events))
        if self.organisations is not None:
            own = select(Account.username).where(Account.organisation.in_(self.organisations))
            query = query.where(AuditRow.account.in_(own))
        return query


def entries(
    tx: Session, *, account: str = "", after: int = 0, limit: int = 1000, search: Search | None = None
) -> list[Entry]:
    """The newest `limit` rows after number `after`, oldest first."""
    query = select(AuditRow).where(AuditRow.seq > after).order_by(AuditRow.seq.desc()).limit(limit)
    query = (search or Search(account=account)).narrow(query)
    return [_entry(_values(row)) for row in reversed(tx.scalars(query).all())]


def between(tx: Session, after: int, upto: int, *, search: Search) -> list[Entry]:
    """The rows after number `after` up to number `upto`, oldest first."""
    query = select(AuditRow).where(AuditRow.seq > after, AuditRow.seq <= upto).order_by(AuditRow.seq)
    return [_entry(_values(row)) for row in tx.scalars(search.narrow(query))]


def first(tx: Session, after: int, upto: int, *, search: Search, limit: int) -> list[Entry]:
    """The oldest `limit` rows after number `after` up to number `upto`, oldest first."""
    query = select(AuditRow).where(AuditRow.seq > after, AuditRow.seq <= upto).order_by(AuditRow.seq).limit(limit)
    return [_entry(_values(row)) for row in tx.scalars(search.narrow(query))]


def of_span(tx: Session, first: dt.date, last: dt.date, search: Search | None = None) -> Iterator[Entry]:
    """The rows of the days from `first` to `last` (UTC) that fit, oldest first, without having them all in memory."""
    since = dt.datetime.combine(first, dt.time.min, dt.UTC)
    until = dt.datetime.combine(last, dt.time.min, dt.UTC) + dt.timedelta(days=1)
    query = replace(search or Search(), since=since, until=until).narrow(_COLUMNS_OF_ROWS)
    # Columns and not objects: a year has many rows, and making an object costs more than reading its row.
    with closing(tx.execute(query.execution_options(yield_per=500))) as rows:
        for row in rows:
            yield _entry(dict(row._mapping))


def of_sign_in(tx: Session, sign_in: str) -> list[Entry]:
    """The rows of one sign-in transaction, oldest first."""
    query = select(AuditRow).where(AuditRow.sign_in == sign_in).order_by(AuditRow.seq)
    return [_entry(_values(row)) for row in tx.scalars(query)]


def last(tx: Session) -> int:
    """The number of the newest row, 0 when there is none."""
    return tx.scalar(select(func.max(AuditRow.seq))) or 0


def verify(tx: Session, ring: KeyRing) -> Verdict:
    """Recompute the whole chain and compare it with the head and its seal, which also shows rows cut off at the end."""
    found = _chain(tx)
    if found.broken_at is not None:
        return found
    seq, last, seal = tx.execute(_HEAD).one()
    if seal is None:
        what = "its end was never sealed; right after an upgrade run `tokenbridge server init`"
        return Verdict(rows=seq, broken_at=seq, what=what)
    if not ring.sealed(_end(seq, last), seal):
        what = "its end was written by somebody without this server's key file"
        return Verdict(rows=seq, broken_at=seq, what=what)
    return found


def _chain(tx: Session) -> Verdict:
    previous, count = START, 0
    # A cursor of PostgreSQL's would stay open behind an answer that comes before the last row.
    with closing(tx.scalars(_EVERY)) as rows:
        for row in rows:
            count += 1
            if row.seq != count:
                return Verdict(rows=count, broken_at=count, what=f"row {count} is missing")
            if row.previous != previous or row.hash != _hash(_values(row)):
                return Verdict(rows=count, broken_at=row.seq, what=f"row {row.seq} was changed")
            previous = row.hash
    head = tx.execute(select(AuditHead.seq, AuditHead.hash)).one_or_none()
    if head is None or (head.seq, head.hash) != (count, previous):
        return Verdict(rows=count, broken_at=count + 1, what="rows are missing at the end")
    return Verdict(rows=count)


_EVERY: Final = select(AuditRow).order_by(AuditRow.seq).execution_options(yield_per=500)
_COLUMNS_OF_ROWS: Final = select(*AuditRow.__table__.columns).order_by(AuditRow.seq)
_HASHED: Final = ("previous", "seq", "at", "event", "account", "sign_in", "request", "detail")


def _values(row: AuditRow) -> dict[str, Any]:
    return {name: getattr(row, name) for name in _FIELDS}


def _hash(values: Mapping[str, Any]) -> str:
    content = [values[name] for name in _HASHED]
    return hashlib.sha256(json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode()).hexdigest()


def _entry(values: Mapping[str, Any]) -> Entry:
    shown = {name: values[name] for name in _FIELDS if name != "previous"}
    return Entry(**{**shown, "detail": json.loads(values["detail"])})
