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
from tokenbridge.rp.assurance import AAL, Assurance, Grade, with_password
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
    methods = _path(rule, assurance, context, doubtful=bool(undecided))
    return _challenge(rule, assurance, doubts, methods) if methods else _deny(rule, assurance, doubts)


def _satisfies(rule: Rule, got: Assurance) -> bool:
    return any(_meets(rule, grade) for grade in got.grades)


def _meets(rule: Rule, grade: Grade) -> bool:
    return (
        grade.aal >= rule.minimum
        and (grade.phishing_resistant or not rule.phishing_resistant)
        and (grade.hardware or not rule.hardware)
        and (rule.allow_restricted or not grade.restricted)
    )


def _allow(rule: Rule, assurance: Assurance, context: Context, doubts: tuple[Reason, ...]) -> Decision:
    told = describe(assurance)
    text = f"Signed in at {assurance.aal.name}: {told}"
    reasons = [
        Reason(
            code=ReasonCode.SATISFIED,
            text=f"Rule {rule.name!r} requires {_demand(rule)}; {assurance.aal.name} was proved.",
        )
    ]
    if FALLBACK_METHODS.intersection(assurance.methods):
        return Decision(outcome=Outcome.ALLOW, reasons=(*reasons, *doubts), sentence=f"{text}.", rule=rule.name)
    # Nobody would have been asked for a recovery code: it is for those who have lost the rest.
    asked = (FALLBACK_METHODS - {Method.RECOVERY}) & (context.enrolled or frozenset())
    suppressed = tuple(method for method in Method if method in asked)
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


def _path(rule: Rule, got: Assurance, context: Context, *, doubtful: bool) -> tuple[Method, ...]:
    """The methods that lead from `got` to what `rule` requires; empty when there is no way."""
    lacks_password = Method.PASSWORD not in got.methods
    with_it = (*got.grades, *with_password(got.grades))
    code_needed = doubtful and FALLBACK_METHODS.isdisjoint(got.methods)
    if lacks_password and not code_needed and any(_meets(rule, grade) for grade in with_it):
        return (Method.PASSWORD,)
    open_to = [method for method in rule.fallback if method not in got.methods and context.has(method)]
    ways = tuple(method for method in open_to if _helps(rule, method, with_it, doubtful=doubtful))
    password_first = lacks_password and not _satisfies(rule, got) and not FALLBACK_METHODS.isdisjoint(ways)
    return (Method.PASSWORD, *ways) if password_first else ways


def _helps(rule: Rule, method: Method, after_password: tuple[Grade, ...], *, doubtful: bool) -> bool:
    """Whether `method`, after a password where it takes one, meets `rule`. No device dispels a doubt about another."""
    if method in (Method.CARD, Method.KEY):
        return not doubtful
    if method not in FALLBACK_METHODS:
        return False
    by_code = Grade(aal=AAL.AAL2, factors=frozenset(), restricted=method in RESTRICTED_METHODS)
    return any(_meets(rule, grade) for grade in (*after_password, by_code))


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
