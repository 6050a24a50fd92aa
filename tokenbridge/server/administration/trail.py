"""The audit trail for administrators: searching it, and taking it out as JSON lines. It blocks."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final

from tokenbridge.server.administration.authority import Gate, Task
from tokenbridge.server.store import audit
from tokenbridge.server.store.audit import Entry, Search

SHOWN: Final = 100
MOST_EXPORTED: Final = 200_000
"""Rows of one file; more are had by days, or by `tokenbridge server audit --json`."""

_CHUNK: Final = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Export:
    """Up to which rows the trail is taken out, decided and put on record before the first is sent."""

    search: Search
    after: int
    upto: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Trail:
    """An administrator of organisations sees what concerns their accounts, and nothing else.

    Raises `NoSession`, `NotFound` and `StepUp` everywhere, as `Gate` does.
    """

    gate: Gate

    def search(self, session_token: str, search: Search) -> list[Entry]:
        """The newest 100 that fit, the newest first."""
        with self.gate.looking(session_token, Task.WATCH) as (tx, authority):
            own = replace(search, organisations=authority.reach(Task.WATCH).organisations)
            return list(reversed(audit.entries(tx, search=own, limit=SHOWN)))

    def begin_export(self, session_token: str, search: Search, request: str) -> Export:
        """Taking the trail out is a change: it needs step-up, and is on record."""
        with self.gate.changing(session_token, Task.WATCH, request) as (tx, by):
            own = replace(search, organisations=by.reach(Task.WATCH).organisations)
            upto = audit.last(tx)
            wanted = {name: str(getattr(search, name) or "") for name in ("account", "event", "text", "since", "until")}
            given = {name: value for name, value in wanted.items() if value}
            self.gate.record(tx, "audit-exported", by, None, request, search=given, upto=upto)
        return Export(search=own, after=0, upto=upto)

    def lines(self, export: Export) -> Iterator[bytes]:
        """The rows as JSON lines, the oldest first and 200,000 at most, in pieces that are read one after the other:
        no transaction is open while somebody takes them slowly."""
        after, left = export.after, MOST_EXPORTED
        while left > 0:
            with self.gate.changes.database.read() as tx:
                found = audit.first(tx, after, export.upto, search=export.search, limit=min(_CHUNK, left))
            if not found:
                return
            yield b"".join(json.dumps(entry.as_dict(), ensure_ascii=False).encode() + b"\n" for entry in found)
            after, left = found[-1].seq, left - len(found)
