"""Where somebody is signed in, and ending that. It blocks."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass

from tokenbridge.errors import NotFound
from tokenbridge.rp.assurance import AAL
from tokenbridge.server.changes import Changes
from tokenbridge.server.store import sessions


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionView:
    """One session as its owner sees it. `device` is what the browser said of itself; empty for other programs."""

    id: int
    device: str
    level: AAL
    started_at: dt.datetime
    last_used: dt.datetime
    expires_at: dt.datetime
    this: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnSessions:
    """Signing out needs no step-up: it can only take away. `NoSession` is raised everywhere."""

    changes: Changes

    def listed(self, session_token: str) -> list[SessionView]:
        """The newest first."""
        with self.changes.looking(session_token) as (tx, live):
            rows = sessions.alive(tx, live.account.id, self.changes.clock())
            return [
                SessionView(
                    id=row.id,
                    device=row.device or "",
                    level=AAL(int(row.assurance["aal"])),
                    started_at=row.started_at,
                    last_used=max(row.started_at, row.idle_expires_at - dt.timedelta(seconds=row.idle_seconds)),
                    expires_at=row.expires_at,
                    this=row.id == live.id,
                )
                for row in rows
            ]

    def end(self, session_token: str, session_id: int, request: str) -> None:
        """Raises `NotFound` for a session that is not the account's, or has ended."""
        with self.changes.database.write() as tx:
            live = self.changes.live(tx, session_token)
            if not sessions.end_one(tx, session_id, live.account.id, self.changes.clock()):
                raise NotFound("That session has ended already.", next_step="See the list of your sessions.")
            self.changes.record(tx, "signed-out-elsewhere", live, request, sessions_ended=1)

    def end_others(self, session_token: str, request: str) -> int:
        """End all but this one; returns how many there were."""
        with self.changes.database.write() as tx:
            live = self.changes.live(tx, session_token)
            ended = sessions.end_others(tx, live, self.changes.clock())
            self.changes.record(tx, "signed-out-elsewhere", live, request, sessions_ended=ended)
        return ended

    def note_device(self, session_token: str, device: str) -> None:
        """Remember what the browser said of itself when the session began."""
        with self.changes.database.write_shared() as tx:
            live = self.changes.live(tx, session_token)
            sessions.name(tx, live, device)
