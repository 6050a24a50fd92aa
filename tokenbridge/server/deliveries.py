"""What became of messages: those that did not get there are on record, and the page that waits for the code says so.

It blocks. Whoever reports is told nothing, and reporting again does nothing.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

from sqlalchemy.orm import Session

from tokenbridge import log
from tokenbridge.rp.proof import Method
from tokenbridge.server import keys
from tokenbridge.server.changes import Changes
from tokenbridge.server.methods.message import setup_ref
from tokenbridge.server.store import accounts, audit, phones, sent_codes, sign_ins
from tokenbridge.server.store.sent_codes import Stage


@dataclass(frozen=True, slots=True, kw_only=True)
class Deliveries:
    """`on`: whether anybody reports here."""

    changes: Changes
    on: bool

    def failed(self, reference: str, why: str, request: str, *, unreachable: bool) -> None:
        """The message of this reference did not get there, and will not. `unreachable`: its number can't be reached
        that way, so that after WhatsApp text messages come first. Nothing happens for what is unknown, used or
        replaced."""
        with self.changes.database.write_shared() as tx:
            row = sent_codes.undelivered(tx, keys.hash_token(reference))
            account = accounts.by_id(tx, row.account_id) if row is not None else None
            if row is None or account is None:
                return
            if unreachable and row.method == Method.WHATSAPP and row.phone_id is not None:
                phones.not_on_whatsapp(tx, row.phone_id)
            event = audit.Event(
                event="message-undelivered",
                account=account.username,
                sign_in=row.ref if sign_ins.find(tx, row.ref) is not None else "",
                request=request,
                detail={"method": row.method, "detail": why},
            )
            entry = audit.append(tx, self.changes.clock(), event, self.changes.keys.ring())
        log.audit().info(json.dumps(entry.as_dict()))

    def undelivered(self, token: str) -> Method | None:
        """By what the newest message of a sign-in or a password reset was sent, if it did not get there."""
        if not self.on or not token:
            return None
        with self.changes.database.read() as tx:
            return _undelivered(tx, keys.hash_token(token))

    def undelivered_setup(self, session_token: str) -> Method | None:
        """As `undelivered`, of a message that confirms a number. Raises `NoSession`."""
        if not self.on:
            return None
        with self.changes.looking(session_token) as (tx, live):
            return _undelivered(tx, setup_ref(live.account.id))


def _undelivered(tx: Session, ref: str) -> Method | None:
    row = sent_codes.newest(tx, ref)
    return Method(row.method) if row is not None and row.stage == Stage.UNDELIVERED else None
