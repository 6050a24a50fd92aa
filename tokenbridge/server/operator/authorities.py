"""Trust anchors, as an operator adds, changes and removes them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from tokenbridge.errors import NotAllowedNow, Outdated
from tokenbridge.server import policy_book, trust
from tokenbridge.server.administration import authorities
from tokenbridge.server.key_book import KeyModelBook
from tokenbridge.server.operator.office import Office
from tokenbridge.server.policy_effects import Comparison, Effect, Situation
from tokenbridge.server.store import anchors
from tokenbridge.server.store.anchors import Anchor
from tokenbridge.server.trust import TrustBook

COMPARE_SECONDS: Final = 60.0
NAMED: Final = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """Another rule for an anchor that is there, and what it would mean for accounts."""

    number: int
    before: Anchor
    after: Anchor
    effect: Effect


def add(office: Office, anchor: Anchor) -> None:
    """Raises as `authorities.check` does, and `BadRequest` when the name is taken."""
    authorities.check(anchor, office.now())
    with office.database.write() as tx:
        office.record(tx, "trust-added", **authorities.add(tx, anchor, office.now()))


def listed(office: Office) -> list[Anchor]:
    with office.database.read() as tx:
        return anchors.listed(tx)


def plan(office: Office, name: str, rule: Mapping[str, Any]) -> Change:
    """What `change` would do; `rule` has the names of `Anchor.rule` that become different.

    Raises as `authorities.check` does, `BadRequest` when there is no anchor of that name, and `PolicyInvalid`.
    """
    with office.database.read() as tx:
        number, before = authorities.named(tx, name)
    after = replace(before, **rule)
    authorities.check(after, office.now())
    return Change(number=number, before=before, after=after, effect=_effect(office, before, after))


def change(office: Office, planned: Change, *, sure: bool = False) -> None:
    """Make it so. Raises `NotAllowedNow` when it would lock somebody out and nobody is `sure`, `Outdated` when the
    anchor has changed since."""
    effect = planned.effect
    if effect.stranded_count and not sure:
        some = ", ".join(effect.stranded[:NAMED]) + (" ..." if effect.stranded_count > NAMED else "")
        raise NotAllowedNow(
            f"Accounts that could not sign in to the portal any more: {effect.stranded_count} ({some}).",
            next_step="Give them another way to sign in first, or say --yes.",
        )
    with office.database.write() as tx:
        if anchors.get(tx, planned.number) != planned.before:
            raise Outdated("Somebody has changed this authority at the same time, so nothing was done.")
        told = authorities.change(tx, planned.number, planned.after, office.now())
        office.record(tx, "trust-changed", **told, locked_out=effect.stranded_count, cards_of=effect.believed)


def remove(office: Office, name: str) -> None:
    """Raises `BadRequest` when there is no anchor of that name."""
    with office.database.write() as tx:
        office.record(tx, "trust-removed", **authorities.remove(tx, name))


def _effect(office: Office, before: Anchor, after: Anchor) -> Effect:
    policy = policy_book.read(office.settings.policy_file).policy
    trusted, models = TrustBook(office.database).current(), KeyModelBook(office.database, office.settings).current()
    others = [anchor for anchor in trusted.anchors.values() if anchor.name != before.name]
    now, then = (Situation(policy=policy, trust=one, models=models) for one in (trusted, trust.build([*others, after])))
    with office.database.read() as tx:
        comparison = Comparison(tx=tx, before=now, after=then, now=office.now())
        return comparison.effect(None, "", COMPARE_SECONDS, issuer=before.name)
