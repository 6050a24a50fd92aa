"""App passwords and the programs that check them, as rows. Passwords and secrets arrive here as hashes."""

from __future__ import annotations

import datetime as dt
import re
from dataclasses import dataclass
from typing import Final

from sqlalchemy import bindparam, delete, func, select, update
from sqlalchemy.orm import Session

from tokenbridge.errors import BadRequest
from tokenbridge.server.store.app_schema import AppClient, AppPassword

CLIENT: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")
MOST: Final = 50
"""App passwords of one account that are not revoked."""

USED_EVERY: Final = dt.timedelta(minutes=5)
"""The latest use is noted at most this often: mail programs sign in every minute."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Good:
    """An app password that fits."""

    id: int
    name: str
    last_used: dt.datetime | None


# Built once: building a statement costs more than running it.
_CLIENT_OF: Final = select(AppClient.id, AppClient.secret_hash).where(AppClient.name == bindparam("name"))
_FIND: Final = select(AppPassword.id, AppPassword.name, AppPassword.last_used).where(
    AppPassword.password_hash == bindparam("hash"),
    AppPassword.account_id == bindparam("account"),
    AppPassword.client_id == bindparam("client"),
    AppPassword.revoked_at.is_(None),
)


def add_client(tx: Session, name: str, secret_hash: str, now: dt.datetime) -> AppClient:
    """Raises `BadRequest` for a name that can't be one or is taken."""
    if not CLIENT.fullmatch(name):
        raise BadRequest(f"{name!r} can't be a client: letters, digits and . _ - only.", next_step="Choose another.")
    if client(tx, name) is not None:
        next_step = "Take another name, or `tokenbridge server app-client renew`."
        raise BadRequest(f"There is a client {name!r} already.", next_step=next_step)
    row = AppClient(name=name, secret_hash=secret_hash, created_at=now)
    tx.add(row)
    tx.flush()
    return row


def client(tx: Session, name: str) -> AppClient | None:
    return tx.scalar(select(AppClient).where(AppClient.name == name)) if CLIENT.fullmatch(name) else None


def get_client(tx: Session, name: str) -> AppClient:
    """Like `client`, for operators: raises `BadRequest` when there is none of that name."""
    found = client(tx, name)
    if found is None:
        raise BadRequest(f"There is no client {name!r}.", next_step="See `tokenbridge server app-client list`.")
    return found


def secret_of(tx: Session, name: str) -> tuple[int, str] | None:
    """Number and hashed secret of a client."""
    if not CLIENT.fullmatch(name):
        return None
    row = tx.connection().execute(_CLIENT_OF, {"name": name}).one_or_none()
    return None if row is None else (row.id, row.secret_hash)


def clients(tx: Session) -> list[tuple[AppClient, int]]:
    """Every client, with the number of passwords that are made for it and not revoked."""
    living = (AppPassword.client_id == AppClient.id, AppPassword.revoked_at.is_(None))
    count = select(func.count()).where(*living).scalar_subquery()
    return [(row, number) for row, number in tx.execute(select(AppClient, count).order_by(AppClient.name))]


def remove_client(tx: Session, client_id: int) -> None:
    """With all passwords that were made for it."""
    tx.execute(delete(AppClient).where(AppClient.id == client_id))


@dataclass(frozen=True, slots=True, kw_only=True)
class NewAppPassword:
    account_id: int
    client_id: int
    name: str
    password_hash: str


def add(tx: Session, new: NewAppPassword, now: dt.datetime) -> AppPassword:
    """Raises `BadRequest` when the account has too many."""
    mine = (AppPassword.account_id == new.account_id, AppPassword.revoked_at.is_(None))
    if (tx.scalar(select(func.count()).where(*mine)) or 0) >= MOST:
        raise BadRequest(f"There are {MOST} app passwords already.", next_step="Revoke those that are not used.")
    row = AppPassword(
        account_id=new.account_id,
        client_id=new.client_id,
        name=new.name,
        password_hash=new.password_hash,
        created_at=now,
    )
    tx.add(row)
    tx.flush()
    return row


def of(tx: Session, account_id: int) -> list[tuple[AppPassword, str]]:
    """The account's passwords that are not revoked, with their client's name, the oldest first."""
    query = select(AppPassword, AppClient.name).join(AppClient, AppClient.id == AppPassword.client_id)
    query = query.where(AppPassword.account_id == account_id, AppPassword.revoked_at.is_(None))
    return [(row, name) for row, name in tx.execute(query.order_by(AppPassword.id))]


def find(tx: Session, *, account_id: int, client_id: int, password_hash: str) -> Good | None:
    values = {"hash": password_hash, "account": account_id, "client": client_id}
    row = tx.connection().execute(_FIND, values).one_or_none()
    return None if row is None else Good(id=row.id, name=row.name, last_used=row.last_used)


def used(tx: Session, password_id: int, now: dt.datetime) -> None:
    tx.execute(update(AppPassword).where(AppPassword.id == password_id).values(last_used=now))


def revoke(tx: Session, account_id: int, password_id: int, now: dt.datetime) -> str | None:
    """Revoke one password of the account; returns its name, or None when there is no such one any more."""
    mark = update(AppPassword).where(
        AppPassword.id == password_id, AppPassword.account_id == account_id, AppPassword.revoked_at.is_(None)
    )
    return tx.execute(mark.values(revoked_at=now).returning(AppPassword.name)).scalar_one_or_none()


def revoke_all(tx: Session, account_id: int, now: dt.datetime) -> int:
    """Revoke every password of the account; returns how many there were."""
    mine = (AppPassword.account_id == account_id, AppPassword.revoked_at.is_(None))
    return tx.connection().execute(update(AppPassword).where(*mine).values(revoked_at=now)).rowcount
