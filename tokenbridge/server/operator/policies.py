"""The policy, as an operator asks about it: what it says of one case, and what a new file would change."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from sqlalchemy.orm import Session

from tokenbridge.rp.assurance import assess
from tokenbridge.rp.explain import Explanation
from tokenbridge.rp.explain import explain as explained
from tokenbridge.rp.key_models import KeyModels
from tokenbridge.rp.policy import Decision, decide
from tokenbridge.rp.proof import Method
from tokenbridge.rp.rules import PORTAL, Context, Policy, Signal
from tokenbridge.server import policy_book, supposed
from tokenbridge.server.key_book import KeyModelBook
from tokenbridge.server.operator.office import Office
from tokenbridge.server.people import person
from tokenbridge.server.policy_book import Edition
from tokenbridge.server.store import accounts, groups
from tokenbridge.server.store.schema import Account
from tokenbridge.server.supposed import Supposition
from tokenbridge.server.trust import Trust, TrustBook

ANY_CLIENT: Final = "any-other"
"""Stands for the clients that no rule names."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """Who asks what from where. An empty `user` is somebody of whom only `groups` and `enrolled` are known."""

    client: str = PORTAL
    user: str = ""
    groups: frozenset[str] = frozenset()
    enrolled: frozenset[Method] = frozenset()
    address: str = ""
    at: dt.datetime
    signals: frozenset[Signal] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """One account that a new policy would treat differently, in one situation."""

    user: str
    evidence: str
    client: str
    address: str
    before: Decision
    after: Decision

    def as_dict(self) -> dict[str, Any]:
        return {
            "user": self.user,
            "evidence": self.evidence,
            "client": self.client,
            "address": self.address,
            "before": _told(self.before),
            "after": _told(self.after),
        }


def edition(office: Office, file: Path | None) -> Edition:
    """The policy of `file`, or the one in force. Raises `PolicyInvalid`, and `SetupError` for a missing file."""
    return policy_book.read(file or office.settings.policy_file)


def explain(office: Office, policy: Policy, case: Case, evidence: Sequence[str]) -> Explanation:
    """Raises `BadRequest` for an unknown user or word of evidence."""
    assurance = assess(supposed.evidence(word, case.at) for word in evidence)
    with office.database.read() as tx:
        context = _context(tx, case)
    return explained(policy, assurance, context)


def differences(office: Office, new: Policy, now: dt.datetime, *, user: str = "") -> Iterator[Difference]:
    """Every account in every situation that either policy tells apart, where the outcome or the methods differ.

    Situations are: each way in which the account can begin today, each client that a rule names and any other, each
    network that a rule names and none. Hours are those of `now`, and nothing unusual is noticed.
    """
    old = edition(office, None).policy
    places = tuple(_places(old, new))
    trust, models = TrustBook(office.database).current(), KeyModelBook(office.database, office.settings).current()
    with office.database.read() as tx:
        everybody = [accounts.get(tx, user)] if user else accounts.everybody(tx)
        for account in everybody:
            yield from _of_account(_Comparison(tx, old, new, trust, models, now), account, places)


@dataclass(frozen=True, slots=True)
class _Comparison:
    tx: Session
    old: Policy
    new: Policy
    trust: Trust
    models: KeyModels
    now: dt.datetime


def _of_account(by: _Comparison, account: Account, places: Sequence[tuple[str, str]]) -> Iterator[Difference]:
    ways = tuple(supposed.of_account(by.tx, account, by.trust, by.models, by.now))
    for client, address in places:
        case = Case(client=client, user=account.username, address=address, at=by.now)
        context = _context(by.tx, case)
        for way in ways:
            before, after = _decided(by.old, way, context), _decided(by.new, way, context)
            if _told(before) != _told(after):
                yield Difference(
                    user=account.username,
                    evidence=way.name,
                    client=client,
                    address=address,
                    before=before,
                    after=after,
                )


def _decided(policy: Policy, way: Supposition, context: Context) -> Decision:
    return decide(policy, assess(way.proofs), context)


def _told(decision: Decision) -> dict[str, Any]:
    """What a person would notice of a decision."""
    return {"decision": str(decision.outcome), "methods": [str(method) for method in decision.methods]}


def _places(*policies: Policy) -> Iterator[tuple[str, str]]:
    rules = [rule for policy in policies for rule in policy.rules]
    clients = sorted({client for rule in rules for client in rule.clients} | {ANY_CLIENT})
    addresses = sorted({str(network[0]) for rule in rules for network in rule.networks})
    for client in clients:
        yield from ((client, address) for address in ("", *addresses))


def _context(tx: Session, case: Case) -> Context:
    if not case.user:
        return Context(
            client=case.client,
            enrolled=case.enrolled,
            groups=case.groups,
            now=case.at,
            address=case.address,
            signals=case.signals,
        )
    account = accounts.get(tx, case.user)
    who = person(tx, account.id)
    return Context(
        client=case.client,
        enrolled=(who.enrolled if who is not None else frozenset()) | case.enrolled,
        groups=groups.of(tx, account.id) | case.groups,
        now=case.at,
        account=account.username,
        address=case.address,
        signals=case.signals,
        since=account.created_at,
    )
