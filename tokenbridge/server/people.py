"""An account as the sign-in needs it, without its secrets."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy.orm import Session

from tokenbridge.rp.proof import Method
from tokenbridge.server.store import accounts


@dataclass(frozen=True, slots=True, kw_only=True)
class Person:
    """`enrolled` are the methods beside the password."""

    id: int
    username: str
    display_name: str
    disabled: bool
    enrolled: frozenset[Method]


def person(tx: Session, account_id: int) -> Person | None:
    """The account, or None when it was removed."""
    account = accounts.by_id(tx, account_id)
    if account is None:
        return None
    return Person(
        id=account.id,
        username=account.username,
        display_name=account.display_name,
        disabled=account.disabled,
        enrolled=accounts.enrolled(tx, account.id),
    )
