"""Who may set something up by a one-time enrolment code: counted, compared, reserved. It blocks, and enrols nothing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from sqlalchemy.orm import Session

from tokenbridge.errors import RejectReason, TooMany
from tokenbridge.rp.refusals import refusal
from tokenbridge.server import codes, keys
from tokenbridge.server.changes import Changes
from tokenbridge.server.ledger import Ledger
from tokenbridge.server.store import accounts, audit, enrolment, throttle
from tokenbridge.server.store.schema import Account


@dataclass(frozen=True, slots=True, kw_only=True)
class EnrolmentGate:
    """Unknown names, disabled accounts and wrong codes look and cost the same."""

    changes: Changes
    ledger: Ledger

    @contextmanager
    def by_code(self, username: str, code: str, token: str, request: str) -> Iterator[tuple[Session, Account]]:
        """A transaction for the code's account; the code is bound to `token` from now on, which alone may use it up.

        Raises Rejected(ENROLMENT_CODE_WRONG), for unknown names as well, or `TooMany`.
        """
        now, name = self.changes.clock(), accounts.normal(username)
        with self.changes.database.write_shared() as tx:
            allowed = throttle.allow(tx, throttle.ENROLMENTS, name, now)
            account = accounts.find(tx, username)
            number = account.id if account is not None else 0
            wanted = codes.hash_code(code, account=number)
            good = allowed and enrolment.reserve(tx, number, wanted, keys.hash_token(token), now)
            if good and account is not None and not account.disabled:
                yield tx, account
                return
            if allowed:
                self._record_refusal(tx, account, request)
        if allowed:
            raise refusal(RejectReason.ENROLMENT_CODE_WRONG)
        self._report_limit(account, request)
        raise TooMany(seconds=throttle.wait(throttle.ENROLMENTS, now))

    def _record_refusal(self, tx: Session, account: Account | None, request: str) -> None:
        known = account.username if account is not None else ""
        detail = {"detail": "wrong, used or too old"}
        event = audit.Event(event="enrolment-code-refused", account=known, request=request, detail=detail)
        audit.tell(audit.append_of_somebody(tx, self.changes.clock(), event, self.changes.keys.ring()))

    def _report_limit(self, account: Account | None, request: str) -> None:
        limit = throttle.ENROLMENTS
        # A name of nobody is not written down: people type codes into the wrong field.
        known = account.username if account is not None else ""
        detail = {"detail": f"{limit.kind}: more than {limit.most} attempts in {limit.minutes} min"}
        event = audit.Event(event="rate-limited", account=known, request=request, detail=detail)
        self.ledger.report(f"{limit.kind}:{known}", event)
