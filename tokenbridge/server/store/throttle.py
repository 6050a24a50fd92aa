"""Counts attempts per key and span of time, for every process together. Keys of unknown names look like all others."""

from __future__ import annotations

import datetime as dt
import hashlib
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import bindparam, case, delete, or_, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from tokenbridge.server.store.schema import Throttle


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """At most `most` attempts for one name within `minutes`, counted from fixed points in time."""

    kind: str
    most: int
    minutes: int = 1


PASSWORDS: Final = Limit(kind="password", most=10)
CODES: Final = Limit(kind="code", most=10)
CODES_IN_A_ROW: Final = Limit(kind="codes", most=100, minutes=24 * 60)
"""SP 800-63B-4 section 3.2.2: no more than 100 wrong ones; a right one begins the count again."""
RESETS: Final = Limit(kind="reset", most=10)
RESETS_IN_A_ROW: Final = Limit(kind="resets", most=100, minutes=24 * 60)
"""As the two above, for the first code of a password reset: who knows nothing but a name can use these up, and must
not keep anybody from signing in by it."""
ENROLMENTS: Final = Limit(kind="enrolment", most=10)
APPROVALS: Final = Limit(kind="approvals", most=10, minutes=60)
"""How often an account is asked on its telephone: what somebody who has the password can bother people with."""
REPORTS: Final = Limit(kind="report", most=1)
"""How often the audit trail says that a limit holds somebody up."""

_LONGEST: Final = max(limit.minutes for limit in (PASSWORDS, CODES, CODES_IN_A_ROW, RESETS_IN_A_ROW, REPORTS))

# Built once: building a statement costs more than running it. A row's `minute` is the last one in which it counts;
# one that is too far away was written while the clock was wrong, and would keep somebody out until then.
_OVER: Final = or_(Throttle.minute < bindparam("now"), Throttle.minute > bindparam("far"))
_OLD: Final = select(Throttle.key).where(_OVER).limit(1000).with_for_update(skip_locked=True)
_FORGET_OLD: Final = delete(Throttle).where(Throttle.key.in_(_OLD))
COUNTER: Final = (Throttle.count.label("counted"), Throttle.minute)
"""A row's count and last minute, for statements that read them along with something else."""
_SEEN: Final = select(Throttle.count, Throttle.minute).where(Throttle.key == bindparam("which"))
_FORGET: Final = delete(Throttle).where(Throttle.key == bindparam("which"))


def _counting(insert: Any) -> Any:
    """One statement that counts, or begins to: of two attempts at once both count, in every process."""
    first = insert(Throttle).values(key=bindparam("which"), minute=bindparam("last"), count=1)
    again = {
        "minute": case((_OVER, first.excluded.minute), else_=Throttle.minute),
        "count": case((_OVER, 1), else_=Throttle.count + 1),
    }
    return first.on_conflict_do_update(index_elements=[Throttle.key], set_=again).returning(Throttle.count)


_COUNT: Final = {"sqlite": _counting(sqlite.insert), "postgresql": _counting(postgresql.insert)}


def allow(tx: Session, limit: Limit, name: str, now: dt.datetime) -> bool:
    """Count one attempt; False when there were enough of them. Others who count the same name wait for the commit."""
    connection, minute = tx.connection(), int(now.timestamp()) // 60
    span = {"now": minute, "far": minute + _LONGEST}
    connection.execute(_FORGET_OLD, span)
    last = minute - minute % limit.minutes + limit.minutes - 1
    count = connection.execute(_COUNT[connection.dialect.name], {"which": key(limit, name), "last": last, **span})
    return bool(count.scalar_one() <= limit.most)


def wait(limit: Limit, now: dt.datetime) -> int:
    """In how many seconds the count of `limit` begins again, for every name alike."""
    span = limit.minutes * 60
    return span - int(now.timestamp()) % span


def spent(tx: Session, limit: Limit, name: str, now: dt.datetime) -> bool:
    """Whether `allow` would say no; counts nothing, so takes no lock."""
    found = tx.connection().execute(_SEEN, {"which": key(limit, name)}).one_or_none()
    if found is None:
        return False
    (count, last), minute = found, int(now.timestamp()) // 60
    return bool(minute <= last <= minute + _LONGEST and count >= limit.most)


def still(row: tuple[int, int] | None, now: dt.datetime) -> int:
    """How many attempts a row counts at `now`; the row is count and last minute, None when there is none."""
    if row is None:
        return 0
    count, last = row
    return int(count) if int(now.timestamp()) // 60 <= last else 0


def forget(tx: Session, limit: Limit, name: str) -> None:
    """Begin the count again."""
    tx.connection().execute(_FORGET, {"which": key(limit, name)})


def key(limit: Limit, name: str) -> str:
    """The row's key: a hash, so that names that were tried are not kept."""
    return hashlib.sha256(f"{limit.kind}\0{name}".encode("utf-8", "surrogatepass")).hexdigest()
