"""Accounts from a CSV file that an administrator sends: what would happen, then all of it or nothing. It blocks."""

from __future__ import annotations

import datetime as dt
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from sqlalchemy.orm import Session

from tokenbridge.errors import NotAllowedNow
from tokenbridge.server.administration import acts, people_file, people_rows, spreadsheet
from tokenbridge.server.administration.acts import NewCode
from tokenbridge.server.administration.authority import Authority, Gate, Task
from tokenbridge.server.administration.people_file import DryRun, Imported
from tokenbridge.server.store import accounts, code_sheets
from tokenbridge.server.store.code_sheets import Waiting
from tokenbridge.server.store.schema import Account

SHEET_TIME: Final = dt.timedelta(hours=1)
"""How long the codes of an import wait to be taken."""
HEAD: Final = ("username", "display_name", "email", "enrolment_code", "valid_until")


@dataclass(frozen=True, slots=True, kw_only=True)
class PeopleImport:
    """Raises `NoSession`, `NotFound`, `StepUp` and `BadRequest` everywhere; `FileFaulty` names the bad lines.

    Files of a local administrator stay within the organisation.
    """

    gate: Gate

    def check(self, session_token: str, data: bytes, request: str) -> Imported:
        """What `run` would do."""
        rows = people_rows.uploaded_rows_of(data)
        try:
            with self.gate.changing(session_token, Task.MANAGE, request) as (tx, by):
                done = people_file.take(tx, rows, self.gate.changes.clock(), by.reach(Task.MANAGE).bounds)
                raise DryRun
        except DryRun:
            return done

    def run(self, session_token: str, data: bytes, request: str, *, code_days: int = 0) -> Imported:
        """Import the file. `code_days` above 0: each new account gets an enrolment code that lives so long; they wait
        for an hour to be taken by `take_codes`."""
        rows, now = people_rows.uploaded_rows_of(data), self.gate.changes.clock()
        with self.gate.changing(session_token, Task.MANAGE, request) as (tx, by):
            done = people_file.take(tx, rows, now, by.reach(Task.MANAGE).bounds)
            known = accounts.by_names(tx, [outcome.username for outcome in done.outcomes])
            codes = self._codes(tx, by, [known[name] for name in done.added], code_days) if code_days else []
            told = {code.username: {"code_until": code.expires_at.isoformat()} for code in codes}
            events = [
                (event, known[name], told.get(name, {}))
                for event, names in (("user-added", done.added), ("user-changed", done.changed))
                for name in names
            ]
            digest = hashlib.sha256(data).hexdigest()
            counts = {"added": len(done.added), "changed": len(done.changed), "same": done.same, "joined": done.joined}
            self.gate.record_all(tx, by, [*events, ("users-imported", None, {**counts, "sha256": digest})], request)
        return done

    def waiting(self, session_token: str) -> list[Waiting]:
        """The codes of one's own imports that nobody has taken yet."""
        with self.gate.looking(session_token, Task.MANAGE) as (tx, by):
            return code_sheets.waiting(tx, by.live.account.id, self.gate.changes.clock())

    def take_codes(self, session_token: str, sheet: int, request: str) -> bytes:
        """The codes of an import as CSV, once. Raises `NotAllowedNow` the second time, and when it is too late."""
        changes = self.gate.changes
        with self.gate.changing(session_token, Task.MANAGE, request) as (tx, by):
            found = code_sheets.take(tx, by.live.account.id, sheet, changes.clock())
            if found is None:
                raise NotAllowedNow(
                    "These codes were saved already, or have waited for too long.",
                    next_step="Make a new code on the page of each account that needs one.",
                )
            codes, content = found
            self.gate.record(tx, "enrolment-codes-saved", by, None, request, codes=codes)
            return changes.keys.ring().decrypt(content, context=code_sheets.context(by.live.account.id))

    def _codes(self, tx: Session, by: Authority, new: Sequence[Account], days: int) -> list[NewCode]:
        now, who = self.gate.changes.clock(), by.live.account.id
        codes = acts.new_codes(tx, new, now, 24 * days)
        if codes:
            rows = [_line(account, code) for account, code in zip(new, codes, strict=True)]
            sealed = self.gate.changes.keys.ring().encrypt(
                spreadsheet.written(HEAD, rows), context=code_sheets.context(who)
            )
            code_sheets.add(tx, who, len(codes), sealed, (now, now + SHEET_TIME))
        return codes


def _line(account: Account, code: NewCode) -> tuple[str, ...]:
    until = code.expires_at.isoformat(timespec="minutes")
    return account.username, account.display_name, account.email or "", code.code, until
