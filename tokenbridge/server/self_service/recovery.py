"""Making a new set of recovery codes. It blocks."""

from __future__ import annotations

from dataclasses import dataclass

from tokenbridge.server import codes
from tokenbridge.server.changes import Changes
from tokenbridge.server.store import recovery


@dataclass(frozen=True, slots=True, kw_only=True)
class RecoveryCodes:
    changes: Changes

    def make(self, session_token: str, request: str) -> tuple[str, ...]:
        """Ten new codes, to be shown once; older ones are void. Raises `NoSession` or `StepUp`."""
        made = codes.new_set()
        with self.changes.permitted(session_token, "new recovery codes", request) as (tx, live):
            account = live.account.id
            hashes = (codes.hash_code(code, account=account) for code in made)
            recovery.replace(tx, account, hashes, self.changes.clock())
            self.changes.record(tx, "recovery-codes-made", live, request)
        return made
