"""Decides what graded proofs are enough for: allow, challenge or deny, and why. Rules are data; the first match wins.

It never looks at evidence itself, and nothing that the client claims can suppress a challenge.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum, unique
from typing import Final

from tokenbridge.errors import Undecided
from tokenbridge.rp.assurance import AAL, NOTHING, Assurance, Grade, assess, with_password
from tokenbridge.rp.proof import DEVICES, FALLBACK_METHODS, RESTRICTED_METHODS, Method
from tokenbridge.rp.reasons import Reason, ReasonCode
from tokenbridge.rp.rules import LIFETIMES, PORTAL, Context, Exemption, Lifetimes, Policy, Rule, Signal
from tokenbridge.rp.wording import NAMES, day, describe, in_words, listing


@unique
class Outcome(StrEnum):
    """What happens next."""

    ALLOW = "allow"
    CHALLENGE = "challenge"
    DENY = "deny"


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """`suppressed`: enrolled fallback methods that were not asked (allow only).

    `methods`: what completes the sign-in, in the order in which to ask (challenge only). A password, when listed,
    comes first and the others follow it. `assurance` is the sum of the proofs that counted under the rule;
    `lifetimes` are for the session that it opens; `policy` says which edition of the policy decided.
    `signals` is what was noticed about the sign-in, whether or not the rule minds it.
    """

    outcome: Outcome
    reasons: tuple[Reason, ...]
    suppressed: tuple[Method, ...] = ()
    methods: tuple[Method, ...] = ()
    sentence: str
    rule: str = ""
    assurance: Assurance = NOTHING
    lifetimes: Lifetimes = LIFETIMES[AAL.AAL3]
    policy: str = ""
    signals: tuple[Signal, ...] = ()


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
    rule = policy.rule_for(context)
    if rule is None:
        text = f"No rule of the policy covers the client {context.client!r}."
        reasons = (Reason(code=ReasonCode.NO_RULE, text=text), *notes)
        return Decision(outcome=Outcome.DENY, reasons=reasons, sentence=text)
    decision = decide_by(policy.demands_on(rule, context), assurance, context, undecided)
    exemption = policy.exemption(context)
    excused = (_excused(exemption),) if exemption is not None else ()
    noticed = tuple(signal for signal in Signal if signal in context.signals)
    return replace(decision, reasons=(*decision.reasons, *excused, *notes), signals=noticed)


def decide_by(rule: Rule, given: Assurance, context: Context, undecided: Sequence[Undecided] = ()) -> Decision:
    """What `rule` makes of it, whether or not it matches."""
    if rule.refuse:
        return _refused(rule, given)
    counted = assess(proof for proof in given.proofs if rule.accepts(proof) and _fresh(rule, proof.at, context))
    case = _Case(
        rule=rule,
        got=counted,
        context=context,
        doubts=tuple(Reason(code=f"{ReasonCode.UNDECIDED}:{doubt.reason}", text=doubt.message) for doubt in undecided),
        unusual=tuple(_noticed(signal) for signal in Signal if signal in rule.withdraw_on & context.signals),
        dropped=tuple(_dropped(rule, given, context)),
    )
    return replace(case.decide(), assurance=counted)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Case:
    """One rule and one sum of proofs. `doubts` and `unusual` each keep a device from suppressing the challenge."""

    rule: Rule
    got: Assurance
    context: Context
    doubts: tuple[Reason, ...]
    unusual: tuple[Reason, ...]
    dropped: tuple[Reason, ...]

    @property
    def wary(self) -> bool:
        return bool(self.doubts or self.unusual)

    @property
    def challenged(self) -> bool:
        return bool(FALLBACK_METHODS.intersection(self.got.methods))

    def decide(self) -> Decision:
        if _satisfies(self.rule, self.got) and (self.challenged or not self.wary):
            return self._enrolled(self._allow())
        methods = self._path()
        return self._challenge(methods) if methods else self._deny()

    def _allow(self) -> Decision:
        rule, level = self.rule, self.got.aal.name
        text = f"Signed in at {level}: {describe(self.got)}"
        reasons = [
            Reason(code=ReasonCode.SATISFIED, text=f"Rule {rule.name!r} requires {demand(rule)}; {level} was proved.")
        ]
        lifetimes = rule.lifetimes(self.got.aal)
        if self.challenged:
            told = (*reasons, *self.doubts, *self.unusual, *self.dropped)
            return Decision(
                outcome=Outcome.ALLOW, reasons=told, sentence=f"{text}.", rule=rule.name, lifetimes=lifetimes
            )
        # Nobody would have been asked for a recovery code: it is for those who have lost the rest.
        asked = (FALLBACK_METHODS - {Method.RECOVERY}) & (self.context.enrolled or frozenset())
        suppressed = tuple(method for method in Method if method in asked)
        if suppressed:
            needless = f"Not asked, because what was proved is enough: {listing(suppressed, 'and')}."
            reasons.append(Reason(code=ReasonCode.SUPPRESSED, text=needless))
        tail = "; no text message or app code needed" if rule.minimum > AAL.AAL1 else ""
        return Decision(
            outcome=Outcome.ALLOW,
            reasons=(*reasons, *self.dropped),
            suppressed=suppressed,
            sentence=f"{text}{tail}.",
            rule=rule.name,
            lifetimes=lifetimes,
        )

    def _enrolled(self, allowed: Decision) -> Decision:
        """`allowed`, unless what has to be enrolled is overdue. At the portal it can be made good, so it stays open."""
        needed, context = self.rule.enrolment, self.context
        if needed is None or any(context.has(method) for method in needed.any_of):
            return allowed
        due = needed.due(context.since or context.now)
        ways = listing(needed.any_of, "or")
        if context.now < due or context.client == PORTAL:
            text = f"Set up {ways} by {day(due)}." if context.now < due else f"Set up {ways} now: it is overdue."
            return replace(allowed, reasons=(*allowed.reasons, Reason(code=ReasonCode.ENROL, text=text)))
        text = f"This account had to set up {ways} by {day(due)}."
        sentence = f"Not signed in: {_lower(text)} Do so on the self-service pages, then sign in here again."
        reason = Reason(code=ReasonCode.ENROL_OVERDUE, text=text)
        return Decision(outcome=Outcome.DENY, reasons=(reason,), sentence=sentence, rule=self.rule.name)

    def _path(self) -> tuple[Method, ...]:
        """The methods that lead to what the rule requires; empty when there is no way."""
        rule, got = self.rule, self.got
        lacks_password = Method.PASSWORD not in got.methods
        with_it = (*got.grades, *with_password(got.grades))
        code_needed = self.wary and not self.challenged
        if lacks_password and not code_needed and any(_meets(rule, grade) for grade in with_it):
            return (Method.PASSWORD,)
        open_to = [method for method in rule.fallback if method not in got.methods and self.context.has(method)]
        ways = tuple(method for method in open_to if self._helps(method, with_it))
        password_first = lacks_password and not _satisfies(rule, got) and not FALLBACK_METHODS.isdisjoint(ways)
        return (Method.PASSWORD, *ways) if password_first else ways

    def _helps(self, method: Method, after_password: tuple[Grade, ...]) -> bool:
        """Whether `method`, after a password where it takes one, meets the rule. No device dispels a doubt about
        another, nor what is unusual."""
        rule = self.rule
        if method in DEVICES:
            reach = self.context.levels.get(method, AAL.AAL3)
            if reach is AAL.NONE:
                return False
            # A key that is only touched reaches AAL2 with the password, which can follow it.
            by_device = Grade(
                aal=max(reach, AAL.AAL2),
                factors=frozenset(),
                phishing_resistant=True,
                hardware=reach is not AAL.AAL2,
            )
            return not self.wary and _meets(rule, by_device)
        if method not in FALLBACK_METHODS:
            return False
        by_code = Grade(aal=AAL.AAL2, factors=frozenset(), restricted=method in RESTRICTED_METHODS)
        return any(_meets(rule, grade) for grade in (*after_password, by_code))

    def _challenge(self, methods: tuple[Method, ...]) -> Decision:
        reasons = self._shortfall()
        first, *others = methods
        in_turn = first is Method.PASSWORD and others
        steps = f"{listing([first], 'or')}, then {listing(others, 'or')}" if in_turn else listing(methods, "or")
        return Decision(
            outcome=Outcome.CHALLENGE,
            reasons=reasons,
            methods=methods,
            sentence=f"{_upper(reasons[0].text)} One more step is needed: {steps}.",
            rule=self.rule.name,
        )

    def _deny(self) -> Decision:
        reasons = self._shortfall()
        lack = Reason(code=ReasonCode.NO_FALLBACK, text="No method that would be enough is enrolled for this account.")
        return Decision(
            outcome=Outcome.DENY,
            reasons=(*reasons, lack),
            sentence=f"Not signed in: {_lower(reasons[0].text).rstrip('.')}, and {_lower(lack.text)}",
            rule=self.rule.name,
        )

    def _shortfall(self) -> tuple[Reason, ...]:
        """Why it is not enough, the foremost first; never empty."""
        rule, got = self.rule, self.got
        if _satisfies(rule, got):
            return (*self.doubts, *self.unusual, *self.dropped)
        proved = f"{describe(got)} counts as {in_words(got.aal)}" if got.methods else "Nothing was proved yet"
        needed = in_words(rule.minimum, *_extras(rule))
        weak = Reason(code=ReasonCode.TOO_WEAK, text=f"{proved}, and rule {rule.name!r} requires {needed}.")
        return (*self.doubts, *self.dropped, weak, *self.unusual)


def demand(rule: Rule) -> str:
    """What `rule` requires of the proofs, in short."""
    return ", ".join((rule.minimum.name, *_extras(rule)))


def _extras(rule: Rule) -> tuple[str, ...]:
    asked = {
        "phishing-resistant": rule.phishing_resistant,
        "in hardware": rule.hardware,
        "no text message or call": not rule.allow_restricted,
    }
    return tuple(word for word, wanted in asked.items() if wanted)


def _satisfies(rule: Rule, got: Assurance) -> bool:
    return any(_meets(rule, grade) for grade in got.grades)


def _meets(rule: Rule, grade: Grade) -> bool:
    return (
        grade.aal >= rule.minimum
        and (grade.phishing_resistant or not rule.phishing_resistant)
        and (grade.hardware or not rule.hardware)
        and (rule.allow_restricted or not grade.restricted)
    )


def _fresh(rule: Rule, at: dt.datetime, context: Context) -> bool:
    return rule.max_age is None or context.now - at <= rule.max_age


def _dropped(rule: Rule, given: Assurance, context: Context) -> Iterator[Reason]:
    """Why proofs did not count."""
    for proof in given.proofs:
        name = NAMES[proof.method]
        if not rule.accepts(proof):
            text = f"Rule {rule.name!r} does not accept this {name} (model {proof.model})."
            yield Reason(code=ReasonCode.MODEL_REFUSED, text=text)
        elif not _fresh(rule, proof.at, context):
            text = f"The {name} was shown too long ago for rule {rule.name!r}."
            yield Reason(code=ReasonCode.TOO_OLD, text=text)


_UNUSUAL: Final = {
    Signal.NEW_DEVICE: "this account was not used from this device before",
    Signal.NEW_NETWORK: "this account was not used from this network before",
    Signal.NEW_COUNTRY: "this account was not used from this country before",
    Signal.IMPOSSIBLE_TRAVEL: "this account was used in another country a short time ago",
    Signal.MANY_FAILURES: "there were many failed sign-ins for this account",
}


def _noticed(signal: Signal) -> Reason:
    text = f"Unusual access: {_UNUSUAL[signal]}, so a second proof is asked for this once."
    return Reason(code=f"{ReasonCode.UNUSUAL}:{signal}", text=text)


def _excused(exemption: Exemption) -> Reason:
    text = f"An exception holds until {day(exemption.until)}: {exemption.reason}"
    return Reason(code=ReasonCode.EXCEPTION, text=text)


def _refused(rule: Rule, given: Assurance) -> Decision:
    text = rule.message or f"Rule {rule.name!r} lets nobody in."
    reason = Reason(code=ReasonCode.RULE_REFUSES, text=text)
    return Decision(
        outcome=Outcome.DENY, reasons=(reason,), sentence=f"Not signed in: {text}", rule=rule.name, assurance=given
    )


def _upper(text: str) -> str:
    return text[:1].upper() + text[1:]


def _lower(text: str) -> str:
    return text[:1].lower() + text[1:]
