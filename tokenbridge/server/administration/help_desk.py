"""The help desk's reset: what was lost is taken away, sessions end, and a one-time code begins anew. It blocks."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from tokenbridge.server.administration import acts
from tokenbridge.server.administration.account_changes import CODE_HOURS
from tokenbridge.server.administration.acts import Held, NewCode
from tokenbridge.server.administration.authority import Gate, Task
from tokenbridge.server.store import sessions


@dataclass(frozen=True, slots=True, kw_only=True)
class HelpDesk:
    gate: Gate

    def reset(self, session_token: str, account_id: int, kinds: Collection[Held], request: str) -> NewCode:
        """Take away everything of `kinds`, end all sessions and make an enrolment code, to be shown once.

        The helper has shown a second factor in this session, and lately. Whoever is helped and the helper are on
        record. Raises `NoSession`, `NotFound`, `StepUp`, `NotAllowedNow`, and `BadRequest` for a disabled account.
        """
        now = self.gate.changes.clock()
        with self.gate.changing(session_token, Task.RESET, request) as (tx, by):
            account = by.changeable(tx, Task.RESET, account_id)
            removed = {str(kind): acts.remove(tx, account, kind, now) for kind in Held if kind in kinds}
            ended = sessions.end_all(tx, account.id, now)
            made = acts.new_code(tx, account, now, CODE_HOURS)
            expires = made.expires_at.isoformat()
            self.gate.record(
                tx, "account-reset", by, account, request, removed=removed, sessions_ended=ended, expires_at=expires
            )
        return made
