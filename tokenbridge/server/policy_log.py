"""Tells the audit trail which policy is in force from when, and which file was refused."""

from __future__ import annotations

from concurrent.futures import Executor
from dataclasses import dataclass

from tokenbridge import log
from tokenbridge.errors import PolicyInvalid, SetupError
from tokenbridge.server.keys import KeyBook
from tokenbridge.server.ledger import Clock
from tokenbridge.server.policy_book import Edition
from tokenbridge.server.store import audit
from tokenbridge.server.store.database import Database

_log = log.get("server.policy")


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyLog:
    """One entry for each change of the file that a server process notices.

    It is written by `worker`, a pool of one thread: a change may be noticed in the middle of a transaction, which
    another one would wait for.
    """

    database: Database
    keys: KeyBook
    clock: Clock
    worker: Executor

    def changed(self, edition: Edition, fault: PolicyInvalid | None) -> None:
        """As `policy_book.Changed`."""
        detail = {"policy": edition.version, "detail": "" if fault is None else fault.message}
        event = audit.Event(event="policy-changed" if fault is None else "policy-refused", detail=detail)
        self.worker.submit(self._record, event)

    def _record(self, event: audit.Event) -> None:
        """A policy that can't be recorded is in force nevertheless, and the log says so."""
        try:
            with self.database.write_shared() as tx:
                entry = audit.append(tx, self.clock(), event, self.keys.ring())
        except SetupError:
            _log.exception("the change of the policy could not be recorded")
            return
        audit.tell(entry)
