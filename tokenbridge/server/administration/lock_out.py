"""Whom a change would keep out, worked out before it is made, and the words that it then needs. It blocks."""

from __future__ import annotations

import datetime as dt
import threading
from dataclasses import dataclass
from typing import Final

from sqlalchemy.orm import Session

from tokenbridge.errors import TooMany
from tokenbridge.server.administration.authority import Authority
from tokenbridge.server.policy_effects import Comparison, Effect, Situation

SECONDS: Final = 20.0
"""For comparing accounts; a change of more accounts than that takes is told to be compared in part."""
AT_ONCE: Final = 2
PATIENCE: Final = 5.0
"""Seconds that somebody waits for others."""
OWN: Final = "I lock myself out"
NOBODY: Final = "Nobody can sign in"


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """A change by somebody at a network address, as two situations. `issuer`: the authority that it is about."""

    before: Situation
    after: Situation
    address: str
    issuer: str = ""


class Survey:
    """Compares accounts for a few at a time: many who ask at once must not take a server's threads. Safe between
    threads."""

    def __init__(self) -> None:
        self._room = threading.BoundedSemaphore(AT_ONCE)

    def effect(self, tx: Session, by: Authority, change: Change, now: dt.datetime) -> Effect:
        """Raises `TooMany` when others are being answered."""
        if not self._room.acquire(timeout=PATIENCE):
            raise TooMany("Accounts are being compared for somebody else.", seconds=int(SECONDS))
        try:
            comparison = Comparison(tx=tx, before=change.before, after=change.after, now=now)
            return comparison.effect(by.live.account, change.address, SECONDS, issuer=change.issuer)
        finally:
            self._room.release()


def words(effect: Effect) -> str:
    """What has to be typed to make the change in spite of this; empty: nothing."""
    if effect.nobody:
        return NOBODY
    return OWN if effect.own else ""


def confirmed(effect: Effect, typed: str) -> bool:
    """Whether `typed` are the words that this needs."""
    return typed.strip().casefold() == words(effect).casefold() or not words(effect)
