"""Phone apps as rows, and the QR codes by which they come."""

from __future__ import annotations

from typing import Final

from sqlalchemy import select
from sqlalchemy.orm import Session

from tokenbridge.server.store.phone_app_schema import PhoneApp

MOST: Final = 5
"""Telephones that one account may have."""


def of(tx: Session, account_id: int) -> list[PhoneApp]:
    """The account's confirmed telephones, the oldest first."""
    query = select(PhoneApp).where(PhoneApp.account_id == account_id, PhoneApp.confirmed_at.is_not(None))
    return list(tx.scalars(query.order_by(PhoneApp.id)))
