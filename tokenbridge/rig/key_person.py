"""The person at a virtual security key: touches at once, late, on command, never, or refuses; and her fingers."""

from __future__ import annotations

import threading
from enum import StrEnum, unique
from typing import Final

from tokenbridge.authenticator.ports import SensorKind
from tokenbridge.authenticator.steps import Need, Result, Wait
from tokenbridge.rig.key_state import KeyState

DEFAULT_FINGER: Final = "right index"


@unique
class Touch(StrEnum):
    """What the person does when the key asks."""

    ALWAYS = "always"
    NEVER = "never"
    DENY = "deny"
    COMMAND = "command"
    """When `Person.touch` is called, once for each call."""
    LATE = "late"
    """After `Person.seconds`."""


class Person:
    """An `authenticator.ports.Presence`. Set `mode`, `seconds`, `finger` and `poor_samples` from any thread."""

    def __init__(self, state: KeyState, mode: Touch = Touch.ALWAYS) -> None:
        self.mode = mode
        self.seconds = 1.0
        self.finger = DEFAULT_FINGER
        """Which finger is put on the sensor."""
        self.poor_samples = 0
        """How many of the next samples are poor ones."""
        self.winks = 0
        self._state = state
        self._asked: Wait | None = None
        self._since = 0.0
        self._touches = 0
        self._denials = 0
        self._changed = threading.Condition()

    # --- for benches ----------------------------------------------------------------------------------------

    def touch(self) -> None:
        """One touch for what is asked now, or for what is asked next."""
        with self._changed:
            self._touches += 1

    def deny(self) -> None:
        """Refuse what is asked now or next, in any mode that waits."""
        with self._changed:
            self._denials += 1

    @property
    def asked(self) -> Wait | None:
        """What the key asks for now: it blinks."""
        return self._asked

    def wait_until_asked(self, timeout: float) -> Wait | None:
        """What the key asks for, as soon as it does; None after `timeout` seconds."""
        with self._changed:
            self._changed.wait_for(lambda: self._asked is not None, timeout)
            return self._asked

    def wait_until_idle(self, timeout: float) -> bool:
        """Whether the key has stopped asking before `timeout` seconds were over."""
        with self._changed:
            return self._changed.wait_for(lambda: self._asked is None, timeout)

    # --- Presence -------------------------------------------------------------------------------------------

    def begin(self, wait: Wait, now: float) -> None:
        with self._changed:
            self._asked, self._since = wait, now
            self._changed.notify_all()

    def poll(self, now: float) -> Result | None:
        with self._changed:
            asked = self._asked
            if asked is None:
                return None
            if self._denials:
                self._denials -= 1
                return Result.DENIED
            return self._outcome(asked) if self._acts(now) else self._refusal()

    def end(self) -> None:
        with self._changed:
            self._asked = None
            self._changed.notify_all()

    def wink(self) -> None:
        self.winks += 1

    def _acts(self, now: float) -> bool:
        if self._touches:
            self._touches -= 1
            return True
        return self.mode is Touch.ALWAYS or (self.mode is Touch.LATE and now - self._since >= self.seconds)

    def _refusal(self) -> Result | None:
        return Result.DENIED if self.mode is Touch.DENY else None

    def _outcome(self, asked: Wait) -> Result:
        match asked.need:
            case Need.VERIFICATION:
                return Result.GRANTED if self._knows_her() else Result.NO_MATCH
            case Need.SAMPLE if self.poor_samples:
                self.poor_samples -= 1
                return Result.POOR_SAMPLE
            case _:
                return Result.GRANTED

    def _knows_her(self) -> bool:
        return self._state.profile.verifies_itself or self.finger in self._state.fingers.values()


class Sensor:
    """An `authenticator.ports.UserVerification`: a fingerprint sensor that learns the finger of its `Person`."""

    kind = SensorKind.TOUCH
    samples = 3
    capacity = 5

    def __init__(self, state: KeyState, person: Person) -> None:
        self._state = state
        self._person = person
        self._learning: bytes | None = None

    def enrol_begin(self, template: bytes) -> None:
        self._learning = template

    def enrol_finish(self) -> None:
        if self._learning is not None:
            self._state.fingers[self._learning] = self._person.finger
        self._learning = None

    def enrol_cancel(self) -> None:
        self._learning = None

    def remove(self, template: bytes) -> None:
        self._state.fingers.pop(template, None)

    def erase(self) -> None:
        self._state.fingers.clear()
