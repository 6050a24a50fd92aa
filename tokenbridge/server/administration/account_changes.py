"""What administrators change about an account, one change each. It blocks; every change is on record."""

from __future__ import annotations

from dataclasses import dataclass

from tokenbridge.errors import BadRequest
from tokenbridge.server.administration import acts, people_file
from tokenbridge.server.administration.acts import NewCode
from tokenbridge.server.administration.authority import Authority, Gate, Task
from tokenbridge.server.notices import Notices
from tokenbridge.server.store import accounts, groups, sessions
from tokenbridge.server.store.accounts import NewAccount

CODE_HOURS = 24
"""How long a one-time enrolment code from these pages lives."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountChanges:
    """Raises `NoSession`, `NotFound`, `StepUp` and `NotAllowedNow` everywhere, as `Gate` and `Authority` do."""

    gate: Gate
    notices: Notices

    def set_disabled(self, session_token: str, account_id: int, request: str, *, disabled: bool) -> None:
        now = self.gate.changes.clock()
        with self.gate.changing_one(session_token, Task.MANAGE, account_id, request) as (tx, by, account):
            ended = acts.switch(tx, account, now, disabled=disabled)
            event = "user-disabled" if disabled else "user-enabled"
            self.gate.record(tx, event, by, account, request, sessions_ended=ended)

    def join(self, session_token: str, account_id: int, name: str, request: str) -> None:
        """Put the account into a group; it stays there if it is in it. Raises `BadRequest` for an unfit name too."""
        group = groups.normal(name)
        with self.gate.changing_one(session_token, Task.MANAGE, account_id, request) as (tx, by, account):
            if groups.add(tx, account.id, group):
                self.gate.record(tx, "group-joined", by, account, request, name=group)

    def leave(self, session_token: str, account_id: int, name: str, request: str) -> None:
        """Take the account out of a group; nothing happens if it is not in it."""
        group = groups.normal(name)
        with self.gate.changing_one(session_token, Task.MANAGE, account_id, request) as (tx, by, account):
            if groups.remove(tx, account.id, group):
                self.gate.record(tx, "group-left", by, account, request, name=group)

    def set_organisation(self, session_token: str, account_id: int, name: str, request: str) -> None:
        """Only administrators of the whole site may: others could pull accounts over, or push them out."""
        with self.gate.changing_one(session_token, Task.MANAGE, account_id, request) as (tx, by, account):
            _of_site(by)
            accounts.change(account, {"organisation": name})
            self.gate.record(tx, "organisation-set", by, account, request, name=account.organisation)

    def end_sessions(self, session_token: str, account_id: int, request: str) -> None:
        now = self.gate.changes.clock()
        with self.gate.changing_one(session_token, Task.MANAGE, account_id, request) as (tx, by, account):
            ended = sessions.end_all(tx, account.id, now)
            self.gate.record(tx, "sessions-revoked", by, account, request, sessions_ended=ended)

    def new_code(self, session_token: str, account_id: int, request: str) -> NewCode:
        """A one-time enrolment code, to be shown once; an older one is void."""
        now = self.gate.changes.clock()
        with self.gate.changing_one(session_token, Task.MANAGE, account_id, request) as (tx, by, account):
            made = acts.new_code(tx, account, now, CODE_HOURS)
            expires = made.expires_at.isoformat()
            self.gate.record(tx, "enrolment-code-made", by, account, request, expires_at=expires)
        self.notices.code_made(account)
        return made

    def add(self, session_token: str, new: NewAccount, request: str) -> int:
        """A new account without a password; returns its number. Raises `BadRequest` for unfit or taken names too."""
        facts = {name: getattr(new, name) or "" for name in new.__slots__ if name != "password_hash"}
        now = self.gate.changes.clock()
        with self.gate.changing(session_token, Task.MANAGE, request) as (tx, by):
            account = people_file.add_one(tx, facts, now, by.reach(Task.MANAGE).bounds)
            self.gate.record(tx, "user-added", by, account, request)
            return account.id


def _of_site(by: Authority) -> None:
    if not by.of_site:
        raise BadRequest(
            "Only an administrator of the whole site may do that.", next_step="Ask an administrator of the whole site."
        )
