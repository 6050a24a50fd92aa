"""The audit trail as it grows. It only reads, and never ends by itself."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Final

from tokenbridge.server.store import audit
from tokenbridge.server.store.audit import Entry, Search
from tokenbridge.server.store.database import Database

# SQLite tells no other process of a change, so somebody who watches has to look again.
LOOK_EVERY_SECONDS: Final = 0.5
AT_ONCE: Final = 1000


def following(
    database: Database, *, after: int, search: Search, stop: threading.Event | None = None
) -> Iterator[list[Entry]]:
    """New rows after number `after` that `search` is about, until `stop` is set. Raises `SetupError`."""
    stop = stop or threading.Event()
    while not stop.wait(LOOK_EVERY_SECONDS):
        with database.read() as tx:
            upto = min(audit.last(tx), after + AT_ONCE)
            found = audit.between(tx, after, upto, search=search) if upto > after else []
        after = upto
        if found:
            yield found
