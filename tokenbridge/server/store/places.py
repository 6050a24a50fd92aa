"""From where each account was used, for noticing what is unusual. It notices nothing itself."""

from __future__ import annotations

import datetime as dt
from enum import StrEnum, unique
from typing import Final

from sqlalchemy import bindparam, delete, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from tokenbridge.server.store.schema import AccountPlace

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


# Built once: building a statement costs more than running it.
_OF: Final = (
    select(AccountPlace.kind, AccountPlace.value, AccountPlace.last_used)
    .where(AccountPlace.account_id == bindparam("which"), AccountPlace.last_used > bindparam("since"))
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


def of(tx: Session, account_id: int, now: dt.datetime) -> list[tuple[Kind, str, dt.datetime]]:
    """Kind, value and latest use, the latest first."""
    rows = tx.connection().execute(_OF, {"which": account_id, "since": now - KEEP})
    return [(Kind(kind), value, last_used) for kind, value, last_used in rows]


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
