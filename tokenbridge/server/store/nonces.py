"""Nonces that were used. Each is used once, whichever process sees it."""

from __future__ import annotations

import datetime as dt
from typing import Any, Final

from sqlalchemy import delete, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from tokenbridge.server.store.phone_app_schema import SpentNonce


def _spending(insert: Any) -> Any:
    # What was returned tells whether there was room: not every driver counts the rows of such a statement.
    return insert(SpentNonce).on_conflict_do_nothing(index_elements=[SpentNonce.ref]).returning(SpentNonce.ref)


_SPEND: Final = {"sqlite": _spending(sqlite.insert), "postgresql": _spending(postgresql.insert)}


def spend(tx: Session, ref: str, now: dt.datetime, expires_at: dt.datetime) -> bool:
    """Mark a nonce as used; False when it was used before. After `expires_at` its age alone refuses it."""
    connection = tx.connection()
    old = select(SpentNonce.ref).where(SpentNonce.expires_at < now).limit(1000).with_for_update(skip_locked=True)
    connection.execute(delete(SpentNonce).where(SpentNonce.ref.in_(old)))
    values = {"ref": ref, "expires_at": expires_at}
    return connection.execute(_SPEND[connection.dialect.name], values).one_or_none() is not None
