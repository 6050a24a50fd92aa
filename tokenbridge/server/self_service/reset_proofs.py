"""The two proofs of a password reset: codes that are typed, messages that are sent, questions to a telephone.

It blocks; the desk leaves the event loop.
"""

from __future__ import annotations

import asyncio
import datetime as dt
from collections.abc import Mapping
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Final

from sqlalchemy.orm import Session

from tokenbridge.errors import (
    MethodNotOffered,
    Rejected,
    RejectReason,
    Retry,
    SendFailed,
    SendFault,
    TooMany,
)
from tokenbridge.rp.proof import Method
from tokenbridge.server import keys, passwords
from tokenbridge.server.approvals import Approvals, Asked, NotApproved
from tokenbridge.server.attempt_gate import AttemptGate
from tokenbridge.server.ledger import Ledger
from tokenbridge.server.login import APPROVED_ELSEWHERE
from tokenbridge.server.method_setup import wrong_code
from tokenbridge.server.methods.base import Case, Checks, FallbackMethod, Outgoing, Question, Starts
from tokenbridge.server.second_step import Begun, SecondStep
from tokenbridge.server.self_service.password_reset import (
    NOBODY,
    PasswordResets,
    Stage,
    Standing,
    Visitor,
    over,
    ref_of,
)
from tokenbridge.server.sign_in_refusals import declined
from tokenbridge.server.store import approvals, audit, password_resets, sent_codes, throttle
from tokenbridge.server.store.password_reset_schema import PasswordReset
from tokenbridge.server.whereabouts import Whereabouts

CLIENT: Final = "password reset"
"""What a telephone shows as the program that asks."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ResetProofs:
    """A step is proved once; the reset then has a new token, so what was sent for the old one is of no use."""

    resets: PasswordResets
    methods: Mapping[Method, FallbackMethod]
    questions: Approvals
    second: SecondStep
    ledger: Ledger

    def code(self, token: str, method: Method, code: str, by: Visitor) -> str:
        """Compare and spend a code; returns the reset's new token.

        Raises Rejected(CODE_WRONG), for names of nobody too, `TooMany`, or `NotAllowedNow`."""
        gate, new, username = AttemptGate(), keys.new_token(), ""
        now = self.resets.changes.clock()
        try:
            with self.resets.changes.database.write_shared() as tx:
                row = self.resets.hold(tx, token)
                who = self.resets.who(tx, row)
                username = who.username if who is not None else ""
                self._count(tx, row, gate)
                method = sent_codes.really_sent(tx, row.ref, method)
                able = method in self.resets.ways(tx, who or NOBODY, row, by.where)
                found = self.methods.get(method)
                # Names of nobody, and people without this method, cost the same look into the database.
                case = Case(tx=tx, now=now, account=(who or NOBODY).id if able else NOBODY.id, ref=row.ref)
                problem = found.check(case, code) if isinstance(found, Checks) else "not offered"
                if not problem:
                    self._prove(tx, row, method, new)
                event = "password-reset-refused" if problem else "password-reset-proved"
                self.resets.record(tx, event, username, by.request, method=str(method), detail=problem)
        except TooMany:
            gate.report(self.ledger, username, by.request)
            raise
        if problem:
            raise wrong_code()
        return new

    def send(self, token: str, method: Method, by: Visitor) -> Begun:
        """Send a message, or ask the telephone; only for the second proof. A number that WhatsApp does not know gets a
        text message, where one may be sent. Raises `MethodNotOffered`, `NotAllowedNow`, `TooMany`, `SendFailed`."""
        try:
            return self._send(token, method, by)
        except SendFailed as err:
            self._report(token, method, by, f"{err.message} ({err.reason})")
            if method is not Method.WHATSAPP or err.reason is not SendFault.RECIPIENT:
                raise
            try:
                return self._send(token, Method.SMS, by)
            except MethodNotOffered:
                raise err from None

    def asked(self, token: str) -> Asked | None:
        """The question to the telephone that is open, or was answered."""
        with self.resets.changes.database.read() as tx:
            row = self.resets.find(tx, token)
            return self.questions.asked(tx, row.ref, self.resets.changes.clock()) if row is not None else None

    def barred_until(self, token: str) -> dt.datetime | None:
        """As `Approvals.barred_until`, for whoever's reset it is."""
        now = self.resets.changes.clock()
        with self.resets.changes.database.read() as tx:
            row = self.resets.find(tx, token)
            return self.questions.barred_until(tx, row.account_id or NOBODY.id, now) if row is not None else None

    def approval(self, token: str, by: Visitor) -> str:
        """Go on with what the telephone has answered; returns the reset's new token.

        Raises `NotAnswered`, Rejected(APPROVAL_FAILED), or `NotAllowedNow`; Rejected(DECLINED) when that has ended
        it."""
        now, new = self.resets.changes.clock(), keys.new_token()
        with self.resets.changes.database.write_shared() as tx:
            asked = approvals.newest(tx, ref_of(token))
            row = self.resets.find(tx, token)
            if row is None:  # saying no has ended it, before its page has asked
                raise _declined() if asked is not None and asked.stage == approvals.Stage.DENIED else over()
            who = self.resets.who(tx, row)
            if who is None or asked is None or asked.method not in self.resets.ways(tx, who, row, by.where):
                raise over()
            refused = self.questions.use(tx, asked, now)
            if refused is None:
                self._prove(tx, row, Method(asked.method), new)
            elif refused.reason is RejectReason.DECLINED:
                password_resets.end_all(tx, who.id)
            event = "password-reset-proved" if refused is None else "password-reset-refused"
            detail = refused.detail if refused is not None else ""
            self.resets.record(tx, event, who.username, by.request, method=asked.method, detail=detail)
        if refused is not None:
            raise _not_approved(refused)
        return new

    def _count(self, tx: Session, row: PasswordReset, gate: AttemptGate) -> None:
        """The first code is typed by anybody who knows a name, so it has limits of its own; the second has those of a
        sign-in."""
        now = self.resets.changes.clock()
        if not password_resets.count_try(tx, row.ref, now):
            raise TooMany(
                "Too many attempts in this password reset.",
                seconds=None,
                next_step="Begin again from the sign-in page.",
            )
        for limit in self._limits(row):
            gate.count(tx, limit, row.counted_as, now)

    def _prove(self, tx: Session, row: PasswordReset, method: Method, new: str) -> None:
        if not password_resets.prove(tx, row, method, keys.hash_token(new)):
            raise over()
        throttle.forget(tx, self._limits(row)[1], row.counted_as)

    def _limits(self, row: PasswordReset) -> tuple[throttle.Limit, throttle.Limit]:
        if row.first:
            return throttle.CODES, throttle.CODES_IN_A_ROW
        return throttle.RESETS, throttle.RESETS_IN_A_ROW

    def _send(self, token: str, method: Method, by: Visitor) -> Begun:
        found = self.methods.get(method)
        with self.resets.changes.database.write_shared() as tx:
            row = self.resets.hold(tx, token)
            who = self.resets.who(tx, row)
            if who is None or not row.first or row.second:
                raise over()
            ways = self.resets.ways(tx, who, row, by.where)
            if method not in ways or not isinstance(found, Starts):
                raise MethodNotOffered
            case = Case(
                tx=tx,
                now=self.resets.changes.clock(),
                account=who.id,
                ref=row.ref,
                client=CLIENT,
                address=by.where.address,
                device=by.device,
                allowed=frozenset(ways),
            )
            begun = found.start(case)
            event = "approval-asked" if method in APPROVED_ELSEWHERE else "message-asked"
            self.resets.record(tx, event, who.username, by.request, method=str(method), client=CLIENT)
        return self._let_know(begun)

    def _report(self, token: str, method: Method, by: Visitor, why: str) -> None:
        """A message that did not go out: once a minute for one reset."""
        with self.resets.changes.database.read() as tx:
            row = self.resets.find(tx, token)
            who = self.resets.who(tx, row) if row is not None else None
        if row is None or who is None:
            return
        detail = {"client": CLIENT, "method": str(method), "detail": why}
        event = audit.Event(event="message-not-sent", account=who.username, request=by.request, detail=detail)
        self.ledger.report(f"message:{row.ref}", event)

    def _let_know(self, begun: Outgoing | Question) -> Begun:
        return self.second.ask(begun) if isinstance(begun, Question) else self.second.deliver(begun)


def _not_approved(why: NotApproved) -> Rejected:
    if why.reason is RejectReason.DECLINED:
        return _declined()
    usual = "The request to the telephone was not answered in time, or with wrong numbers."
    failed = Rejected(why.reason, why.message or usual)
    failed.retry, failed.hint = Retry.AGAIN, why.next_step or "Send another request, or use another method."
    return failed


def _declined() -> Rejected:
    error = declined()
    error.message = "The password reset was declined on the telephone."
    return error


class PasswordResetDesk:
    """`hashing` is the pool for argon2, `sending` that of the services that send messages."""

    def __init__(self, proofs: ResetProofs, hashing: Executor, sending: Executor) -> None:
        self._proofs = proofs
        self._resets = proofs.resets
        self._hashing = hashing
        self._sending = sending

    async def begin(self, username: str) -> str:
        return await asyncio.to_thread(self._resets.begin, username)

    async def begin_signed_in(self, session_token: str, request: str) -> str:
        return await asyncio.to_thread(self._resets.begin_signed_in, session_token, request)

    async def standing(self, token: str, where: Whereabouts) -> Standing | None:
        return await asyncio.to_thread(self._resets.standing, token, where) if token else None

    async def code(self, token: str, method: Method, code: str, by: Visitor) -> str:
        return await asyncio.to_thread(self._proofs.code, token, method, code, by)

    async def send(self, token: str, method: Method, by: Visitor) -> Begun:
        run = asyncio.get_running_loop().run_in_executor
        return await run(self._sending, self._proofs.send, token, method, by)

    async def asked(self, token: str) -> Asked | None:
        return await asyncio.to_thread(self._proofs.asked, token)

    async def barred_until(self, token: str) -> dt.datetime | None:
        return await asyncio.to_thread(self._proofs.barred_until, token)

    async def approval(self, token: str, by: Visitor) -> str:
        return await asyncio.to_thread(self._proofs.approval, token, by)

    async def finish(self, token: str, new: str, by: Visitor) -> int:
        """As `PasswordResets.finish`; hashes for nobody who has not proved both. Raises `BadRequest` too."""
        standing = await self.standing(token, by.where)
        if standing is None or standing.stage is not Stage.PASSWORD:
            raise over()
        made = await asyncio.get_running_loop().run_in_executor(self._hashing, passwords.hash_password, new)
        return await asyncio.to_thread(self._resets.finish, token, made, by.request)
