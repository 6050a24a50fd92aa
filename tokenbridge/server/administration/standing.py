"""What holds on this server: who is trusted, which keys are taken, and the policy in force. Only for looking at."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from tokenbridge.errors import NotFound
from tokenbridge.rp.certificate import Certificate
from tokenbridge.rp.key_models import KeyModels
from tokenbridge.rp.policy import demand
from tokenbridge.rp.rules import Exemption, Rule
from tokenbridge.rp.wording import listing
from tokenbridge.server.administration.authority import Gate, Task
from tokenbridge.server.key_desk import aaguid_text
from tokenbridge.server.policy_book import Edition
from tokenbridge.server.step_up import StepUpRule
from tokenbridge.server.store.anchors import Anchor


@dataclass(frozen=True, slots=True, kw_only=True)
class AnchorView:
    """A trust anchor and its rule in words."""

    name: str
    subject: str
    fingerprint: str
    intermediates: int
    rules: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class TrustView:
    """`keys`: what is asked of security keys, in words. `allowed` and `refused` are models; none allowed means all."""

    anchors: tuple[AnchorView, ...]
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

    def trust(self, session_token: str) -> TrustView:
        """Raises `SetupError` too, when an anchor can't be used."""
        self._of_site(session_token)
        rule: StepUpRule = self.gate.changes.rule
        models = rule.models.current()
        return TrustView(
            anchors=tuple(_anchor(anchor) for anchor in rule.trust.current().anchors.values()),
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
        with self.gate.looking(session_token, Task.MANAGE) as (_, authority):
            if not authority.of_site:
                raise NotFound


def _anchor(anchor: Anchor) -> AnchorView:
    certificate = Certificate.parse(anchor.certificate)
    return AnchorView(
        name=anchor.name,
        subject=certificate.subject,
        fingerprint=certificate.fingerprint,
        intermediates=len(anchor.intermediates),
        rules=tuple(_of_anchor(anchor)),
    )


def _of_anchor(anchor: Anchor) -> Iterator[str]:
    vouched = [word for word, said in (("hardware", anchor.hardware), ("the PIN", anchor.pin_enforced)) if said]
    yield f"Vouches for {' and '.join(vouched)}" if vouched else "Vouches for neither hardware nor PIN"
    yield "Revocation is checked" if anchor.check_revocation else "Revocation is not checked"
    if anchor.legacy_weak:
        yield "Weak keys and signatures of old cards are taken"
    sources = ("CRL addresses", anchor.crl_urls), ("CRL files", anchor.crl_files), ("OCSP addresses", anchor.ocsp_urls)
    yield from (f"{name}: {', '.join(found)}" for name, found in sources if found)
    if anchor.policy_oids:
        yield f"Only certificates with the policies {', '.join(anchor.policy_oids)}"
    names = ("NHS user id", anchor.map_nhs_uid), ("principal name", anchor.map_upn), ("e-mail", anchor.map_email)
    mapped = [name for name, said in names if said]
    if mapped:
        yield f"Its cards are known by their {' or '.join(mapped)}, without being enrolled"


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
        yield f"A device alone is not enough with {', '.join(sorted(rule.withdraw_on))}"
    if rule.enrolment is not None:
        yield f"Must be enrolled within {rule.enrolment.grace.days} days: {listing(rule.enrolment.any_of, 'or')}"
    for name, span in (("Evidence is at most", rule.max_age), ("Idle limit", rule.idle), ("Overall", rule.overall)):
        if span is not None:
            yield f"{name}: {span}"
