"""When a process clears away what is over: now and then, so that not every sign-in pays for it. It removes nothing."""

from __future__ import annotations

import datetime as dt
import threading
from typing import Final

EVERY: Final = dt.timedelta(seconds=10)
MOST: Final = 50
"""So many more beginnings, at most, may each process let the table grow beyond its bound."""


class Broom:
    """Safe between threads. The first to ask is told yes, then one each `EVERY`, and one of `MOST` in a flood."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._last: dt.datetime | None = None
        self._since = 0

    def is_due(self, now: dt.datetime) -> bool:
        """Whether the caller clears away. A clock that was set back makes it due as well."""
        with self._lock:
            self._since += 1
            if self._last is not None and self._since < MOST and self._last <= now < self._last + EVERY:
                return False
            self._last, self._since = now, 0
            return True
