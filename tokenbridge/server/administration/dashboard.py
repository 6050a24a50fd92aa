"""What the dashboard shows, counted off the event loop and remembered for a minute. It blocks."""

from __future__ import annotations

import datetime as dt
import threading
import time
from collections import OrderedDict
from dataclasses import dataclass
from typing import Final

from tokenbridge.server import statistics
from tokenbridge.server.administration.authority import Gate, Task
from tokenbridge.server.statistics import Statistics, Stranded
from tokenbridge.server.store.database import Database

SPANS: Final = (7, 30, 90)
"""Days that can be asked for."""
KEPT: Final = 60.0
"""Seconds."""
MOST_KEPT: Final = 64
MOST_STRANDED: Final = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """`at`: when it was counted. `stranded` are the first 200 who depend on a phone, of `stranded_count`."""

    days: int
    at: dt.datetime
    statistics: Statistics
    stranded: tuple[Stranded, ...]
    stranded_count: int


class Dashboard:
    """Safe between threads. One picture is counted at a time, so that many who look cost no more than one."""

    def __init__(self, gate: Gate) -> None:
        self._gate = gate
        self._lock = threading.Lock()
        self._kept: OrderedDict[tuple[int, frozenset[str] | None], tuple[float, Picture]] = OrderedDict()

    def picture(self, session_token: str, days: int) -> Picture:
        """Of the last `days` days (UTC), and of the accounts that the session administers.

        Raises `NoSession`, `NotFound` and `StepUp`, as `Gate` does.
        """
        with self._gate.looking(session_token, Task.WATCH) as (_, authority):
            organisations = authority.reach(Task.WATCH).organisations
        key = (days, organisations)
        with self._lock:
            known = self._kept.get(key)
            if known is not None and time.monotonic() - known[0] < KEPT:
                return known[1]
            made = _counted(self._gate.changes.database, self._gate.changes.clock(), days, organisations)
            self._kept[key] = (time.monotonic(), made)
            self._kept.move_to_end(key)
            while len(self._kept) > MOST_KEPT:
                self._kept.popitem(last=False)
            return made


def _counted(database: Database, now: dt.datetime, days: int, organisations: frozenset[str] | None) -> Picture:
    with database.read() as tx:
        found = statistics.of_days(tx, now.date(), days, organisations=organisations)
        stranded = tuple(statistics.without_a_phone(tx, organisations=organisations))
    return Picture(days=days, at=now, statistics=found, stranded=stranded[:MOST_STRANDED], stranded_count=len(stranded))
