"""Attempts are counted before they are compared; what a limit holds up is put on record once a minute."""

from __future__ import annotations

import datetime as dt

from sqlalchemy.orm import Session

from tokenbridge.errors import TooMany
from tokenbridge.server.ledger import Ledger
from tokenbridge.server.store import audit, throttle
from tokenbridge.server.store.throttle import Limit


class AttemptGate:
    """Lets attempts through as far as the limits allow, and remembers which limit did not, for which name."""

    def __init__(self) -> None:
        self.closed: Limit | None = None
        self.name = ""

    def count(self, tx: Session, limit: Limit, name: str, now: dt.datetime) -> None:
        """Raises `TooMany`."""
        # Raising undoes this very count as well, which leaves the counter at its limit until its time is over.
        if not throttle.allow(tx, limit, name, now):
            self.closed, self.name = limit, name
            seconds = throttle.wait(limit, now)
            if limit is throttle.CODES_IN_A_ROW:
                raise TooMany("Too many wrong codes.", seconds=seconds, instead="Sign in with your card")
            raise TooMany(seconds=seconds)

    def report(self, ledger: Ledger, account: str, request: str, sign_in: str = "") -> None:
        """Record that the limit holds somebody up. `account` is empty for names of nobody: people type passwords into
        the wrong field."""
        if self.closed is None:
            return
        limit = self.closed
        event = audit.Event(
            event="rate-limited",
            account=account,
            sign_in=sign_in,
            request=request,
            detail={"detail": f"{limit.kind}: more than {limit.most} attempts in {limit.minutes} min"},
        )
        ledger.report(f"{limit.kind}:{self.name}", event)
