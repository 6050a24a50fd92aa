"""The development outbox: messages stay in the database, and whoever is at this machine can read them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import delete, func, select

from tokenbridge.server.keys import KeyBook
from tokenbridge.server.ledger import Clock
from tokenbridge.server.senders.port import Message
from tokenbridge.server.store.database import Database
from tokenbridge.server.store.method_schema import OutboxMessage

KEEP: Final = 200
_CONTEXT: Final = "outbox"


@dataclass(frozen=True, slots=True, kw_only=True)
class Outbox:
    database: Database
    keys: KeyBook
    clock: Clock

    def send(self, message: Message) -> None:
        content = {"channel": str(message.channel), "to": message.to, "text": message.text, "subject": message.subject}
        self.keep({**content, "answer": message.answer} if message.answer else content)

    def keep(self, content: Mapping[str, str]) -> None:
        sealed = self.keys.ring().encrypt(json.dumps(dict(content)).encode(), context=_CONTEXT)
        with self.database.write() as tx:
            tx.add(OutboxMessage(at=self.clock(), content=sealed))
            tx.flush()
            newest = select(func.max(OutboxMessage.id)).scalar_subquery()
            tx.execute(delete(OutboxMessage).where(OutboxMessage.id <= newest - KEEP))

    def listed(self) -> list[dict[str, Any]]:
        """The newest first."""
        with self.database.read() as tx:
            rows = list(tx.scalars(select(OutboxMessage).order_by(OutboxMessage.id.desc())))
        ring = self.keys.ring()
        return [
            {"id": row.id, "at": row.at.isoformat(), **json.loads(ring.decrypt(row.content, context=_CONTEXT))}
            for row in rows
        ]
