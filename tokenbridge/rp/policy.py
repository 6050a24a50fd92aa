"""Decides what graded proofs are enough for: allow, challenge or deny, and why. Rules are data; the first match wins.

It never looks at evidence itself, and nothing that the client claims can suppress a challenge.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum, unique
from typing import Final

from tokenbridge.errors import Undecided
from tokenbridge.rp.assurance import AAL, Assurance
from tokenbridge.rp.proof import FALLBACK_METHODS, RESTRICTED_METHODS, Method
from tokenbridge.rp.wording import describe, listing


@unique
class Outcome(StrEnum):
    """What happens next."""

    ALLOW = "allow"
    CHALLENGE = "challenge"
    DENY = "deny"


@unique
class ReasonCode(StrEnum):
    """Stable words for programs; `Reason.text` is for people."""

    SATISFIED = "satisfied"
    SUPPRESSED = "challenge-suppressed"
    TOO_WEAK = "assurance-too-low"
    UNDECIDED = "undecided"
    NO_RULE = "no-rule"
    NO_FALLBACK = "no-fallback-enrolled"


@dataclass(frozen=True, slots=True, kw_only=True)
class Reason:
    """One step of the argument. `code` is a `ReasonCode`, or `undecided:` and the `UndecidedReason`."""

    code: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """What is required of whom. Empty `clients` or `groups` match everybody.

    `fallback` lists, best first, the methods that may complete a sign-in that is too weak.
    """

    name: str
    clients: frozenset[str] = frozenset()
    groups: frozenset[str] = frozenset()
    minimum: AAL = AAL.AAL2
    phishing_resistant: bool = False
    hardware: bool = False
    allow_restricted: bool = True
    fallback: tuple[Method, ...] = (Method.TOTP,)

    def matches(self, context: Context) -> bool:
        client_fits = not self.clients or context.client in self.clients
        return client_fits and (not self.groups or bool(self.groups & context.groups))


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """Rules in order; what no rule matches is denied."""

    rules: tuple[Rule, ...]


DEFAULT_POLICY: Final = Policy(rules=(Rule(name="default"),))


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """Who asks from where. `enrolled` holds the account's methods beside its password; None: account not known yet."""

    client: str
    enrolled: frozenset[Method] | None
    groups: frozenset[str] = frozenset()
    now: datetime

    def has(self, method: Method) -> bool:
        return self.enrolled is None or method in self.enrolled


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """`suppressed`: enrolled fallback methods that were not asked (allow only).

    `methods`: what completes the sign-in, in the order in which to ask (challenge only). A password, when listed,
    comes first and the others follow it.
    """

    outcome: Outcome
    reasons: tuple[Reason, ...]
    suppressed: tuple[Method, ...] = ()
    methods: tuple[Method, ...] = ()
    sentence: str
    rule: str = ""


def decide(
    policy: Policy,
    assurance: Assurance,
    context: Context,
    *,
    undecided: Sequence[Undecided] = (),
    notes: Sequence[Reason] = (),
) -> Decision:
    """Apply the first matching rule. Evidence that could not be judged (`undecided`) never suppresses a challenge.

    `notes` come from the verifier (for example: revocation not offered) and end the decision's reasons.
    """
    decision = _decide(policy, assurance, context, undecided)
    return replace(decision, reasons=(*decision.reasons, *notes))


def _decide(policy: Policy, assurance: Assurance, context: Context, undecided: Sequence[Undecided]) -> Decision:
    rule = next((rule for rule in policy.rules if rule.matches(context)), None)
    if rule is None:
        text = f"No rule of the policy covers the client {context.client!r}."
        return Decision(outcome=Outcome.DENY, reasons=(Reason(code=ReasonCode.NO_RULE, text=text),), sentence=text)
    doubts = tuple(Reason(code=f"{ReasonCode.UNDECIDED}:{doubt.reason}", text=doubt.message) for doubt in undecided)
    challenged = bool(FALLBACK_METHODS.intersection(assurance.methods))
    if _satisfies(rule, assurance) and (challenged or not undecided):
        return _allow(rule, assurance, context, doubts)
    methods = _path(rule, assurance, context, needs_fallback=bool(undecided))
    return _challenge(rule, assurance, doubts, methods) if methods else _deny(rule, assurance, doubts)


def _satisfies(rule: Rule, got: Assurance) -> bool:
    return (
        got.aal >= rule.minimum
        and (got.phishing_resistant or not rule.phishing_resistant)
        and (got.hardware or not rule.hardware)
        and (rule.allow_restricted or not got.restricted)
    )


def _allow(rule: Rule, assurance: Assurance, context: Context, doubts: tuple[Reason, ...]) -> Decision:
    told = describe(assurance)
    text = f"Signed in at {assurance.aal.name}: {told}"
    reasons = [Reason(code=ReasonCode.SATISFIED, text=f"{text}; rule {rule.name!r} requires {_demand(rule)}.")]
    if FALLBACK_METHODS.intersection(assurance.methods):
        return Decision(outcome=Outcome.ALLOW, reasons=(*reasons, *doubts), sentence=f"{text}.", rule=rule.name)
    suppressed = tuple(method for method in Method if method in FALLBACK_METHODS & (context.enrolled or frozenset()))
    if suppressed:
        needless = f"Not asked, because what was proved is enough: {listing(suppressed, 'and')}."
        reasons.append(Reason(code=ReasonCode.SUPPRESSED, text=needless))
    tail = "; no text message or app code needed" if rule.minimum > AAL.AAL1 else ""
    return Decision(
        outcome=Outcome.ALLOW,
        reasons=tuple(reasons),
        suppressed=suppressed,
        sentence=f"{text}{tail}.",
        rule=rule.name,
    )


def _path(rule: Rule, got: Assurance, context: Context, *, needs_fallback: bool) -> tuple[Method, ...]:
    """The methods that lead from `got` to what `rule` requires; empty when there is no way."""
    lacks_password = Method.PASSWORD not in got.methods
    if lacks_password and not needs_fallback and _satisfies(rule, _with_password(got)):
        return (Method.PASSWORD,)
    ways = tuple(method for method in rule.fallback if context.has(method) and _reaches(rule, got, method))
    password_first = lacks_password and not _satisfies(rule, got) and bool(FALLBACK_METHODS.intersection(ways))
    return (Method.PASSWORD, *ways) if password_first else ways


def _with_password(got: Assurance) -> Assurance:
    """What `got` becomes by a password: with a device that proved possession only, two factors (section 6's table)."""
    device = got.aal is AAL.AAL1 and not {Method.CARD, Method.KEY}.isdisjoint(got.methods)
    return replace(got, aal=max(got.aal, AAL.AAL2 if device else AAL.AAL1))


def _reaches(rule: Rule, got: Assurance, method: Method) -> bool:
    """Whether `method`, after a password where it takes one, can meet `rule`."""
    if method in got.methods:
        return False
    if method in (Method.CARD, Method.KEY) or _satisfies(rule, got):
        return True
    out_of_reach = rule.phishing_resistant or rule.hardware or rule.minimum > AAL.AAL2
    restricted = method in RESTRICTED_METHODS and not rule.allow_restricted
    return method in FALLBACK_METHODS and not out_of_reach and not restricted


def _challenge(rule: Rule, assurance: Assurance, doubts: tuple[Reason, ...], methods: tuple[Method, ...]) -> Decision:
    reasons = _shortfall(rule, assurance, doubts)
    first, *others = methods
    in_turn = first is Method.PASSWORD and others
    steps = f"{listing([first], 'or')}, then {listing(others, 'or')}" if in_turn else listing(methods, "or")
    return Decision(
        outcome=Outcome.CHALLENGE,
        reasons=reasons,
        methods=methods,
        sentence=f"One more step is needed ({steps}): {_lower(reasons[0].text)}",
        rule=rule.name,
    )


def _deny(rule: Rule, assurance: Assurance, doubts: tuple[Reason, ...]) -> Decision:
    reasons = _shortfall(rule, assurance, doubts)
    lack = Reason(code=ReasonCode.NO_FALLBACK, text="No method that would be enough is enrolled for this account.")
    return Decision(
        outcome=Outcome.DENY,
        reasons=(*reasons, lack),
        sentence=f"Not signed in: {_lower(reasons[0].text).rstrip('.')}, and {_lower(lack.text)}",
        rule=rule.name,
    )


def _shortfall(rule: Rule, got: Assurance, doubts: tuple[Reason, ...]) -> tuple[Reason, ...]:
    """Why it is not enough, the foremost first; never empty."""
    if doubts and _satisfies(rule, got):
        return doubts
    proved = f"{describe(got)} is {got.aal.name}" if got.methods else "Nothing was proved yet"
    weak = Reason(code=ReasonCode.TOO_WEAK, text=f"{proved}, rule {rule.name!r} requires {_demand(rule)}.")
    return (*doubts, weak)


def _demand(rule: Rule) -> str:
    extras = {
        "phishing-resistant": rule.phishing_resistant,
        "in hardware": rule.hardware,
        "no text message or call": not rule.allow_restricted,
    }
    return ", ".join([rule.minimum.name, *(word for word, asked in extras.items() if asked)])


def _lower(text: str) -> str:
    return text[:1].lower() + text[1:]
