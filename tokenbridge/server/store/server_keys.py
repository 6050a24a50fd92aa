"""Key pairs of the server's own, encrypted. All processes use the same."""

from __future__ import annotations

from typing import Any, Final

from sqlalchemy import select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from tokenbridge.server.store.phone_app_schema import ServerKey


def _keeping(insert: Any) -> Any:
    return insert(ServerKey).on_conflict_do_nothing(index_elements=[ServerKey.name])


_KEEP: Final = {"sqlite": _keeping(sqlite.insert), "postgresql": _keeping(postgresql.insert)}


def find(tx: Session, name: str) -> bytes | None:
    return tx.scalar(select(ServerKey.value).where(ServerKey.name == name))


def keep(tx: Session, name: str, sealed: bytes) -> None:
    """Store a key, unless there is one of that name."""
    connection = tx.connection()
    connection.execute(_KEEP[connection.dialect.name], {"name": name, "value": sealed})


def everything(tx: Session) -> list[ServerKey]:
    return list(tx.scalars(select(ServerKey)))
