"""The policy file, as administrators of the whole site change it: checked, compared, applied, put back. It blocks."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tokenbridge.errors import NotAllowedNow, NotFound
from tokenbridge.server import policy_book
from tokenbridge.server.administration import lock_out
from tokenbridge.server.administration.authority import Gate, Task
from tokenbridge.server.administration.lock_out import Survey
from tokenbridge.server.policy_book import Edition
from tokenbridge.server.policy_effects import Effect, Situation
from tokenbridge.server.policy_place import NO_FILE, Held, PolicyPlace
from tokenbridge.server.store import policy_editions
from tokenbridge.server.store.policy_editions import Replaced


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """The file as it is now. `hindrance` says why it can't be written here; empty when it can."""

    held: Held
    hindrance: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposal:
    """A text in place of the file whose digest was `seen`; `typed` confirms a lock-out, `address` is one's own."""

    content: bytes
    seen: str
    typed: str = ""
    address: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """A policy that can be used. `words` have to be typed to apply it; `outdated`: the file is not the one seen."""

    edition: Edition
    effect: Effect
    words: str
    outdated: bool
    hindrance: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyChanges:
    """Raises `NoSession`, `NotFound` and `StepUp` everywhere, `PolicyInvalid` for a text with faults.

    The database puts those who apply in line, over all processes: of two who saw the same file one is first, and the
    other is told.
    """

    gate: Gate
    place: PolicyPlace
    current: Callable[[], Edition]
    survey: Survey

    def open(self, session_token: str) -> Opened:
        """Raises `SetupError` when the file can't be read."""
        with self.gate.looking(session_token, Task.GOVERN):
            return Opened(held=self.place.read(), hindrance=self.place.hindrance)

    def replaced(self, session_token: str) -> list[Replaced]:
        """The editions that pages have replaced, the newest first."""
        with self.gate.looking(session_token, Task.GOVERN) as (tx, _):
            return policy_editions.listed(tx)

    def edition(self, session_token: str, number: int) -> bytes:
        """An edition that was replaced, as its bytes were."""
        with self.gate.looking(session_token, Task.GOVERN) as (tx, _):
            found = policy_editions.content(tx, number)
        if found is None:
            raise NotFound("There is no such edition of the policy.", next_step="Choose one from the list.")
        return found

    def check(self, session_token: str, given: Proposal) -> Checked:
        """What `given` would mean for every account, at this hour."""
        new, changes = policy_book.edition_of(given.content), self.gate.changes
        trust, models, now = changes.rule.trust.current(), changes.rule.models.current(), changes.clock()
        before, after = (
            Situation(policy=edition.policy, trust=trust, models=models) for edition in (self.current(), new)
        )
        change = lock_out.Change(before=before, after=after, address=given.address)
        with self.gate.looking(session_token, Task.GOVERN) as (tx, by):
            effect = self.survey.effect(tx, by, change, now)
        return Checked(
            edition=new,
            effect=effect,
            words=lock_out.words(effect),
            outdated=self.place.read().digest != given.seen,
            hindrance=self.place.hindrance,
        )

    def apply(self, session_token: str, given: Proposal, request: str) -> Checked | None:
        """Write the file. Returns what was checked when the words are missing that it needs, None when it is done.

        Raises `Outdated` when the file is not the one seen, `NotAllowedNow` when it can't be written.
        """
        checked = self.check(session_token, given)
        if not lock_out.confirmed(checked.effect, given.typed):
            return checked
        if hashlib.sha256(given.content).hexdigest() == given.seen:
            raise NotAllowedNow("This is the policy that is in force already.", next_step="Change the text first.")
        written: Held | None = None
        try:
            with self.gate.changing(session_token, Task.GOVERN, request) as (tx, by):
                before = self.place.read()
                if before.digest != NO_FILE:
                    now, who = self.gate.changes.clock(), by.live.account.username
                    policy_editions.keep(tx, before.digest, before.content, now, who)
                self.gate.record(tx, "policy-applied", by, None, request, **_summary(self.current(), checked))
                # Last: after it only the commit can fail.
                written = self.place.replace(given.content, expected_digest=given.seen)
        except BaseException:
            if written is not None:
                self.place.restore(written)
            raise
        return None


def _summary(before: Edition, checked: Checked) -> dict[str, Any]:
    old, new = ([rule.name for rule in edition.policy.rules] for edition in (before, checked.edition))
    return {
        "before": before.version,
        "after": checked.edition.version,
        "rules_added": [name for name in new if name not in old],
        "rules_removed": [name for name in old if name not in new],
        "treated_differently": checked.effect.treated_differently,
        "locked_out": checked.effect.stranded_count,
        "compared": checked.effect.compared,
    }
