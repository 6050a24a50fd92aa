"""What can be done to somebody's account, inside a transaction. The CLI and the pages share it; both record it."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum, unique
from types import MappingProxyType
from typing import Final

from sqlalchemy import delete, func, select
from sqlalchemy.orm import Session

from tokenbridge.errors import BadRequest
from tokenbridge.server import codes
from tokenbridge.server.store import accounts, app_passwords, enrolment, phone_apps, phones, sessions
from tokenbridge.server.store.key_schema import RecoveryCode, SecurityKey
from tokenbridge.server.store.method_schema import PendingApp, Phone
from tokenbridge.server.store.schema import Account, EnrolledCertificate

MAX_HOURS: Final = 24 * 14


@dataclass(frozen=True, slots=True, kw_only=True)
class NewCode:
    """An enrolment code, to be shown once."""

    username: str
    code: str
    expires_at: dt.datetime


def switch(tx: Session, account: Account, now: dt.datetime, *, disabled: bool) -> int:
    """Disable or enable an account; disabling ends its sessions, whose number is returned, and voids an enrolment code
    that is out."""
    account.disabled = disabled
    if not disabled:
        return 0
    enrolment.void(tx, account.id)
    return sessions.end_all(tx, account.id, now)


def new_code(tx: Session, account: Account, now: dt.datetime, hours: int) -> NewCode:
    """Make an enrolment code; one that was there is void. Raises `BadRequest`."""
    return new_codes(tx, [account], now, hours)[0]


def new_codes(tx: Session, owners: Sequence[Account], now: dt.datetime, hours: int) -> list[NewCode]:
    """As `new_code`, for many accounts in a few statements."""
    if not 1 <= hours <= MAX_HOURS:
        raise BadRequest(f"A code lives 1 to {MAX_HOURS} hours.")
    disabled = next((account.username for account in owners if account.disabled), "")
    if disabled:
        raise BadRequest(f"{disabled} is disabled.", next_step="Enable the account first.")
    expires_at = now + dt.timedelta(hours=hours)
    made = [NewCode(username=account.username, code=codes.new_code(), expires_at=expires_at) for account in owners]
    hashes = {
        account.id: codes.hash_code(one.code, account=account.id) for account, one in zip(owners, made, strict=True)
    }
    enrolment.set_codes(tx, hashes, now, expires_at)
    return made


@unique
class Held(StrEnum):
    """What an account may hold, and lose in a reset."""

    APP = "app"
    PHONES = "phones"
    RECOVERY = "recovery"
    KEYS = "keys"
    CARDS = "cards"
    APP_PASSWORDS = "app-passwords"


def remove(tx: Session, account: Account, what: Held, now: dt.datetime) -> int:
    """Take everything of a kind away; returns how much it was."""
    return _REMOVERS[what](tx, account.id, now)


def _remove_app(tx: Session, account_id: int, _now: dt.datetime) -> int:
    tx.connection().execute(delete(PendingApp).where(PendingApp.account_id == account_id))
    return int(accounts.remove_totp(tx, account_id))


def _remove_phones(tx: Session, account_id: int, _now: dt.datetime) -> int:
    rows = list(tx.scalars(select(Phone).where(Phone.account_id == account_id)))
    confirmed = sum(row.confirmed_at is not None for row in rows)
    for row in rows:
        phones.remove(tx, row.id)
    return confirmed + phone_apps.remove_all(tx, account_id)


def _remove_recovery(tx: Session, account_id: int, _now: dt.datetime) -> int:
    unused = (RecoveryCode.account_id == account_id, RecoveryCode.used_at.is_(None))
    count = tx.scalar(select(func.count()).where(*unused)) or 0
    tx.connection().execute(delete(RecoveryCode).where(RecoveryCode.account_id == account_id))
    return count


def _remove_keys(tx: Session, account_id: int, _now: dt.datetime) -> int:
    return tx.connection().execute(delete(SecurityKey).where(SecurityKey.account_id == account_id)).rowcount


def _remove_cards(tx: Session, account_id: int, _now: dt.datetime) -> int:
    mark = delete(EnrolledCertificate).where(EnrolledCertificate.account_id == account_id)
    return tx.connection().execute(mark).rowcount


_REMOVERS: Final[Mapping[Held, Callable[[Session, int, dt.datetime], int]]] = MappingProxyType(
    {
        Held.APP: _remove_app,
        Held.PHONES: _remove_phones,
        Held.RECOVERY: _remove_recovery,
        Held.KEYS: _remove_keys,
        Held.CARDS: _remove_cards,
        Held.APP_PASSWORDS: app_passwords.revoke_all,
    }
)
