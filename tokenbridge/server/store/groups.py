"""Which accounts are in which groups. Rules of the policy refer to groups by name."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection, Sequence
from typing import Final

from sqlalchemy import bindparam, delete, func, insert, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from tokenbridge.errors import BadRequest
from tokenbridge.server.store.schema import Account, AccountGroup

NAME: Final = re.compile(r"[^\x00-\x1f\x7f]{1,128}")

UNENROLLED: Final = "@unenrolled"
"""Everybody who has nothing but a password is in this group. Nobody is put into it, or into others that begin so."""

AT_ONCE: Final = 5000

# Built once: building a statement costs more than running it.
_OF: Final = select(AccountGroup.name).where(AccountGroup.account_id == bindparam("which"))


def normal(name: str) -> str:
    """The one spelling of a group's name. Raises `BadRequest` for what can't be one."""
    found = unicodedata.normalize("NFKC", name).strip()
    if not NAME.fullmatch(found) or found.startswith("@"):
        raise BadRequest(
            f"{name!r} can't be the name of a group.",
            next_step="Use 1 to 128 printable characters, the first of them no @.",
        )
    return found


def of(tx: Session, account_id: int) -> frozenset[str]:
    return frozenset(tx.connection().execute(_OF, {"which": account_id}).scalars())


def add(tx: Session, account_id: int, name: str) -> bool:
    """Put an account into a group; False when it is in it already."""
    if name in of(tx, account_id):
        return False
    try:
        with tx.begin_nested():
            tx.add(AccountGroup(account_id=account_id, name=name))
    except IntegrityError:
        return False  # somebody else did the same at this moment
    return True


def add_all(tx: Session, wanted: Sequence[tuple[int, Collection[str]]]) -> set[tuple[int, str]]:
    """Put many accounts into groups, in a transaction that writes alone; returns who was not in which group before."""
    new = {(account_id, name) for account_id, names in wanted for name in names}
    ids = sorted({account_id for account_id, _ in new})
    for at in range(0, len(ids), AT_ONCE):
        which = AccountGroup.account_id.in_(ids[at : at + AT_ONCE])
        rows = tx.execute(select(AccountGroup.account_id, AccountGroup.name).where(which))
        new -= {(row.account_id, row.name) for row in rows}
    if new:
        rows_of_table = [{"account_id": account_id, "name": name} for account_id, name in sorted(new)]
        tx.connection().execute(insert(AccountGroup), rows_of_table)
    return new


def remove(tx: Session, account_id: int, name: str) -> bool:
    """Take an account out of a group; False when it was not in it."""
    mark = delete(AccountGroup).where(AccountGroup.account_id == account_id, AccountGroup.name == name)
    return tx.connection().execute(mark).rowcount == 1


def counted(tx: Session) -> list[tuple[str, int]]:
    """Every group with the number of its accounts."""
    query = select(AccountGroup.name, func.count()).group_by(AccountGroup.name).order_by(AccountGroup.name)
    return [(name, count) for name, count in tx.execute(query)]


def members(tx: Session, name: str) -> list[Account]:
    query = select(Account).join(AccountGroup, AccountGroup.account_id == Account.id)
    return list(tx.scalars(query.where(AccountGroup.name == name).order_by(Account.username)))
