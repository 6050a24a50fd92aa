"""The gate before every change that people make to their own accounts. It blocks; it changes nothing itself."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy.orm import Session

from tokenbridge.errors import NoSession
from tokenbridge.server import keys
from tokenbridge.server.keys import KeyBook
from tokenbridge.server.ledger import Clock
from tokenbridge.server.step_up import StepUpRule
from tokenbridge.server.store import audit, sessions
from tokenbridge.server.store.database import Database
from tokenbridge.server.store.sessions import Live

MAX_DETAIL: Final = 300


@dataclass(frozen=True, slots=True, kw_only=True)
class Changes:
    """Opens transactions in which an account may be looked at or changed, and records what was done."""

    database: Database
    keys: KeyBook
    rule: StepUpRule
    clock: Clock

    @contextmanager
    def permitted(self, session_token: str, what: str, request: str) -> Iterator[tuple[Session, Live]]:
        """A transaction in which the session's account may be changed. Raises `NoSession`, or `StepUp` on record."""
        now, bar = self.clock(), self.rule.current()
        with self.database.write() as tx:
            live = self.live(tx, session_token)
            denied = bar.refusal(tx, live, now)
            if denied is None:
                yield tx, live
                return
            self.record(tx, "step-up-wanted", live, request, detail=f"{what}: {denied.message}"[:MAX_DETAIL])
        raise denied

    @contextmanager
    def looking(self, session_token: str) -> Iterator[tuple[Session, Live]]:
        """A transaction that changes nothing. Raises `NoSession`."""
        with self.database.read() as tx:
            yield tx, self.live(tx, session_token)

    def live(self, tx: Session, session_token: str) -> Live:
        """The session of this token. Raises `NoSession`."""
        live = sessions.find(tx, keys.hash_token(session_token), self.clock())
        if live is None:
            raise NoSession
        return live

    def record(self, tx: Session, event: str, live: Live, request: str, **detail: Any) -> None:
        """Add to the audit trail what was done in the session `live`."""
        what = audit.Event(
            event=event, account=live.account.username, sign_in=live.sign_in_ref, request=request, detail=detail
        )
        self.append(tx, what)

    def append(self, tx: Session, event: audit.Event) -> None:
        """Add to the audit trail what was done without a session."""
        audit.tell(audit.append(tx, self.clock(), event, self.keys.ring()))
