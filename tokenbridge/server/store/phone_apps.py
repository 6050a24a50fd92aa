"""Phone apps as rows, and the QR codes by which they come. One counts once the page that showed its code said so."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import Final

from sqlalchemy import delete, select, update
from sqlalchemy.orm import Session

from tokenbridge.server.store.phone_app_schema import PhoneApp, PhoneEnrolment

MOST: Final = 5
"""Telephones that one account may have."""
MOST_TRIES: Final = 3
LIFETIME: Final = dt.timedelta(minutes=10)


@dataclass(frozen=True, slots=True, kw_only=True)
class NewPhoneApp:
    """`public_key` is SubjectPublicKeyInfo in DER, `thumbprint` its JWK thumbprint (RFC 7638)."""

    thumbprint: str
    public_key: bytes
    name: str
    device: str


def of(tx: Session, account_id: int) -> list[PhoneApp]:
    """The account's confirmed telephones, the oldest first."""
    query = select(PhoneApp).where(PhoneApp.account_id == account_id, PhoneApp.confirmed_at.is_not(None))
    return list(tx.scalars(query.order_by(PhoneApp.id)))


def subscribed(tx: Session) -> list[PhoneApp]:
    """All telephones that get pushes, whoever's they are."""
    return list(tx.scalars(select(PhoneApp).where(PhoneApp.subscription.is_not(None))))


def find(tx: Session, thumbprint: str) -> PhoneApp | None:
    """By the name of its key, confirmed or not, as it stands in the database now."""
    query = select(PhoneApp).where(PhoneApp.thumbprint == thumbprint)
    return tx.scalar(query.execution_options(populate_existing=True))


def get(tx: Session, phone_app_id: int, account_id: int) -> PhoneApp | None:
    """A confirmed telephone of this account and no other."""
    fits = (PhoneApp.id == phone_app_id, PhoneApp.account_id == account_id, PhoneApp.confirmed_at.is_not(None))
    return tx.scalar(select(PhoneApp).where(*fits))


def remove(tx: Session, phone_app_id: int) -> None:
    tx.execute(delete(PhoneApp).where(PhoneApp.id == phone_app_id))


def remove_all(tx: Session, account_id: int) -> int:
    """Confirmed or not, and codes that are out; returns how many counted."""
    counted = len(of(tx, account_id))
    tx.execute(delete(PhoneEnrolment).where(PhoneEnrolment.account_id == account_id))
    tx.execute(delete(PhoneApp).where(PhoneApp.account_id == account_id))
    return counted


def subscribe(tx: Session, phone_app_id: int, sealed: bytes | None) -> None:
    tx.execute(update(PhoneApp).where(PhoneApp.id == phone_app_id).values(subscription=sealed))


def unsubscribe(tx: Session, phone_app_id: int, sealed: bytes) -> None:
    """Forget a subscription that its push service knows no more, unless a newer one has come meanwhile."""
    fits = (PhoneApp.id == phone_app_id, PhoneApp.subscription == sealed)
    tx.execute(update(PhoneApp).where(*fits).values(subscription=None))


def used(tx: Session, phone_app_id: int, now: dt.datetime) -> None:
    tx.execute(update(PhoneApp).where(PhoneApp.id == phone_app_id).values(used_at=now))


# --- the way in ------------------------------------------------------------------------------------------------


def begin(tx: Session, account_id: int, ref: str, now: dt.datetime) -> PhoneEnrolment:
    """A new code for the account; its older ones are void, and so is what came by them and was not confirmed."""
    tx.execute(delete(PhoneEnrolment).where(PhoneEnrolment.account_id == account_id))
    tx.execute(delete(PhoneApp).where(PhoneApp.account_id == account_id, PhoneApp.confirmed_at.is_(None)))
    row = PhoneEnrolment(account_id=account_id, ref=ref, tries=0, expires_at=now + LIFETIME)
    tx.add(row)
    tx.flush()
    return row


def enrolment(tx: Session, ref: str, now: dt.datetime) -> PhoneEnrolment | None:
    """A code that is in time, whether a telephone has used it or not."""
    query = select(PhoneEnrolment).where(PhoneEnrolment.ref == ref, PhoneEnrolment.expires_at > now)
    return tx.scalar(query.execution_options(populate_existing=True))


def claim(tx: Session, row: PhoneEnrolment, new: NewPhoneApp, number: bytes, now: dt.datetime) -> bool:
    """A telephone uses a code: the first one does, all others are told False."""
    values = {name: getattr(new, name) for name in new.__slots__}
    app = PhoneApp(account_id=row.account_id, created_at=now, confirmed_at=None, used_at=None, **values)
    tx.add(app)
    tx.flush()
    free = (PhoneEnrolment.id == row.id, PhoneEnrolment.phone_app_id.is_(None))
    change = update(PhoneEnrolment).where(*free).values(phone_app_id=app.id, number=number)
    return tx.connection().execute(change).rowcount == 1


def count_try(tx: Session, enrolment_id: int) -> bool:
    """Count a number before it is compared; False when there are no tries left."""
    fits = (PhoneEnrolment.id == enrolment_id, PhoneEnrolment.tries < MOST_TRIES)
    change = update(PhoneEnrolment).where(*fits).values(tries=PhoneEnrolment.tries + 1)
    return tx.connection().execute(change).rowcount == 1


def confirm(tx: Session, row: PhoneEnrolment, now: dt.datetime) -> None:
    """The telephone of a code counts from now on; the code is gone."""
    tx.execute(update(PhoneApp).where(PhoneApp.id == row.phone_app_id).values(confirmed_at=now))
    tx.execute(delete(PhoneEnrolment).where(PhoneEnrolment.id == row.id))
