"""What a key that was pressed in a call means: # confirms the sign-in that has made it, * declines it; and what became
of a call that nobody has taken. It blocks."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum, unique
from typing import Final

from sqlalchemy.orm import Session

from tokenbridge.rp.proof import Method
from tokenbridge.server.approval_sign_in import ApprovalSignIn
from tokenbridge.server.notices import Notices
from tokenbridge.server.store import accounts, approvals, audit
from tokenbridge.server.store.approval_schema import Approval
from tokenbridge.server.store.approvals import Stage
from tokenbridge.server.store.schema import Account

CONFIRM: Final = "#"
DECLINE: Final = "*"
_SAID: Final = {CONFIRM: Stage.APPROVED, DECLINE: Stage.DENIED}
_EVENTS: Final = {CONFIRM: "approval-given", DECLINE: "approval-denied"}


@unique
class Heard(StrEnum):
    """What the person is told in the call."""

    CONFIRMED = "Thank you. Go on in your browser."
    DECLINED = "It was stopped. Change your password, and tell your IT service desk."
    NOTHING = "That was neither hash nor star, so nothing was done."
    OVER = "That is over already."


@dataclass(frozen=True, slots=True, kw_only=True)
class VoiceCalls:
    """A call is known by its handle: a random word that only the service that makes the call has got."""

    sign_ins: ApprovalSignIn
    notices: Notices

    def not_taken(self, handle: str, what: Stage, request: str) -> None:
        """Nobody has taken this call: `what` is one of `approvals.NOT_TAKEN`. Whoever waits for its answer is told.
        Nothing happens for calls that are unknown, answered or over."""
        now = self.sign_ins.clock()
        with self.sign_ins.database.write_shared() as tx:
            row = approvals.of_call(tx, handle)
            account = accounts.by_id(tx, row.account_id) if row is not None else None
            if row is None or account is None or not approvals.answer(tx, row.id, what, now):
                return
            entry = self._record(tx, "call-not-taken", account, row, request, detail=str(what))
        audit.tell(entry)

    def pressed(self, handle: str, key: str, request: str) -> Heard:
        """Take the answer of a call, once, while its question is open."""
        said = _SAID.get(key)
        if said is None:
            return Heard.NOTHING
        now = self.sign_ins.clock()
        with self.sign_ins.database.write_shared() as tx:
            row = approvals.of_call(tx, handle)
            account = accounts.by_id(tx, row.account_id) if row is not None else None
            if row is None or account is None or not approvals.answer(tx, row.id, said, now):
                return Heard.OVER
            entry = self._record(tx, _EVENTS[key], account, row, request)
        audit.tell(entry)
        if said is Stage.APPROVED:
            return Heard.CONFIRMED
        self.sign_ins.decline(row, request)
        self.notices.declined(account, row.address)
        return Heard.DECLINED

    def _record(
        self, tx: Session, event: str, account: Account, row: Approval, request: str, **more: str
    ) -> audit.Entry:
        detail = {"method": str(Method.VOICE), "client": row.client, "address": row.address, **more}
        what = audit.Event(event=event, account=account.username, sign_in=row.ref, request=request, detail=detail)
        return audit.append(tx, self.sign_ins.clock(), what, self.sign_ins.questions.keys.ring())
