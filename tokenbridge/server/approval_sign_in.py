"""Goes on with a sign-in whose question was answered on a telephone. It blocks."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass

from tokenbridge.errors import NotAllowedNow, NotAnswered, Rejected, RejectReason
from tokenbridge.rp.proof import Method
from tokenbridge.server import login
from tokenbridge.server.approvals import Approvals, Asked, NotApproved
from tokenbridge.server.ledger import Clock, Done, Ledger, Moment
from tokenbridge.server.password_sign_in import second_step_shown
from tokenbridge.server.policy_book import PolicyBook
from tokenbridge.server.sign_in_refusals import declined
from tokenbridge.server.store import approvals, password_resets
from tokenbridge.server.store.approval_schema import Approval
from tokenbridge.server.store.database import Database
from tokenbridge.server.store.sign_ins import Pending


@dataclass(frozen=True, slots=True, kw_only=True)
class ApprovalSignIn:
    """An approval is judged as a code is. It is used once, by the sign-in that asked for it."""

    database: Database
    ledger: Ledger
    policy: PolicyBook
    questions: Approvals
    clock: Clock

    def look(self, token: str) -> Asked | None:
        """What the sign-in has asked last; None when nothing is asked, or was gone on with. Changes nothing."""
        pending = self.ledger.look(token)
        state = pending.state if pending is not None else None
        if pending is None or not (isinstance(state, login.AwaitingCode) or _was_declined(pending)):
            return None
        with self.database.read() as tx:
            asked = self.questions.asked(tx, pending.ref, self.clock())
        started = state.started if isinstance(state, login.AwaitingCode) else None
        return asked if asked is not None and started in (None, asked.method) else None

    def present(self, token: str, request: str) -> Done:
        """Judge what the telephone has said. Raises `NotAnswered` while it has said nothing, which changes nothing and
        counts as no attempt; Rejected(DECLINED), which ends the sign-in; Rejected(APPROVAL_FAILED), after which another
        question or method may be tried; `NotAllowedNow` when nothing was asked."""
        pending, asked = self.ledger.look(token), self.look(token)
        if pending is not None and _was_declined(pending):
            raise declined()
        if asked is not None and asked.waiting:
            raise NotAnswered
        return self.ledger.advance(token, request, login.ApprovalPresented(), self._answered)

    def decline(self, question: Approval, request: str) -> None:
        """End the sign-in whose question was answered with "No, it's not me", whatever it has gone on to, and all
        password resets of the account."""
        with self.database.write_shared() as tx:
            password_resets.end_all(tx, question.account_id)
        said = NotApproved(reason=RejectReason.DECLINED, detail="declined on the telephone")
        event = _refused(question, said, ends=True)
        with suppress(Rejected, NotAllowedNow):  # as every refusal is told; or it is over, and forgotten
            self.ledger.advance_ref(question.ref, request, event)

    def _answered(self, moment: Moment) -> login.Event:
        state, row = moment.state, approvals.newest(moment.tx, moment.pending.ref)
        who = moment.who(state.account) if isinstance(state, login.AwaitingCode) else None
        if not isinstance(state, login.AwaitingCode) or who is None or row is None or row.method != state.started:
            raise NotAllowedNow("There is no request to the telephone.", next_step="Send a new one.")
        refused = self.questions.use(moment.tx, row, moment.now)
        if refused is None:
            return second_step_shown(self.policy, moment, who, state.started)
        return _refused(row, refused, ends=refused.reason is RejectReason.DECLINED)


def _was_declined(pending: Pending) -> bool:
    """The denial itself has ended the sign-in, before its client has asked."""
    return isinstance(pending.state, login.Dead) and pending.state.reason == RejectReason.DECLINED


def _refused(row: Approval, why: NotApproved, *, ends: bool) -> login.Refused:
    return login.Refused(
        by=Method(row.method),
        reason=why.reason,
        message=why.message,
        next_step=why.next_step,
        detail=why.detail,
        account=row.account_id,
        ends=ends,
    )
