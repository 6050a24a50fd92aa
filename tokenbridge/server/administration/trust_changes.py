"""Trust anchors, as administrators of the whole site change them. It blocks; each change is on record."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy.orm import Session

from tokenbridge.errors import BadRequest, Outdated, Rejected, SetupError
from tokenbridge.server import trust
from tokenbridge.server.administration import authorities, lock_out, trust_words
from tokenbridge.server.administration.authority import Gate, Task
from tokenbridge.server.administration.lock_out import Survey
from tokenbridge.server.administration.trust_words import AnchorView
from tokenbridge.server.policy_book import Edition
from tokenbridge.server.policy_effects import Effect, Situation
from tokenbridge.server.store import anchors
from tokenbridge.server.store.anchors import Anchor


@dataclass(frozen=True, slots=True, kw_only=True)
class Changing:
    """What a change is to come from, and from where: `digest` is that of the anchor as its page was shown, `typed` what
    confirms a lock-out, `address` the administrator's own."""

    digest: str
    typed: str = ""
    address: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A change that waits for a yes. `after` None: the anchor would be removed. `words` have to be typed."""

    before: AnchorView
    after: AnchorView | None
    effect: Effect
    words: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TrustChanges:
    """Raises `NoSession`, `NotFound`, `StepUp` everywhere, `BadRequest` for what can't be trusted."""

    gate: Gate
    policy: Callable[[], Edition]
    survey: Survey

    def one(self, session_token: str, number: int) -> Anchor:
        with self.gate.looking(session_token, Task.GOVERN) as (tx, _):
            return anchors.get(tx, number)

    def look_at(self, session_token: str, anchor: Anchor) -> AnchorView:
        """A new anchor in words, after every check that `add` makes."""
        with self.gate.looking(session_token, Task.GOVERN) as (tx, _), _told():
            authorities.check(anchor, self.gate.changes.clock())
            _check_name(tx, anchor)
            trust.build([*anchors.listed(tx), anchor])
            return trust_words.view(anchor)

    def add(self, session_token: str, anchor: Anchor, request: str) -> None:
        now = self.gate.changes.clock()
        with self.gate.changing(session_token, Task.GOVERN, request) as (tx, by), _told():
            authorities.check(anchor, now)
            self.gate.record(tx, "trust-added", by, None, request, **authorities.add(tx, anchor, now))

    def ask_change(self, session_token: str, number: int, rule: dict[str, Any], given: Changing) -> Asked:
        """What another rule would mean. Raises `Outdated` too."""
        with self.gate.looking(session_token, Task.GOVERN) as (tx, _):
            before = _same(tx, number, given)
        after = replace(before, **rule)
        with _told():
            authorities.check(after, self.gate.changes.clock())
        return self._asked(session_token, number, before, after, given)

    def change(
        self, session_token: str, number: int, rule: dict[str, Any], given: Changing, request: str
    ) -> Asked | None:
        """Give an anchor another rule. Returns what was asked when the words are missing that it needs, None when it is
        done."""
        asked = self.ask_change(session_token, number, rule, given)
        if not lock_out.confirmed(asked.effect, given.typed):
            return asked
        now = self.gate.changes.clock()
        with self.gate.changing(session_token, Task.GOVERN, request) as (tx, by):
            wanted = replace(_same(tx, number, given), **rule)
            told = authorities.change(tx, number, wanted, now)
            self.gate.record(tx, "trust-changed", by, None, request, **told, **_harm(asked))
        return None

    def ask_removal(self, session_token: str, number: int, given: Changing) -> Asked:
        with self.gate.looking(session_token, Task.GOVERN) as (tx, _):
            before = _same(tx, number, given) if given.digest else anchors.get(tx, number)
        return self._asked(session_token, number, before, None, given)

    def remove(self, session_token: str, number: int, given: Changing, request: str) -> Asked | None:
        """As `change`."""
        asked = self.ask_removal(session_token, number, given)
        if not lock_out.confirmed(asked.effect, given.typed):
            return asked
        with self.gate.changing(session_token, Task.GOVERN, request) as (tx, by):
            told = authorities.remove(tx, _same(tx, number, given).name)
            self.gate.record(tx, "trust-removed", by, None, request, **told, **_harm(asked))
        return None

    def _asked(self, session_token: str, number: int, before: Anchor, after: Anchor | None, given: Changing) -> Asked:
        changes = self.gate.changes
        now, policy, models = changes.clock(), self.policy().policy, changes.rule.models.current()
        trusted = changes.rule.trust.current()
        others = [anchor for anchor in trusted.anchors.values() if anchor.name != before.name]
        with _told():
            changed = trust.build(others if after is None else [*others, after])
        then, now_trusted = (Situation(policy=policy, trust=one, models=models) for one in (changed, trusted))
        change = lock_out.Change(before=now_trusted, after=then, address=given.address, issuer=before.name)
        with self.gate.looking(session_token, Task.GOVERN) as (tx, by):
            effect = self.survey.effect(tx, by, change, now)
        return Asked(
            before=trust_words.view(before, number),
            after=None if after is None else trust_words.view(after, number),
            effect=effect,
            words=lock_out.words(effect),
        )


def _same(tx: Session, number: int, given: Changing) -> Anchor:
    found = anchors.get(tx, number)
    if found.digest != given.digest:
        raise Outdated("Somebody has changed this authority since you opened it, so nothing was done.")
    return found


def _check_name(tx: Session, anchor: Anchor) -> None:
    if any(anchor.name == other.name for other in anchors.listed(tx)):
        raise BadRequest(f"There is a trust anchor {anchor.name!r} already.", next_step="Choose another name.")


def _harm(asked: Asked) -> dict[str, Any]:
    return {"locked_out": asked.effect.stranded_count, "cards_of": asked.effect.believed}


@contextmanager
def _told() -> Iterator[None]:
    """What is wrong with a file that somebody sent is that person's to know, and not a fault of the set-up."""
    try:
        yield
    except (SetupError, Rejected) as err:
        raise BadRequest(err.message, next_step="Choose a CA certificate.", detail=err.detail) from err
