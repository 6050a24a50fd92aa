"""What every rule of a policy would make of one case, and why: for people who write policies. It adds no decision."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum, unique
from typing import Any

from tokenbridge.errors import Undecided
from tokenbridge.rp.assurance import Assurance
from tokenbridge.rp.policy import Decision, decide, decide_by
from tokenbridge.rp.rules import Context, Policy, mismatches
from tokenbridge.rp.wording import describe


@unique
class Standing(StrEnum):
    """What a rule has to do with the case."""

    DECIDES = "decides"
    NOT_REACHED = "not-reached"
    DOES_NOT_APPLY = "does-not-apply"


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleView:
    """One rule: `why_not` when it does not apply, else what it decides, or would decide if it were reached."""

    name: str
    standing: Standing
    why_not: tuple[str, ...] = ()
    decision: Decision | None = None

    def as_dict(self) -> dict[str, Any]:
        told = {} if self.decision is None else decision_dict(self.decision)
        return {"rule": self.name, "standing": str(self.standing), "why_not": list(self.why_not), **told}


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """The decision, and every rule in the order of the file. `shown` says what was proved, in words."""

    shown: str
    assurance: Assurance
    decision: Decision
    rules: tuple[RuleView, ...]

    def as_dict(self) -> dict[str, Any]:
        """JSON types."""
        return {
            "evidence": {"shown": self.shown, "aal": int(self.assurance.aal), "amr": list(self.assurance.amr)},
            **decision_dict(self.decision),
            "rule": self.decision.rule,
            "rules": [view.as_dict() for view in self.rules],
        }


def explain(
    policy: Policy, assurance: Assurance, context: Context, *, undecided: Sequence[Undecided] = ()
) -> Explanation:
    """As `decide`, with its way there."""
    return Explanation(
        shown=describe(assurance),
        assurance=assurance,
        decision=decide(policy, assurance, context, undecided=undecided),
        rules=tuple(_views(policy, assurance, context, undecided)),
    )


def _views(
    policy: Policy, assurance: Assurance, context: Context, undecided: Sequence[Undecided]
) -> Iterator[RuleView]:
    decided = False
    for rule in policy.rules:
        why_not = tuple(mismatches(rule, context, policy.zone))
        if why_not:
            yield RuleView(name=rule.name, standing=Standing.DOES_NOT_APPLY, why_not=why_not)
            continue
        standing = Standing.NOT_REACHED if decided else Standing.DECIDES
        decided = True
        decision = decide_by(policy.demands_on(rule, context), assurance, context, undecided)
        yield RuleView(name=rule.name, standing=standing, decision=decision)


def decision_dict(decision: Decision) -> dict[str, Any]:
    """A decision as JSON types, as programs and the audit trail are told it."""
    return {
        "decision": str(decision.outcome),
        "sentence": decision.sentence,
        "reasons": [{"code": reason.code, "text": reason.text} for reason in decision.reasons],
        "suppressed": [str(method) for method in decision.suppressed],
        "methods": [str(method) for method in decision.methods],
    }
