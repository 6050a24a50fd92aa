"""Registered keys as rows. It verifies nothing, and decides nothing about models."""

from __future__ import annotations

import datetime as dt
from base64 import b64decode, b64encode
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import and_, bindparam, delete, func, insert, or_, select, true, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from tokenbridge.errors import RejectReason
from tokenbridge.rp.key_assertion import RegisteredKey
from tokenbridge.rp.key_models import Make
from tokenbridge.rp.key_options import Credential
from tokenbridge.rp.key_registration import NewKey
from tokenbridge.rp.refusals import refusal
from tokenbridge.server.store import metadata
from tokenbridge.server.store.key_schema import KeyMetadata, SecurityKey, UserHandle
from tokenbridge.server.store.schema import Account

MOST_KEYS: Final = 32
"""Keys of one account: the list of them travels in every request's options."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Owned:
    """A registered key with its owner. `handle` is what the key knows the owner by, `metadata` the stamp of the models'
    metadata at this moment."""

    id: int
    account_id: int
    sign_count: int
    name: str
    handle: bytes
    registered: RegisteredKey
    make: Make
    metadata: metadata.Stamp


@dataclass(frozen=True, slots=True, kw_only=True)
class Use:
    """What a good signature says about the key from now on."""

    key: int
    counter: int
    backed_up: bool
    user_verified: bool


# Built once: building a statement costs more than running it.
_FIND: Final = (
    select(
        SecurityKey.id,
        SecurityKey.account_id,
        SecurityKey.credential_id,
        SecurityKey.public_key,
        SecurityKey.sign_count,
        SecurityKey.aaguid,
        SecurityKey.name,
        SecurityKey.path,
        SecurityKey.backup_eligible,
        SecurityKey.registered_at,
        UserHandle.handle,
        *metadata.COLUMNS,
    )
    .join(UserHandle, UserHandle.account_id == SecurityKey.account_id)
    .outerjoin(KeyMetadata, true())
    .where(SecurityKey.credential_id == bindparam("credential"))
)
_OFFERED: Final = (
    select(SecurityKey.credential_id, SecurityKey.transports)
    .where(SecurityKey.account_id == bindparam("account"))
    .order_by(SecurityKey.id)
    .limit(MOST_KEYS)
)
_IN_USE: Final = SecurityKey.suspended_at.is_(None)
# The counter grows, or the key has none (WebAuthn Level 3 section 7.2 step 22); whoever is second does not count.
_GROWS: Final = or_(
    SecurityKey.sign_count < bindparam("counter"), and_(SecurityKey.sign_count == 0, bindparam("counter") == 0)
)
_USED: Final = (
    update(SecurityKey)
    .where(SecurityKey.id == bindparam("which"), _GROWS, _IN_USE)
    .values(
        sign_count=bindparam("counter"),
        last_used=bindparam("now"),
        backed_up=bindparam("backed"),
        user_verified=or_(SecurityKey.user_verified, bindparam("verified")),
    )
)


def find(tx: Session, credential_id: bytes) -> Owned | None:
    row = tx.connection().execute(_FIND, {"credential": credential_id}).one_or_none()
    if row is None:
        return None
    return Owned(
        id=row.id,
        account_id=row.account_id,
        sign_count=row.sign_count,
        name=row.name,
        handle=row.handle,
        registered=RegisteredKey(
            credential_id=row.credential_id, cose=row.public_key, backup_eligible=row.backup_eligible
        ),
        make=make_of(row),
        metadata=metadata.stamp_of(row),
    )


def make_of(row: Any) -> Make:
    """The make of a `SecurityKey`."""
    return Make(aaguid=row.aaguid, path=tuple(map(b64decode, row.path)), at=row.registered_at)


def offered(tx: Session, account_id: int) -> tuple[Credential, ...]:
    """The account's credentials, as options name them; suspended ones too, so that nobody can tell which they are."""
    rows = tx.connection().execute(_OFFERED, {"account": account_id})
    return tuple(Credential(id=row.credential_id, transports=tuple(row.transports)) for row in rows)


def used(tx: Session, use: Use, now: dt.datetime) -> bool:
    """Note a use; False, and nothing noted, when the counter did not grow or the key is suspended."""
    values = {
        "which": use.key,
        "counter": use.counter,
        "now": now,
        "backed": use.backed_up,
        "verified": use.user_verified,
    }
    return tx.connection().execute(_USED, values).rowcount == 1


def add(tx: Session, account_id: int, new: NewKey, name: str, now: dt.datetime) -> SecurityKey:
    """Store a new key. Raises Rejected(CREDENTIAL_EXISTS) when anybody has it already."""
    row = SecurityKey(
        account_id=account_id,
        credential_id=new.credential_id,
        public_key=new.cose,
        sign_count=new.counter,
        aaguid=new.aaguid,
        name=name,
        attestation=new.statement.format,
        path=[b64encode(der).decode() for der in new.statement.path],
        transports=list(new.transports),
        backup_eligible=new.backup_eligible,
        backed_up=new.backed_up,
        user_verified=new.user_verified,
        discoverable=new.discoverable,
        cred_protect=new.cred_protect,
        min_pin_length=new.min_pin_length,
        registered_at=now,
        last_used=None,
    )
    try:
        with tx.begin_nested():
            tx.add(row)
    except IntegrityError as err:
        raise refusal(RejectReason.CREDENTIAL_EXISTS) from err
    return row


def of(tx: Session, account_id: int) -> list[SecurityKey]:
    return list(tx.scalars(select(SecurityKey).where(SecurityKey.account_id == account_id).order_by(SecurityKey.id)))


def get(tx: Session, key_id: int, account_id: int) -> SecurityKey | None:
    """A key of this account and no other."""
    return tx.scalar(select(SecurityKey).where(SecurityKey.id == key_id, SecurityKey.account_id == account_id))


def listed(tx: Session, account_id: int | None = None) -> list[tuple[SecurityKey, str]]:
    """Keys with the user's name, of one account or of all."""
    query = select(SecurityKey, Account.username).join(Account, Account.id == SecurityKey.account_id)
    if account_id is not None:
        query = query.where(SecurityKey.account_id == account_id)
    return [(row, username) for row, username in tx.execute(query.order_by(SecurityKey.id))]


def remove(tx: Session, key_id: int) -> bool:
    return tx.connection().execute(delete(SecurityKey).where(SecurityKey.id == key_id)).rowcount == 1


def handle(tx: Session, account_id: int, random: bytes) -> bytes:
    """The account's user handle; `random` (64 bytes) becomes it when there is none."""
    known = tx.scalar(select(UserHandle.handle).where(UserHandle.account_id == account_id))
    if known is None:
        tx.connection().execute(insert(UserHandle), {"account_id": account_id, "handle": random})
    return random if known is None else known


def counted_by_model(tx: Session) -> list[tuple[bytes, int]]:
    """Every AAGUID of a registered key with the number of its keys, the most frequent first."""
    count = func.count()
    query = select(SecurityKey.aaguid, count).group_by(SecurityKey.aaguid).order_by(count.desc(), SecurityKey.aaguid)
    return [(bytes(aaguid), keys) for aaguid, keys in tx.execute(query)]
