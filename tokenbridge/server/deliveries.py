"""What became of messages: those that did not get there are on record, and whoever waits for the code is told.

It blocks. Whoever reports is told nothing, and reporting again does nothing.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass

from sqlalchemy.orm import Session

from tokenbridge.rp.proof import Method
from tokenbridge.server import keys, login, numbers
from tokenbridge.server.changes import Changes
from tokenbridge.server.ledger import MAX_TOKEN
from tokenbridge.server.methods.message import setup_ref
from tokenbridge.server.store import audit, phones, sent_codes, sign_ins
from tokenbridge.server.store.sent_codes import Newest
from tokenbridge.server.text_instead import Loss, TextInstead, lost


@dataclass(frozen=True, slots=True, kw_only=True)
class Fate:
    """What is known of the newest message. `sent_to` is masked. `lost`: it did not get there. `replaces`: it is a text
    message in place of a WhatsApp message that did not."""

    method: Method
    sent_to: str
    expires_at: dt.datetime
    lost: bool
    replaces: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Deliveries:
    """`on`: whether anybody reports here."""

    changes: Changes
    instead: TextInstead
    on: bool

    def failed(self, reference: str, why: str, request: str, *, unreachable: bool) -> None:
        """The message of this reference did not get there, and will not. After WhatsApp a text message is sent, where
        it may be. `unreachable`: its number can't be reached that way, so that after WhatsApp text messages come first.
        Nothing happens for what is unknown, used or replaced."""
        loss = Loss(reference=keys.hash_token(reference), why=why, request=request, unreachable=unreachable)
        refused = self.instead.send(loss)
        if refused is None:
            return
        more = {"no_text_message": refused} if refused else {}
        with self.changes.database.write_shared() as tx:
            event = lost(tx, loss, **more)
            if event is None:
                return
            entry = audit.append(tx, self.changes.clock(), event, self.changes.keys.ring())
        audit.tell(entry)

    def fate(self, token: str) -> Fate | None:
        """Of the newest message of a sign-in or a password reset; None when there is none, or nobody reports."""
        if not self.on or not 0 < len(token) <= MAX_TOKEN:
            return None
        with self.changes.database.read() as tx:
            return self._fate(tx, keys.hash_token(token))

    def of_sign_in(self, token: str) -> Fate | None:
        """Of the newest message of a sign-in that awaits a code, also where nobody reports."""
        with self.changes.database.read() as tx:
            pending = sign_ins.find(tx, keys.hash_token(token)) if len(token) <= MAX_TOKEN else None
            if pending is None or not isinstance(pending.state, login.AwaitingCode):
                return None
            return self._fate(tx, pending.ref)

    def of_setup(self, session_token: str) -> Fate | None:
        """Of the newest message that confirms a number. Raises `NoSession`."""
        with self.changes.looking(session_token) as (tx, live):
            return self._fate(tx, setup_ref(live.account.id))

    def _fate(self, tx: Session, ref: str) -> Fate | None:
        found = sent_codes.standing(tx, ref)
        if found is None:
            return None
        return Fate(
            method=Method(found.row.method),
            sent_to=self._sent_to(tx, found),
            expires_at=found.row.expires_at,
            lost=found.lost,
            replaces=found.replaces,
        )

    def _sent_to(self, tx: Session, found: Newest) -> str:
        """Empty for a number that was removed since."""
        row, account = found.row, found.row.account_id
        phone = phones.get(tx, row.phone_id, account) if row.phone_id is not None else None
        if phone is None:
            return ""
        return numbers.masked(self.changes.keys.ring().decrypt(phone.number, context=numbers.context(account)).decode())
