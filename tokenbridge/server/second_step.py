"""Sends or asks what a fallback method starts: reserved in one commit, sent outside of it, marked in another.

It blocks.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass

from tokenbridge.errors import NotAllowedNow, SendFailed, SendFault, TooMany
from tokenbridge.rp.proof import Method
from tokenbridge.server import login
from tokenbridge.server.ledger import Ledger, Moment
from tokenbridge.server.methods.base import Case, FallbackMethod, Outgoing, Question, Starts
from tokenbridge.server.people import person
from tokenbridge.server.senders.port import Senders
from tokenbridge.server.store import approvals, audit, phones, sent_codes
from tokenbridge.server.store.database import Database
from tokenbridge.server.store.sent_codes import Stage


@dataclass(frozen=True, slots=True, kw_only=True)
class Begun:
    """What the person is told. `sent_to` is masked. `typed`: a code is to be typed here; otherwise the telephone is
    answered, by `number` if there is one."""

    method: Method
    sent_to: str
    resend_at: dt.datetime
    expires_at: dt.datetime
    typed: bool = True
    number: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class SecondStep:
    database: Database
    ledger: Ledger
    methods: Mapping[Method, FallbackMethod]
    senders: Senders

    def start(self, token: str, method: Method, request: str, device: str = "") -> Begun:
        """Start `method` in the sign-in; `device` is what people may be told of who asks.

        A number that WhatsApp does not know gets a text message, where that is among the methods offered. Raises
        `Rejected`, `NotAllowedNow`, `TooMany`, `SendFailed`.
        """
        try:
            return self._start(token, method, request, device)
        except TooMany as err:
            self._report(token, method, request, err.message)
            raise
        except SendFailed as err:
            self._report(token, method, request, f"{err.message} ({err.reason})")
            by_text = method is Method.WHATSAPP and err.reason is SendFault.RECIPIENT
            if not by_text or not self._is_offered(token, Method.SMS):
                raise
            return self._start(token, Method.SMS, request, device)

    def ask(self, question: Question) -> Begun:
        """Let the telephone know of a question that was committed. Raises `SendFailed`."""
        try:
            question.tell()
        except SendFailed:
            with self.database.write() as tx:
                approvals.mark(tx, question.approval_id, approvals.Stage.ASKED, approvals.Stage.VOID)
            raise
        return Begun(
            method=question.method,
            sent_to=question.sent_to,
            resend_at=question.resend_at,
            expires_at=question.expires_at,
            typed=False,
            number=question.number,
        )

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

    def _start(self, token: str, method: Method, request: str, device: str) -> Begun:
        reserved: list[Outgoing | Question] = []
        found = self.methods.get(method)

        def reserve(moment: Moment) -> None:
            if not isinstance(moment.state, login.AwaitingCode) or not isinstance(found, Starts):
                raise NotAllowedNow("This server does not send that.", next_step="Use another method.")
            case = Case(
                tx=moment.tx,
                now=moment.now,
                account=moment.state.account,
                ref=moment.pending.ref,
                client=moment.pending.client,
                address=moment.pending.where.address,
                device=device,
                allowed=frozenset(moment.state.methods),
            )
            reserved.append(found.start(case))
            moment.record(_asked(moment, case.account, method))

        self.ledger.advance(token, request, login.MethodAsked(by=method), also=reserve)
        begun = reserved[0]
        return self.ask(begun) if isinstance(begun, Question) else self.deliver(begun)


def _asked(moment: Moment, account: int, method: Method) -> audit.Event:
    who = moment.who(account)
    return audit.Event(
        event="approval-asked" if method in login.APPROVED_ELSEWHERE else "message-asked",
        account=who.username if who is not None else "",
        sign_in=moment.pending.ref,
        request=moment.request,
        detail={"client": moment.pending.client, "method": str(method)},
    )
