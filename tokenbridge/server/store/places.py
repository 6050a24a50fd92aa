"""From where each account was used, for noticing what is unusual. It notices nothing itself."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from enum import StrEnum, unique
from typing import Final

from sqlalchemy import and_, bindparam, delete, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from tokenbridge.server.store import throttle
from tokenbridge.server.store.schema import Account, AccountPlace, Throttle

KEEP: Final = dt.timedelta(days=180)
"""What was not used for so long is not usual any more."""

NOTED_EVERY: Final = dt.timedelta(hours=1)

MOST: Final = 50
"""Places of one kind that are remembered for an account, the latest ones."""


@unique
class Kind(StrEnum):
    DEVICE = "device"
    NETWORK = "network"
    COUNTRY = "country"


@dataclass(frozen=True, slots=True, kw_only=True)
class Habits:
    """From where an account is used: kind, value and latest use, the latest first. `counter` is the row of a throttle:
    count and last minute; None when nothing is counted."""

    places: tuple[tuple[Kind, str, dt.datetime], ...] = ()
    counter: tuple[int, int] | None = None

    def noted(self, kind: Kind, value: str, now: dt.datetime) -> bool:
        """Whether `used` would write nothing."""
        mine = (kind, value)
        return any((of_kind, this) == mine and now - at < NOTED_EVERY for of_kind, this, at in self.places)


# Built once: building a statement costs more than running it. Places and counter in one, as both are asked for at once.
_OF: Final = (
    select(AccountPlace.kind, AccountPlace.value, AccountPlace.last_used, *throttle.COUNTER)
    .select_from(Account)
    .outerjoin(AccountPlace, and_(AccountPlace.account_id == Account.id, AccountPlace.last_used > bindparam("since")))
    .outerjoin(Throttle, Throttle.key == bindparam("counter"))
    .where(Account.id == bindparam("which"))
    .order_by(AccountPlace.last_used.desc())
)
_THIS: Final = (
    AccountPlace.account_id == bindparam("which"),
    AccountPlace.kind == bindparam("of_kind"),
    AccountPlace.value == bindparam("this"),
)
_LAST: Final = select(AccountPlace.last_used).where(*_THIS)
_AGAIN: Final = update(AccountPlace).where(*_THIS)
_FIRST: Final = {
    name: dialect.insert(AccountPlace).on_conflict_do_nothing()
    for name, dialect in (("sqlite", sqlite), ("postgresql", postgresql))
}
_FORGET_OLD: Final = delete(AccountPlace).where(AccountPlace.account_id == bindparam("which"))


def of(tx: Session, account_id: int, counter: str, now: dt.datetime) -> Habits:
    """The places of an account, with the throttle's row of the key `counter`."""
    rows = tx.connection().execute(_OF, {"which": account_id, "since": now - KEEP, "counter": counter}).all()
    if not rows:
        return Habits()
    counted, minute = rows[0].counted, rows[0].minute
    return Habits(
        places=tuple((Kind(row.kind), row.value, row.last_used) for row in rows if row.kind is not None),
        counter=(counted, minute) if counted is not None else None,
    )


def used(tx: Session, account_id: int, kind: Kind, value: str, now: dt.datetime) -> None:
    """Remember that the account was used from there; once an hour, so that sign-ins do not wait for each other."""
    connection, this = tx.connection(), {"which": account_id, "of_kind": str(kind), "this": value}
    before = connection.execute(_LAST, this).scalar_one_or_none()
    if before is not None:
        if now - before >= NOTED_EVERY:
            connection.execute(_AGAIN, {**this, "last_used": now})
        return
    row = {"account_id": account_id, "kind": str(kind), "value": value, "first_used": now, "last_used": now}
    connection.execute(_FIRST[connection.dialect.name], row)  # or nothing: another sign-in from there was faster
    _forget(tx, account_id, kind, now)


def _forget(tx: Session, account_id: int, kind: Kind, now: dt.datetime) -> None:
    mine = (AccountPlace.account_id == account_id, AccountPlace.kind == str(kind))
    newest = select(AccountPlace.value).where(*mine).order_by(AccountPlace.last_used.desc()).limit(MOST)
    keep = set(tx.scalars(newest))
    tx.execute(delete(AccountPlace).where(*mine, AccountPlace.value.not_in(keep)))
    tx.execute(_FORGET_OLD.where(AccountPlace.last_used <= now - KEEP), {"which": account_id})
