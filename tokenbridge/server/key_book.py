"""The rules for models of keys that are in force, built again when metadata is loaded."""

from __future__ import annotations

import threading

from sqlalchemy.orm import Session

from tokenbridge.rp.key_models import KeyModels
from tokenbridge.server import key_rules
from tokenbridge.server.settings import Settings
from tokenbridge.server.store import metadata
from tokenbridge.server.store.database import Database


class KeyModelBook:
    """The current `KeyModels`. Asking is cheap as long as nothing has changed. Safe between threads."""

    def __init__(self, database: Database, settings: Settings) -> None:
        """Raises `SetupError` when a setting about keys can't be right."""
        self.policy = key_rules.policy_of(settings)
        self._roots = key_rules.roots_of(settings)
        self._database = database
        self._lock = threading.Lock()
        self._stamp: metadata.Stamp = None
        self._models = KeyModels(self.policy, roots=self._roots)

    def current(self) -> KeyModels:
        """Raises `SetupError` when the database does not answer."""
        with self._database.read() as tx:
            return self.within(tx)

    def within(self, tx: Session) -> KeyModels:
        """As `current`, inside a transaction, which needs no other connection for it."""
        return self.at(tx, metadata.stamp(tx))

    def at(self, tx: Session, stamp: metadata.Stamp) -> KeyModels:
        """As `within`, for a transaction that has just read the metadata's stamp."""
        with self._lock:
            if stamp != self._stamp:
                loaded = metadata.current(tx)
                known = loaded.metadata if loaded is not None else None
                self._models = KeyModels(self.policy, roots=self._roots, metadata=known)
                self._stamp = stamp
            return self._models
