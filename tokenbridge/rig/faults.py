"""Faults on purpose: which command of a conversation is cut off, answered with lies, or answered late. No I/O here."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from enum import StrEnum, unique

from tokenbridge.wire.apdu import parse_or_none


@unique
class Action(StrEnum):
    """What happens at the chosen command."""

    PULL_BEFORE = "pull-before"
    """The card leaves before it has seen the command."""
    PULL_UNANSWERED = "pull-unanswered"
    """The card carries the command out and leaves before its answer is out."""
    PULL_AFTER = "pull-after"
    """The card leaves right after its answer."""
    ANSWER = "answer"
    """Given bytes are answered; the card never sees the command."""
    DELAY = "delay"
    """The true answer comes late."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """`at` is the command's number since the plan was armed, from 1; with `ins` only such commands are counted."""

    action: Action
    at: int = 1
    ins: int | None = None
    answer: bytes = b""
    seconds: float = 0.0
    repeat: bool = False
    """Go on from `at` with every later command that is counted."""


class FaultPlan:
    """The faults that are armed now. One plan serves one connection; arming may come from another thread."""

    def __init__(self, *faults: Fault) -> None:
        self._lock = threading.Lock()
        self._faults: tuple[Fault, ...] = faults
        self._seen = [0] * len(faults)

    def arm(self, *faults: Fault) -> None:
        """Replace the plan; counting starts at the next command."""
        with self._lock:
            self._faults = faults
            self._seen = [0] * len(faults)

    def disarm(self) -> None:
        self.arm()

    def next(self, apdu: bytes) -> Fault | None:
        """The fault that hits this command, None for most. Each call counts."""
        command = parse_or_none(apdu)
        hit = None
        with self._lock:
            for i, fault in enumerate(self._faults):
                if fault.ins is not None and (command is None or command.ins != fault.ins):
                    continue
                self._seen[i] += 1
                due = self._seen[i] == fault.at or (fault.repeat and self._seen[i] > fault.at)
                if due and hit is None:
                    hit = fault
        return hit
