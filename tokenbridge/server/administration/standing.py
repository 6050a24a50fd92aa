"""What holds on this server: who is trusted, which keys are taken, and the policy in force. It only looks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from tokenbridge.rp.key_models import KeyModels
from tokenbridge.rp.policy import demand
from tokenbridge.rp.rules import Exemption, Rule
from tokenbridge.rp.wording import listing
from tokenbridge.server.administration import trust_words
from tokenbridge.server.administration.authority import Gate, Task
from tokenbridge.server.administration.trust_words import AnchorView
from tokenbridge.server.key_desk import aaguid_text
from tokenbridge.server.policy_book import Edition
from tokenbridge.server.store import anchors


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyRules:
    """`keys`: what is asked of security keys, in words. `allowed` and `refused` are models; none allowed means all."""

    keys: tuple[str, ...]
    allowed: tuple[str, ...]
    refused: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleView:
    name: str
    holds_for: tuple[str, ...]
    demands: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyView:
    version: str
    rules: tuple[RuleView, ...]
    exemptions: tuple[Exemption, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """Only for administrators of the whole site: it is about everybody. Raises as `Gate` does."""

    gate: Gate
    policy: Callable[[], Edition]

    def trust(self, session_token: str) -> tuple[AnchorView, ...]:
        with self.gate.looking(session_token, Task.GOVERN) as (tx, _):
            found = anchors.numbered(tx)
        return tuple(trust_words.view(anchor, number) for number, anchor in found.items())

    def key_rules(self, session_token: str) -> KeyRules:
        self._of_site(session_token)
        models = self.gate.changes.rule.models.current()
        return KeyRules(
            keys=tuple(_of_keys(models)),
            allowed=tuple(_named(models, aaguid) for aaguid in sorted(models.policy.allowed)),
            refused=tuple(_named(models, aaguid) for aaguid in sorted(models.policy.refused)),
        )

    def in_force(self, session_token: str) -> PolicyView:
        self._of_site(session_token)
        edition = self.policy()
        return PolicyView(
            version=edition.version,
            rules=tuple(_rule(rule) for rule in edition.policy.rules),
            exemptions=edition.policy.exemptions,
        )

    def _of_site(self, session_token: str) -> None:
        with self.gate.looking(session_token, Task.GOVERN):
            pass


def _of_keys(models: KeyModels) -> Iterator[str]:
    policy = models.policy
    yield f"User verification: {policy.user_verification}"
    yield f"Discoverable credentials: {policy.resident_key}"
    yield "A maker has to vouch for the model" if policy.attested else "No maker has to vouch for the model"
    if policy.minimum is not None:
        yield f"FIDO certification: {policy.minimum} at least"
    yield "Metadata is loaded" if models.metadata is not None else "No metadata is loaded"


def _named(models: KeyModels, aaguid: bytes) -> str:
    known = models.metadata.find(aaguid) if models.metadata is not None else None
    return aaguid_text(aaguid) if known is None else f"{known.name} ({aaguid_text(aaguid)})"


def _rule(rule: Rule) -> RuleView:
    return RuleView(name=rule.name, holds_for=tuple(_conditions(rule)), demands=tuple(_demands(rule)))


def _conditions(rule: Rule) -> Iterator[str]:
    for name, found in (
        ("clients", rule.clients),
        ("groups", rule.groups),
        ("networks", rule.networks),
        ("hours", rule.hours),
        ("when noticed", rule.signals),
    ):
        if found:
            yield f"{name}: {', '.join(sorted(map(str, found)))}"


def _demands(rule: Rule) -> Iterator[str]:
    if rule.refuse:
        yield "Lets nobody in" + (f": {rule.message}" if rule.message else "")
        return
    yield f"Requires {demand(rule)}"
    yield f"May be completed by {listing(rule.fallback, 'or')}" if rule.fallback else "Can't be completed by a fallback"
    for name, found in (("Models", rule.models), ("Refused models", rule.refused_models)):
        if found:
            yield f"{name}: {', '.join(sorted(found))}"
    if rule.withdraw_on:
        yield f"A card or key alone is not enough when noticed: {', '.join(sorted(rule.withdraw_on))}"
    if rule.enrolment is not None:
        yield f"Must be enrolled within {rule.enrolment.grace.days} days: {listing(rule.enrolment.any_of, 'or')}"
    for name, span in (("Evidence is at most", rule.max_age), ("Idle limit", rule.idle), ("Overall", rule.overall)):
        if span is not None:
            yield f"{name}: {span}"
