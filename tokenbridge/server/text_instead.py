"""A text message in place of a WhatsApp message that was reported lost: with a new code, once, or not at all.

That it was lost and the new code are one transaction: of two reports at once one does both, and a page that waits sees
both or nothing. The message goes out after it, by a pool, so that nobody who reports waits for a sender.
"""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import Executor
from dataclasses import dataclass, field, replace
from threading import BoundedSemaphore
from typing import Final

from sqlalchemy.orm import Session

from tokenbridge import log
from tokenbridge.errors import NotAllowedNow, Rejected, SendFailed, TokenbridgeError, TooMany
from tokenbridge.rp.proof import Method
from tokenbridge.server import login
from tokenbridge.server.changes import Changes
from tokenbridge.server.ledger import Ledger, Moment
from tokenbridge.server.methods.base import Case, FallbackMethod, Outgoing
from tokenbridge.server.methods.message import MessageMethod, setup_ref
from tokenbridge.server.second_step import SecondStep
from tokenbridge.server.self_service.password_reset import owner
from tokenbridge.server.store import accounts, approvals, audit, password_resets, phones, sent_codes, sign_ins
from tokenbridge.server.store.method_schema import SentCode

MOST_WAITING: Final = 32
"""Text messages that wait for their turn, or are being sent: beyond it the person asks for one."""

_log = log.get("server")


@dataclass(frozen=True, slots=True, kw_only=True)
class Loss:
    """What was reported. `reference` is the hash of the message's; `unreachable`: its number can't be reached so."""

    reference: str
    why: str
    request: str
    unreachable: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class TextInstead:
    """`worker` is the pool of the services that send messages."""

    changes: Changes
    ledger: Ledger
    methods: Mapping[Method, FallbackMethod]
    second: SecondStep
    worker: Executor
    waiting: BoundedSemaphore = field(default_factory=lambda: BoundedSemaphore(MOST_WAITING))

    def send(self, loss: Loss) -> str | None:
        """None when a text message goes out, which puts the loss on record too. Else nothing was done: why not, in
        words, or empty when none was meant to follow."""
        with self.changes.database.read() as tx:
            row = sent_codes.under_way(tx, loss.reference)
            in_sign_in = row is not None and sign_ins.find(tx, row.ref) is not None
        by_text = self.methods.get(Method.SMS)
        if row is None or row.instead != Method.SMS or not isinstance(by_text, MessageMethod):
            return ""
        if not self.waiting.acquire(blocking=False):
            return "Too many messages are being sent at this moment."
        asked: _Asked | None = None
        try:
            reserve = self._in_sign_in if in_sign_in else self._elsewhere
            asked = reserve(loss, row, by_text)
        except (NotAllowedNow, TooMany, Rejected) as err:
            return err.message
        finally:
            if asked is None:
                self.waiting.release()
        self.worker.submit(self._deliver, asked)
        return None

    def _in_sign_in(self, loss: Loss, row: SentCode, by_text: MessageMethod) -> _Asked:
        """Raises `NotAllowedNow` for a sign-in that has ended or gone on to something else, `Rejected` when it took too
        long, and `TooMany`."""
        made: list[_Asked] = []

        def asked(moment: Moment) -> login.Event:
            state = moment.state
            waits = isinstance(state, login.AwaitingCode) and state.started is Method.WHATSAPP
            if not waits or not isinstance(state, login.AwaitingCode) or Method.SMS not in state.methods:
                raise _gone_on()
            return login.MethodAsked(by=Method.SMS)

        def reserve(moment: Moment) -> None:
            found = self._replace(moment.tx, loss, row, by_text)
            for event in found.events:
                moment.record(replace(event, detail={**event.detail, "client": moment.pending.client}))
            made.append(found)

        self.ledger.advance_ref(row.ref, loss.request, asked, also=reserve)
        return made[0]

    def _elsewhere(self, loss: Loss, row: SentCode, by_text: MessageMethod) -> _Asked:
        """In a password reset, or for a number that is set up. Raises `NotAllowedNow`, `TooMany`."""
        with self.changes.database.write_shared() as tx:
            if row.ref != setup_ref(row.account_id):
                self._hold_reset(tx, row)
            found = self._replace(tx, loss, row, by_text)
            ring, now = self.changes.keys.ring(), self.changes.clock()
            entries = [audit.append(tx, now, event, ring) for event in found.events]
        for entry in entries:
            audit.tell(entry)
        return found

    def _hold_reset(self, tx: Session, row: SentCode) -> None:
        """Raises `NotAllowedNow` unless the reset awaits its second proof, and asked for nothing else since."""
        reset = password_resets.hold(tx, row.ref, self.changes.clock())
        who = owner(tx, reset) if reset is not None else None
        question = approvals.newest(tx, row.ref)
        if reset is None or who is None or not reset.first or reset.second or Method.SMS not in who.enrolled:
            raise _gone_on()
        if question is not None and question.created_at > row.created_at:
            raise _gone_on()

    def _replace(self, tx: Session, loss: Loss, row: SentCode, by_text: MessageMethod) -> _Asked:
        """The old code is nothing from now on, and a new one is reserved. Raises `NotAllowedNow`, `TooMany`."""
        sent_codes.hold_account(tx, row.account_id)  # before the message's row, as whoever asks for another one does
        event, account = lost(tx, loss, instead=str(Method.SMS)), accounts.by_id(tx, row.account_id)
        if event is None or account is None or account.disabled or row.phone_id is None:
            raise _gone_on()
        case = Case(tx=tx, now=self.changes.clock(), account=account.id, ref=row.ref)
        outgoing = by_text.follow(case, row.phone_id)
        detail = {"method": str(Method.SMS), "detail": "in place of the WhatsApp message"}
        return _Asked(
            outgoing=outgoing, ref=row.ref, events=(event, replace(event, event="message-asked", detail=detail))
        )

    def _deliver(self, asked: _Asked) -> None:
        try:
            self._send(asked)
        except TokenbridgeError as err:
            _log.warning("what became of a text message is not on record: %s", err.detail)
        finally:
            self.waiting.release()

    def _send(self, asked: _Asked) -> None:
        try:
            self.second.deliver(asked.outgoing)
        except SendFailed as err:
            about = asked.events[-1]
            detail = {**about.detail, "detail": f"{err.message} ({err.reason})"}
            event = replace(about, event="message-not-sent", detail=detail)
            self.ledger.report(f"message:{asked.ref}", event)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Asked:
    """A text message that is reserved, and what is on record of it: the loss first."""

    outgoing: Outgoing
    ref: str
    events: tuple[audit.Event, ...]


def lost(tx: Session, loss: Loss, **more: str) -> audit.Event | None:
    """The message's code is nothing from now on; returns what is to be put on record. None for what is unknown, used,
    replaced or reported before: only one caller gets it."""
    row = sent_codes.undelivered(tx, loss.reference)
    account = accounts.by_id(tx, row.account_id) if row is not None else None
    if row is None or account is None:
        return None
    if loss.unreachable and row.method == Method.WHATSAPP and row.phone_id is not None:
        phones.not_on_whatsapp(tx, row.phone_id)
    return audit.Event(
        event="message-undelivered",
        account=account.username,
        sign_in=row.ref if sign_ins.find(tx, row.ref) is not None else "",
        request=loss.request,
        detail={"method": row.method, "detail": loss.why, **more},
    )


def _gone_on() -> NotAllowedNow:
    return NotAllowedNow("It has ended, or gone on to something else.")
