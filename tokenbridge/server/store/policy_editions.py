"""Policy files that were replaced, the newest of them, so that one can be put back."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import Final

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from tokenbridge.server.store.admin_schema import PolicyEdition

KEPT: Final = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class Replaced:
    """When an edition went out of force, and by whose hand."""

    id: int
    digest: str
    replaced_at: dt.datetime
    replaced_by: str

    @property
    def version(self) -> str:
        """As `Edition.version`."""
        return self.digest[:12]


def keep(tx: Session, digest: str, content: bytes, now: dt.datetime, by: str) -> None:
    """Store an edition, and forget those that are older than the newest 50."""
    tx.add(PolicyEdition(digest=digest, content=content, replaced_at=now, replaced_by=by))
    tx.flush()
    kept = select(PolicyEdition.id).order_by(PolicyEdition.id.desc()).limit(KEPT)
    tx.execute(delete(PolicyEdition).where(PolicyEdition.id.not_in(kept)))


def listed(tx: Session) -> list[Replaced]:
    """The newest first."""
    columns = (PolicyEdition.id, PolicyEdition.digest, PolicyEdition.replaced_at, PolicyEdition.replaced_by)
    return [Replaced(**row._mapping) for row in tx.execute(select(*columns).order_by(PolicyEdition.id.desc()))]


def content(tx: Session, number: int) -> bytes | None:
    return tx.scalar(select(PolicyEdition.content).where(PolicyEdition.id == number))
