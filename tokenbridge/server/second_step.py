"""Sends what a fallback method starts: reserved in one commit, sent outside of it, marked in another. It blocks."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass

from tokenbridge.errors import NotAllowedNow, SendFailed, SendFault, TooMany
from tokenbridge.rp.proof import Method
from tokenbridge.server import login
from tokenbridge.server.ledger import Ledger, Moment
from tokenbridge.server.methods.base import Case, FallbackMethod, Outgoing
from tokenbridge.server.people import person
from tokenbridge.server.senders.port import Senders
from tokenbridge.server.store import audit, phones, sent_codes
from tokenbridge.server.store.database import Database
from tokenbridge.server.store.sent_codes import Stage


@dataclass(frozen=True, slots=True, kw_only=True)
class Begun:
    """What the person is told. `sent_to` is masked."""

    method: Method
    sent_to: str
    resend_at: dt.datetime
    expires_at: dt.datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class SecondStep:
    database: Database
    ledger: Ledger
    methods: Mapping[Method, FallbackMethod]
    senders: Senders

    def start(self, token: str, method: Method, request: str) -> Begun:
        """Start `method` in the sign-in. A number that WhatsApp does not know gets a text message, where that is
        among the methods offered. Raises `Rejected`, `NotAllowedNow`, `TooMany`, `SendFailed`."""
        try:
            return self._start(token, method, request)
        except TooMany as err:
            self._report(token, method, request, err.message)
            raise
        except SendFailed as err:
            self._report(token, method, request, f"{err.message} ({err.reason})")
            by_text = method is Method.WHATSAPP and err.reason is SendFault.RECIPIENT
            if not by_text or not self._is_offered(token, Method.SMS):
                raise
            return self._start(token, Method.SMS, request)

    def deliver(self, outgoing: Outgoing) -> Begun:
        """Send what was reserved and committed. Only then does its code count. Raises `SendFailed`."""
        try:
            self.senders.send(outgoing.message)
        except SendFailed as err:
            with self.database.write() as tx:
                sent_codes.mark(tx, outgoing.code_id, Stage.RESERVED, Stage.FAILED)
                if outgoing.method is Method.WHATSAPP and err.reason is SendFault.RECIPIENT:
                    phones.not_on_whatsapp(tx, outgoing.phone_id)
            raise
        with self.database.write() as tx:
            sent_codes.mark(tx, outgoing.code_id, Stage.RESERVED, Stage.SENT)
        return Begun(
            method=outgoing.method,
            sent_to=outgoing.sent_to,
            resend_at=outgoing.resend_at,
            expires_at=outgoing.expires_at,
        )

    def _is_offered(self, token: str, method: Method) -> bool:
        pending = self.ledger.look(token)
        state = pending.state if pending is not None else None
        return isinstance(state, login.AwaitingCode) and method in state.methods

    def _report(self, token: str, method: Method, request: str, why: str) -> None:
        """Messages that did not go out: once a minute for one sign-in."""
        pending = self.ledger.look(token)
        if pending is None or not isinstance(pending.state, login.AwaitingCode):
            return
        with self.database.read() as tx:
            who = person(tx, pending.state.account)
        event = audit.Event(
            event="message-not-sent",
            account=who.username if who is not None else "",
            sign_in=pending.ref,
            request=request,
            detail={"client": pending.client, "method": str(method), "detail": why},
        )
        self.ledger.report(f"message:{pending.ref}", event)

    def _start(self, token: str, method: Method, request: str) -> Begun:
        reserved: list[Outgoing] = []

        def reserve(moment: Moment) -> None:
            if not isinstance(moment.state, login.AwaitingCode) or method not in self.methods:
                raise NotAllowedNow("This server does not send that.", next_step="Use another method.")
            case = Case(tx=moment.tx, now=moment.now, account=moment.state.account, ref=moment.pending.ref)
            reserved.append(self.methods[method].start(case))
            moment.record(_sent(moment, case.account, method))

        self.ledger.advance(token, request, login.MethodAsked(by=method), also=reserve)
        return self.deliver(reserved[0])


def _sent(moment: Moment, account: int, method: Method) -> audit.Event:
    who = person(moment.tx, account)
    return audit.Event(
        event="message-asked",
        account=who.username if who is not None else "",
        sign_in=moment.pending.ref,
        request=moment.request,
        detail={"client": moment.pending.client, "method": str(method)},
    )
