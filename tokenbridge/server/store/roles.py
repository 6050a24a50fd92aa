"""Who administers what, as rows. Whether that permits something is decided in `administration`."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from enum import StrEnum, unique

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from tokenbridge.server.store.role_schema import AdminRole
from tokenbridge.server.store.schema import Account


@unique
class Role(StrEnum):
    ADMINISTRATOR = "administrator"
    """Everything."""
    HELPDESK = "helpdesk"
    """Finding accounts and resetting what people sign in with."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    """A role, for the accounts of one organisation; `organisation` empty: for the whole site."""

    role: Role
    organisation: str = ""

    def __str__(self) -> str:
        return f"{self.role} of {self.organisation or 'the whole site'}"


def of(tx: Session, account_id: int) -> tuple[Grant, ...]:
    query = select(AdminRole).where(AdminRole.account_id == account_id)
    rows = tx.scalars(query.order_by(AdminRole.role, AdminRole.organisation))
    return tuple(_grant(row) for row in rows)


def grant(tx: Session, account_id: int, new: Grant, now: dt.datetime) -> bool:
    """Give an account a role; False when it has it already. In a transaction that writes alone."""
    if new in of(tx, account_id):
        return False
    tx.add(AdminRole(account_id=account_id, role=str(new.role), organisation=new.organisation, granted_at=now))
    tx.flush()
    return True


def revoke(tx: Session, account_id: int, old: Grant) -> bool:
    """Take a role back; False when the account does not have it."""
    which = (AdminRole.account_id == account_id, AdminRole.role == str(old.role))
    mark = delete(AdminRole).where(*which, AdminRole.organisation == old.organisation)
    return tx.connection().execute(mark).rowcount == 1


def listed(tx: Session) -> list[tuple[str, Grant]]:
    """Everybody who has a role, by user name."""
    query = select(AdminRole, Account.username).join(Account, Account.id == AdminRole.account_id)
    rows = tx.execute(query.order_by(Account.username, AdminRole.role, AdminRole.organisation))
    return [(username, _grant(row)) for row, username in rows]


def holders(tx: Session) -> frozenset[int]:
    """The accounts that have a role, by their numbers."""
    return frozenset(tx.scalars(select(AdminRole.account_id).distinct()))


def _grant(row: AdminRole) -> Grant:
    return Grant(role=Role(row.role), organisation=row.organisation)
