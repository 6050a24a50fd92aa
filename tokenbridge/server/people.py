"""An account as the sign-in needs it, without its secrets."""

from __future__ import annotations

import datetime as dt
import hashlib
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import JSON, Function, Select, bindparam, exists, func, or_, select
from sqlalchemy.orm import Session

from tokenbridge.rp.proof import Method
from tokenbridge.server.store import groups
from tokenbridge.server.store.key_schema import RecoveryCode, SecurityKey
from tokenbridge.server.store.method_schema import Phone
from tokenbridge.server.store.phone_app_schema import PhoneApp
from tokenbridge.server.store.schema import Account, AccountGroup, EnrolledCertificate, SuspendedIssuer, TotpSecret


@dataclass(frozen=True, slots=True, kw_only=True)
class Person:
    """`enrolled` are the methods beside the password; `since` is when the account was made, `default` what the person
    wants to be asked for first. `suspended`: a card or key of the account is, and not among the methods."""

    id: int
    username: str
    display_name: str
    disabled: bool
    enrolled: frozenset[Method]
    groups: frozenset[str] = frozenset()
    since: dt.datetime | None = None
    email: str | None = None
    default: Method | None = None
    suspended: bool = False
    password: str = ""
    """Names the password in a proof, and changes with it; empty when the account has none."""


def person(tx: Session, account_id: int) -> Person | None:
    """The account, or None when it was removed."""
    connection = tx.connection()
    row = connection.execute(_ONE[connection.dialect.name], {"which": account_id}).one_or_none()
    if row is None:
        return None
    methods = frozenset(method for method in _TOLD if getattr(row, str(method)))
    own = frozenset(row.groups or ())
    return Person(
        id=row.id,
        username=row.username,
        display_name=row.display_name,
        disabled=row.disabled,
        enrolled=methods,
        # Suspending the last key must not make an account that a password alone lets in.
        groups=own if methods or row.suspended else own | {groups.UNENROLLED},
        since=row.created_at,
        email=row.email,
        default=Method(row.default_method) if row.default_method in _KNOWN else None,
        suspended=row.suspended,
        password=password_name(row.id, row.password_hash),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """One account of many, with its methods beside the password."""

    id: int
    username: str
    display_name: str
    disabled: bool
    enrolled: frozenset[Method]


def everybody(tx: Session, organisations: frozenset[str] | None = None) -> Iterator[Listed]:
    """Every account, or those of some organisations, by user name, in one query."""
    query = _QUERY.order_by(Account.username)
    if organisations is not None:
        query = query.where(Account.organisation.in_(organisations))
    with closing(tx.execute(query.execution_options(yield_per=500))) as rows:
        for row in rows:
            yield Listed(
                id=row.id,
                username=row.username,
                display_name=row.display_name,
                disabled=row.disabled,
                enrolled=frozenset(method for method in _TOLD if getattr(row, str(method))),
            )


def password_name(account_id: int, password_hash: str | None) -> str:
    """Names a password, and changes with it; empty when there is none."""
    if password_hash is None:
        return ""
    return f"password:{account_id}:{hashlib.sha256(password_hash.encode()).hexdigest()[:16]}"


_KNOWN: Final = frozenset(map(str, Method))
_TOLD: Final = (
    *(Method.TOTP, Method.CARD, Method.KEY, Method.RECOVERY),
    *(Method.SMS, Method.WHATSAPP, Method.VOICE, Method.NUMBER_MATCH),
)
_CARD: Final = EnrolledCertificate.account_id == Account.id
_KEY: Final = SecurityKey.account_id == Account.id
_QUERY: Final = select(
    Account.id,
    Account.username,
    Account.display_name,
    Account.disabled,
    Account.created_at,
    Account.password_hash,
    Account.email,
    Account.default_method,
    exists().where(TotpSecret.account_id == Account.id).label("totp"),
    exists().where(_CARD, EnrolledCertificate.suspended_at.is_(None)).label("card"),
    exists().where(_KEY, SecurityKey.suspended_at.is_(None)).label("key"),
    or_(
        exists().where(_CARD, EnrolledCertificate.suspended_at.is_not(None)),
        exists().where(_KEY, SecurityKey.suspended_at.is_not(None)),
        exists().where(SuspendedIssuer.account_id == Account.id),
    ).label("suspended"),
    exists().where(Phone.account_id == Account.id, Phone.confirmed_at.is_not(None), Phone.text).label("sms"),
    exists().where(Phone.account_id == Account.id, Phone.confirmed_at.is_not(None), Phone.whatsapp).label("whatsapp"),
    exists().where(Phone.account_id == Account.id, Phone.confirmed_at.is_not(None), Phone.voice).label("voice"),
    exists().where(PhoneApp.account_id == Account.id, PhoneApp.confirmed_at.is_not(None)).label("number-match"),
    exists().where(RecoveryCode.account_id == Account.id, RecoveryCode.used_at.is_(None)).label("recovery"),
)


def _with_groups(gathered: Function[Any]) -> Select[Any]:
    """The account and its groups, as one statement with one row."""
    own = select(gathered).where(AccountGroup.account_id == Account.id).scalar_subquery()
    return _QUERY.add_columns(own.label("groups")).where(Account.id == bindparam("which"))


_ONE: Final = {
    "sqlite": _with_groups(func.json_group_array(AccountGroup.name, type_=JSON)),
    "postgresql": _with_groups(func.json_agg(AccountGroup.name, type_=JSON)),
}
