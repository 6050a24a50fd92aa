"""Enrolled certificates and the accounts that certificates belong to. It verifies none of them."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import Final

from sqlalchemy import bindparam, delete, or_, select, update
from sqlalchemy.orm import Session

from tokenbridge.errors import BadRequest
from tokenbridge.server.store.schema import Account, EnrolledCertificate

_USED: Final = update(EnrolledCertificate).where(EnrolledCertificate.fingerprint == bindparam("which"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Marks:
    """By what a certificate is recognised: SHA-256 of its DER (`fingerprint`) and of its public key, in hex.

    `nhs_uid`, `upn` and `email` are None unless the issuer may assert them. `issuer`, `serial` and `ski` only
    describe: an authority of the same name could copy them.
    """

    fingerprint: str
    key: str
    issuer: str
    serial: str
    ski: str | None
    nhs_uid: str | None = None
    upn: str | None = None
    email: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class NewCard:
    marks: Marks
    certificate: bytes
    subject: str
    label: str = ""


def add(tx: Session, account_id: int, new: NewCard, now: dt.datetime) -> EnrolledCertificate:
    """Bind a certificate to an account. The same again changes its label only; another account's is refused."""
    row = tx.scalar(select(EnrolledCertificate).where(EnrolledCertificate.fingerprint == new.marks.fingerprint))
    if row is not None and row.account_id != account_id:
        raise BadRequest("This certificate is enrolled for another user.", next_step="Remove it there first.")
    same_key = select(EnrolledCertificate.id).where(EnrolledCertificate.key == new.marks.key)
    if tx.scalar(same_key.where(EnrolledCertificate.account_id != account_id).limit(1)) is not None:
        # Two owners of one key would be nobody: neither could sign in any more.
        raise BadRequest("This card's key is enrolled for another user.", next_step="Remove it there first.")
    if row is not None:
        row.label = new.label or row.label
        return row
    row = EnrolledCertificate(account_id=account_id, fingerprint=new.marks.fingerprint, key=new.marks.key)
    row.issuer, row.serial, row.ski = new.marks.issuer, new.marks.serial, new.marks.ski
    row.subject, row.label = new.subject, new.label
    row.certificate, row.enrolled_at, row.last_used = new.certificate, now, None
    tx.add(row)
    tx.flush()
    return row


def listed(tx: Session, account_id: int | None = None) -> list[tuple[EnrolledCertificate, str]]:
    """Enrolled certificates with the user's name, of one account or of all."""
    query = select(EnrolledCertificate, Account.username).join(Account, Account.id == EnrolledCertificate.account_id)
    if account_id is not None:
        query = query.where(EnrolledCertificate.account_id == account_id)
    return [(row, username) for row, username in tx.execute(query.order_by(EnrolledCertificate.id))]


def is_enrolled(tx: Session, fingerprint: str) -> bool:
    """Whether this very certificate is somebody's."""
    found = select(EnrolledCertificate.id).where(EnrolledCertificate.fingerprint == fingerprint)
    return tx.scalar(found) is not None


def remove(tx: Session, card_id: int) -> bool:
    return tx.connection().execute(delete(EnrolledCertificate).where(EnrolledCertificate.id == card_id)).rowcount == 1


def used(tx: Session, fingerprint: str, now: dt.datetime) -> None:
    """Note that an enrolled certificate was used; nothing happens when it is not enrolled."""
    tx.connection().execute(_USED, {"which": fingerprint, "last_used": now})


def owner(tx: Session, marks: Marks) -> int | None:
    """The id of the account whose certificate this is, or nobody's. Two different owners are nobody."""
    found = owners(tx, marks)
    return next(iter(found)) if len(found) == 1 else None


def owners(tx: Session, marks: Marks) -> frozenset[int]:
    """The ids of all accounts that a certificate points to. What is enrolled goes before what an issuer says.

    Enrolled means: the same certificate, or a renewed one for the same key, whose possession was just proved.
    """
    connection = tx.connection()
    found = connection.execute(_ENROLLED, {"fingerprint": marks.fingerprint, "key": marks.key}).all()
    # What is not asserted is NULL, and equals nothing.
    found = found or connection.execute(_ASSERTED, {name: getattr(marks, name) for name in _NAMES}).all()
    return frozenset(int(row[0]) for row in found)


_NAMES: Final = ("nhs_uid", "upn", "email")
# Built once: building a statement costs more than running it.
_ENROLLED: Final = (
    select(EnrolledCertificate.account_id)
    .where(or_(*(getattr(EnrolledCertificate, name) == bindparam(name) for name in ("fingerprint", "key"))))
    .distinct()
)
_ASSERTED: Final = select(Account.id).where(or_(*(getattr(Account, name) == bindparam(name) for name in _NAMES)))
