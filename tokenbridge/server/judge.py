"""From proofs to the machine's next event: who it is, what policy makes of it. It verifies no evidence."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass, replace
from typing import Final

from tokenbridge.errors import Undecided, UndecidedReason
from tokenbridge.rp.assurance import assess
from tokenbridge.rp.policy import Decision, Outcome, decide
from tokenbridge.rp.proof import DEVICES, Method, Proof
from tokenbridge.rp.reasons import Reason
from tokenbridge.rp.rules import Context
from tokenbridge.server import login
from tokenbridge.server.people import Person
from tokenbridge.server.policy_book import Edition
from tokenbridge.server.risk import Circumstances

_DISABLED: Final = "Not signed in: this account is disabled."


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """What a sign-in has come to: the newest evidence is of the kind `by`; `proofs` are all that passed."""

    by: Method
    proofs: tuple[Proof, ...]
    doubts: tuple[UndecidedReason, ...] = ()


def judge(edition: Edition, shown: Shown, who: Person, at: Circumstances, now: dt.datetime) -> login.Judged:
    """The event that says what the policy decides about what `who` has shown.

    A password that was changed since it was shown does not count any more.
    """
    proofs = tuple(proof for proof in shown.proofs if proof.method is not Method.PASSWORD or _is_current(proof, who))
    assurance = assess(proofs)
    context = Context(
        client=at.client,
        # What was set up while a sender was there is of no use once it is gone.
        enrolled=who.enrolled if at.offered is None else who.enrolled & at.offered,
        groups=who.groups,
        now=now,
        account=who.username,
        address=at.address,
        signals=at.signals,
        since=who.since,
    )
    doubts = [Undecided(reason) for reason in shown.doubts]
    decision = _disabled() if who.disabled else decide(edition.policy, assurance, context, undecided=doubts)
    if not DEVICES.isdisjoint(decision.methods):
        # Looked up only now: who is let in needs no device any more.
        decision = decide(edition.policy, assurance, replace(context, levels=at.levels()), undecided=doubts)
    decision = replace(decision, methods=_preferred(decision.methods, who.default))
    return login.Judged(
        by=shown.by,
        account=who.id,
        proofs=proofs,
        doubts=shown.doubts,
        # A session is worth what counted under the rule, not all that was shown.
        assurance=decision.assurance if decision.outcome is Outcome.ALLOW else assurance,
        decision=replace(decision, policy=edition.version),
    )


def _preferred(methods: tuple[Method, ...], default: Method | None) -> tuple[Method, ...]:
    """What policy offers, and nothing else, with the person's own choice first. Where a password comes first, nothing
    tells the choice before that was right."""
    if default is None or default not in methods or methods[0] is Method.PASSWORD:
        return methods
    return (default, *(method for method in methods if method is not default))


def _is_current(proof: Proof, who: Person) -> bool:
    return proof.credential == who.password


def _disabled() -> Decision:
    reason = Reason(code="account-disabled", text=_DISABLED)
    return Decision(outcome=Outcome.DENY, reasons=(reason,), sentence=_DISABLED)
