"""What a change of policy or trust would mean for accounts: what each would be told, and who could not get in any more.

Nothing is decided here for anybody who signs in: the evidence is supposed.
"""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from sqlalchemy.orm import Session

from tokenbridge.rp.assurance import assess
from tokenbridge.rp.key_models import KeyModels
from tokenbridge.rp.policy import Decision, Outcome, decide
from tokenbridge.rp.proof import Method
from tokenbridge.rp.rules import PORTAL, Context, Policy, Signal
from tokenbridge.server import holdings, supposed
from tokenbridge.server.people import person
from tokenbridge.server.reach import levels_of
from tokenbridge.server.store import accounts, groups
from tokenbridge.server.store.schema import Account
from tokenbridge.server.supposed import Supposition
from tokenbridge.server.trust import Trust

ANY_CLIENT: Final = "any-other"
"""Stands for the clients that no rule names."""
MOST_TOLD: Final = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Situation:
    """What decides about a sign-in: the policy, and whom and what this server trusts."""

    policy: Policy
    trust: Trust
    models: KeyModels


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
    """One account that would be treated differently, in one situation."""

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


@dataclass(slots=True, kw_only=True)
class Effect:
    """What a change would do. `differences` and `stranded` are the first 200 of so many; `stranded` could sign in to
    the portal before by some way, and could not after. `own`: who asks is one of them. `nobody`: all are.

    `believed` counts the accounts with a card that the authority in question vouches for. `compared` is how many of
    the `accounts` there was time for.
    """

    accounts: int
    compared: int = 0
    treated_differently: int = 0
    differences: list[Difference] = field(default_factory=list)
    stranded_count: int = 0
    stranded: list[str] = field(default_factory=list)
    own: bool = False
    able_after: int = 0
    believed: int = 0

    @property
    def nobody(self) -> bool:
        return self.stranded_count > 0 and self.able_after == 0


@dataclass(frozen=True, slots=True)
class _Side:
    """An account in one situation: the ways in which it can begin, and its context with what its devices reach."""

    ways: tuple[Supposition, ...]
    context: Context


@dataclass(frozen=True, slots=True)
class _Subject:
    """An account in both situations."""

    account: Account
    before: _Side
    after: _Side


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """The same accounts in two situations, at one hour. Nothing unusual is noticed."""

    tx: Session
    before: Situation
    after: Situation
    now: dt.datetime

    def differences(self, account: Account) -> Iterator[Difference]:
        """Each way in which the account can begin today, at each client and from each network that a rule of either
        policy names, where the outcome or the methods differ."""
        yield from self._differences(self._subject(account))

    def effect(self, own: Account | None, address: str, seconds: float, *, issuer: str = "") -> Effect:
        """Of all accounts, that of who asks first: it is judged from its own `address`. None: an operator asks, who has
        no account. It takes `seconds` at most.

        `issuer` is the name of the authority in question, where it is about one."""
        everybody = accounts.everybody(self.tx)
        found, end = Effect(accounts=len(everybody)), time.monotonic() + seconds
        anywhere = sorted({place for _, place in self._places()})
        asks = None if own is None else own.id
        for account in sorted(everybody, key=lambda account: account.id != asks):
            if found.compared and time.monotonic() > end:
                break
            mine, subject = account.id == asks, self._subject(account)
            if issuer and any(proof.issuer == issuer for way in subject.before.ways for proof in way.proofs):
                found.believed += 1
            self._add(found, subject, [address] if mine else anywhere, own=mine)
        return found

    def _subject(self, account: Account) -> _Subject:
        context = context_of(self.tx, Case(user=account.username, at=self.now))
        before = self._side(account, context, self.before)
        same = self.before.trust is self.after.trust and self.before.models is self.after.models
        return _Subject(account, before, before if same else self._side(account, context, self.after))

    def _side(self, account: Account, context: Context, situation: Situation) -> _Side:
        held = tuple(holdings.of(self.tx, account, situation.trust, situation.models, self.now))
        ways = tuple(supposed.of_account(self.tx, account, held, self.now))
        return _Side(ways, replace(context, levels=levels_of(held)))

    def _places(self) -> Sequence[tuple[str, str]]:
        return tuple(_places(self.before.policy, self.after.policy))

    def _differences(self, subject: _Subject) -> Iterator[Difference]:
        for client, address in self._places():
            before, after = (_at(side, client, address) for side in (subject.before, subject.after))
            for way in subject.before.ways:
                old, new = _decided(self.before.policy, way, before), _decided(self.after.policy, way, after)
                if _told(old) != _told(new):
                    yield Difference(
                        user=subject.account.username,
                        evidence=way.name,
                        client=client,
                        address=address,
                        before=old,
                        after=new,
                    )

    def _add(self, found: Effect, subject: _Subject, addresses: Sequence[str], *, own: bool) -> None:
        found.compared += 1
        if self.before.policy is not self.after.policy:
            more = list(self._differences(subject))
            found.treated_differently += bool(more)
            found.differences += more[: MOST_TOLD - len(found.differences)]
        if subject.account.disabled:
            return
        if _gets_in(self.after.policy, subject.after, addresses):
            found.able_after += 1
        elif _gets_in(self.before.policy, subject.before, addresses):
            found.stranded_count += 1
            found.own = found.own or own
            if len(found.stranded) < MOST_TOLD:
                found.stranded.append(subject.account.username)


def context_of(tx: Session, case: Case) -> Context:
    """The context of a case, with what is known of its user. Raises `BadRequest` for one that nobody knows."""
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
    own, methods = (who.groups, who.enrolled) if who is not None else (frozenset[str](), frozenset[Method]())
    return Context(
        client=case.client,
        enrolled=methods | case.enrolled,
        groups=(own - {groups.UNENROLLED} if case.enrolled else own) | case.groups,
        now=case.at,
        account=account.username,
        address=case.address,
        signals=case.signals,
        since=account.created_at,
    )


def _gets_in(policy: Policy, side: _Side, addresses: Sequence[str]) -> bool:
    """Whether there is any way into the portal from any of these addresses."""
    places = [_at(side, PORTAL, address) for address in addresses]
    return any(_decided(policy, way, place).outcome is not Outcome.DENY for place in places for way in side.ways)


def _at(side: _Side, client: str, address: str) -> Context:
    return replace(side.context, client=client, address=address)


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
