"""Accounts and their authenticator-app secrets. Passwords arrive here as hashes, secrets as ciphertext."""

from __future__ import annotations

import datetime as dt
import re
import unicodedata
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from sqlalchemy import delete, exists, select, update
from sqlalchemy.orm import Session

from tokenbridge.errors import BadRequest
from tokenbridge.rp.proof import Method
from tokenbridge.server.store import phones
from tokenbridge.server.store.key_schema import RecoveryCode, SecurityKey
from tokenbridge.server.store.phone_app_schema import PhoneApp
from tokenbridge.server.store.schema import Account, EnrolledCertificate, TotpSecret

USERNAME = re.compile(r"[a-z0-9][a-z0-9._@+-]{0,127}")
NHS_UID = re.compile(r"[0-9]{12}")
ORGANISATION = re.compile(r"[^\x00-\x1f\x7f]{0,128}")
AT_ONCE: Final = 5000


@dataclass(frozen=True, slots=True, kw_only=True)
class NewAccount:
    """What an operator says about a person."""

    username: str
    display_name: str
    password_hash: str | None = None
    nhs_uid: str | None = None
    email: str | None = None
    upn: str | None = None
    organisation: str = ""


def normal(username: str) -> str:
    """The one spelling under which a name is stored and looked up."""
    return unicodedata.normalize("NFKC", username).strip().casefold()


def normal_organisation(name: str) -> str:
    """The one spelling of an organisation's name; empty is none. Raises `BadRequest` for what can't be one."""
    found = unicodedata.normalize("NFKC", name).strip()
    if not ORGANISATION.fullmatch(found):
        raise BadRequest("That can't be the name of an organisation.", next_step="Use 1 to 128 printable characters.")
    return found


def add(tx: Session, new: NewAccount, now: dt.datetime) -> Account:
    """Store a new account, with multi-factor sign-in on.

    Raises `BadRequest` for an unfit name or identifier; a clash shows at the commit.
    """
    account = made(new, now)
    if find(tx, account.username) is not None:
        raise BadRequest(f"There is a user {account.username!r} already.", next_step="Choose another name.")
    tx.add(account)
    tx.flush()
    return account


def made(new: NewAccount, now: dt.datetime) -> Account:
    """As `add`, without storing it or looking whether the name is taken."""
    username = normal(new.username)
    if not USERNAME.fullmatch(username):
        raise BadRequest(f"{new.username[:128]!r} can't be a user name: letters, digits and . _ @ + - only.")
    if new.nhs_uid is not None and not NHS_UID.fullmatch(new.nhs_uid):
        raise BadRequest("An NHS user id has exactly 12 digits.")
    return Account(
        username=username,
        display_name=new.display_name or new.username,
        password_hash=new.password_hash,
        nhs_uid=new.nhs_uid,
        email=_lower(new.email),
        upn=_lower(new.upn),
        disabled=False,
        created_at=now,
        mfa_since=now,
        organisation=normal_organisation(new.organisation),
    )


def change(account: Account, facts: Mapping[str, str]) -> None:
    """Set `display_name`, `email`, `nhs_uid`, `upn` or `organisation`. Raises `BadRequest` for an unfit identifier."""
    if not NHS_UID.fullmatch(facts.get("nhs_uid", "0" * 12)):
        raise BadRequest("An NHS user id has exactly 12 digits.")
    for name, value in facts.items():
        setattr(account, name, stored(name, value))


def stored(name: str, value: str) -> str | None:
    """How a fact about an account is stored."""
    if name == "organisation":
        return normal_organisation(value)
    return _lower(value) if name in ("email", "upn") else value


def _lower(value: str | None) -> str | None:
    return value.casefold() if value else None


def find(tx: Session, username: str) -> Account | None:
    name = normal(username)
    # Databases differ in what text they take at all (PostgreSQL refuses NUL): nobody is called so in any.
    return tx.scalar(select(Account).where(Account.username == name)) if USERNAME.fullmatch(name) else None


def get(tx: Session, username: str) -> Account:
    """Like `find`, for operators: raises `BadRequest` when there is nobody of that name."""
    account = find(tx, username)
    if account is None:
        raise BadRequest(f"There is no user {username!r}.", next_step="See `tokenbridge server user list`.")
    return account


def by_names(tx: Session, usernames: Collection[str]) -> dict[str, Account]:
    """The accounts of these names, which are as `normal` makes them."""
    fit = sorted(name for name in usernames if USERNAME.fullmatch(name))
    return {account.username: account for account in _among(tx, "username", fit)}


def by_values(tx: Session, name: str, values: Collection[str]) -> dict[str, Account]:
    """The accounts that have one of these values for `email`, `nhs_uid` or `upn`, as it is stored, by that."""
    fit = sorted(value for value in values if "\0" not in value)
    return {getattr(account, name): account for account in _among(tx, name, fit)}


def _among(tx: Session, name: str, values: Sequence[str]) -> Iterator[Account]:
    # Databases bound how many values a statement may have.
    for at in range(0, len(values), AT_ONCE):
        yield from tx.scalars(select(Account).where(getattr(Account, name).in_(values[at : at + AT_ONCE])))


def by_id(tx: Session, account_id: int) -> Account | None:
    return tx.get(Account, account_id)


def everybody(tx: Session) -> list[Account]:
    return list(tx.scalars(select(Account).order_by(Account.username)))


def enrolled(tx: Session, account_id: int, *, suspended: bool = False) -> frozenset[Method]:
    """The methods that this account has beside its password; cards and keys that are suspended only with
    `suspended`."""
    found = set()
    cards, keys = EnrolledCertificate.account_id == account_id, SecurityKey.account_id == account_id
    if not suspended:
        cards, keys = cards & EnrolledCertificate.suspended_at.is_(None), keys & SecurityKey.suspended_at.is_(None)
    if tx.scalar(select(exists().where(TotpSecret.account_id == account_id))):
        found.add(Method.TOTP)
    if tx.scalar(select(exists().where(cards))):
        found.add(Method.CARD)
    if tx.scalar(select(exists().where(keys))):
        found.add(Method.KEY)
    if tx.scalar(select(exists().where(RecoveryCode.account_id == account_id, RecoveryCode.used_at.is_(None)))):
        found.add(Method.RECOVERY)
    if tx.scalar(select(exists().where(PhoneApp.account_id == account_id, PhoneApp.confirmed_at.is_not(None)))):
        found.add(Method.NUMBER_MATCH)
    for row in phones.of(tx, account_id):
        found |= phones.methods(row)
    return frozenset(found)


def set_totp(tx: Session, account_id: int, sealed: bytes, now: dt.datetime, algorithm: str = "sha1") -> None:
    """Replace the account's authenticator-app secret; `sealed` is ciphertext."""
    row = tx.get(TotpSecret, account_id)
    if row is None:
        tx.add(TotpSecret(account_id=account_id, secret=sealed, last_step=0, algorithm=algorithm, created_at=now))
    else:
        row.secret, row.last_step, row.algorithm, row.created_at = sealed, 0, algorithm, now


def totp(tx: Session, account_id: int) -> TotpSecret | None:
    return tx.get(TotpSecret, account_id)


def remove_totp(tx: Session, account_id: int) -> bool:
    """Forget the account's authenticator app; False when there is none."""
    return tx.connection().execute(delete(TotpSecret).where(TotpSecret.account_id == account_id)).rowcount == 1


def all_totp(tx: Session) -> list[TotpSecret]:
    return list(tx.scalars(select(TotpSecret)))


def spend_step(tx: Session, account_id: int, time_step: int) -> bool:
    """Mark an RFC 6238 time step as used; False when it, or a later one, was used before."""
    mark = update(TotpSecret).where(TotpSecret.account_id == account_id, TotpSecret.last_step < time_step)
    return tx.connection().execute(mark.values(last_step=time_step)).rowcount == 1
