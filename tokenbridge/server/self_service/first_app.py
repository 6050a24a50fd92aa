"""An authenticator app for somebody who has nothing yet but a one-time enrolment code. It blocks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy.orm import Session

from tokenbridge.errors import NotAllowedNow, RejectReason
from tokenbridge.rp.proof import Method
from tokenbridge.rp.refusals import refusal
from tokenbridge.server import codes, keys
from tokenbridge.server.enrolment_gate import EnrolmentGate
from tokenbridge.server.method_setup import wrong_code
from tokenbridge.server.methods.base import Case
from tokenbridge.server.methods.recovery import first_set
from tokenbridge.server.methods.totp import TotpMethod
from tokenbridge.server.notices import Notices
from tokenbridge.server.store import audit, enrolment, sessions
from tokenbridge.server.store.schema import Account


@dataclass(frozen=True, slots=True, kw_only=True)
class FirstApp:
    """Everything raises Rejected(ENROLMENT_CODE_WRONG), for unknown names as well, or `TooMany`."""

    gate: EnrolmentGate
    app: TotpMethod
    notices: Notices

    def check(self, username: str, code: str, request: str) -> None:
        """Whether the enrolment code is good; it is not used up."""
        with self.gate.by_code(username, code, keys.new_token(), request):
            pass

    def begin(self, username: str, code: str, request: str) -> Mapping[str, Any]:
        """A secret to be scanned, as `TotpMethod.enrol` shows it: what this code has begun with, or a new one."""
        with self.gate.by_code(username, code, keys.new_token(), request) as (tx, account):
            case = self._case(tx, account, code)
            try:
                return self.app.pending(case).shown
            except NotAllowedNow:
                return self.app.enrol(case, "").shown

    def pending(self, username: str, code: str, request: str) -> Mapping[str, Any]:
        """What `begin` showed, after a mistyped code. Raises `NotAllowedNow` too."""
        with self.gate.by_code(username, code, keys.new_token(), request) as (tx, account):
            return self.app.pending(self._case(tx, account, code)).shown

    def complete(self, username: str, code: str, app_code: str, request: str) -> tuple[str, ...]:
        """Confirm the app, which uses the enrolment code up and ends the account's sessions.

        Returns new recovery codes where the account had none. Raises Rejected(CODE_WRONG) or `NotAllowedNow` too.
        """
        token = keys.new_token()
        with self.gate.by_code(username, code, token, request) as (tx, account):
            case = self._case(tx, account, code)
            problem = self.app.confirm(case, app_code)
            made = () if problem else first_set(tx, account.id, case.now)
            if not problem:
                if not enrolment.consume(tx, account.id, keys.hash_token(token), case.now):
                    raise refusal(RejectReason.ENROLMENT_CODE_WRONG, "void, used, or begun again elsewhere")
                sessions.end_all(tx, account.id, case.now)
            self._record(tx, account, problem, request)
        if problem:
            raise wrong_code()
        self.notices.added(account, Method.TOTP)
        return made

    def _case(self, tx: Session, account: Account, code: str) -> Case:
        ref = keys.hash_token(f"enrolment:{codes.hash_code(code, account=account.id)}")
        return Case(tx=tx, now=self.gate.changes.clock(), account=account.id, ref=ref)

    def _record(self, tx: Session, account: Account, problem: str, request: str) -> None:
        detail = {"method": str(Method.TOTP), "by": "enrolment code", **({"detail": problem} if problem else {})}
        name = "method-refused" if problem else "method-added"
        event = audit.Event(event=name, account=account.username, request=request, detail=detail)
        self.gate.changes.append(tx, event)
