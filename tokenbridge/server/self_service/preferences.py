"""Which fallback method somebody wants to be asked for first. It blocks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from sqlalchemy.orm import Session

from tokenbridge.errors import BadRequest
from tokenbridge.rp.proof import FALLBACK_METHODS, Method
from tokenbridge.rp.rules import FALLBACK
from tokenbridge.server.changes import Changes
from tokenbridge.server.notices import Notices
from tokenbridge.server.store import accounts

_PREFERABLE: Final = (FALLBACK_METHODS | {Method.KEY}) - {Method.RECOVERY}
"""Recovery codes are for those who have lost the rest."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """`methods` may be chosen from; `chosen` None: by the server's order, which also holds once the chosen method was
    removed."""

    methods: tuple[Method, ...]
    chosen: Method | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Preferences:
    """`offered`: what this server can ask for. The choice only orders what the policy offers (`judge`)."""

    changes: Changes
    notices: Notices
    offered: frozenset[Method]

    def look(self, session_token: str) -> Choice:
        """Raises `NoSession`."""
        with self.changes.looking(session_token) as (tx, live):
            methods = self._methods(tx, live.account.id)
            chosen = next((method for method in methods if method == live.account.default_method), None)
        return Choice(methods=methods, chosen=chosen)

    def choose(self, session_token: str, name: str, request: str) -> None:
        """`name` of a method; empty: let the server choose. Raises `NoSession`, `StepUp`, and `BadRequest` for what is
        not set up."""
        with self.changes.permitted(session_token, "choose the default method", request) as (tx, live):
            if name and name not in self._methods(tx, live.account.id):
                raise BadRequest("That is not set up for your account.", next_step="Choose one of the list.")
            if live.account.default_method == (name or None):
                return
            live.account.default_method = name or None
            self.changes.record(tx, "method-changed", live, request, method=name, detail="asked for first")
        self.notices.preferred(live.account, Method(name) if name else None)

    def _methods(self, tx: Session, account_id: int) -> tuple[Method, ...]:
        have = accounts.enrolled(tx, account_id) & self.offered & _PREFERABLE
        return tuple(method for method in FALLBACK if method in have)
