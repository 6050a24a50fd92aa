"""The policy as data: rules with their conditions and demands, exceptions for one account, limits. It decides nothing.

`policy_file` reads it from TOML, `policy` decides by it. docs/policy.md explains every key to operators.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum, unique
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from types import MappingProxyType
from typing import Final, TypeAlias

from tokenbridge.rp.assurance import AAL
from tokenbridge.rp.proof import DEVICES, Method, Proof

Address: TypeAlias = IPv4Address | IPv6Address
Network: TypeAlias = IPv4Network | IPv6Network

PORTAL: Final = "portal"
"""The client name of the self-service portal, where people set up what they lack."""

DAYS: Final = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")


FALLBACK: Final = (
    Method.KEY,
    Method.NUMBER_MATCH,
    Method.TOTP,
    Method.WHATSAPP,
    Method.SMS,
    Method.VOICE,
    Method.RECOVERY,
)
"""What may complete a sign-in where the policy does not say: everything that a person has, the best first."""


@unique
class Signal(StrEnum):
    """What can be unusual about a sign-in."""

    NEW_DEVICE = "new-device"
    NEW_NETWORK = "new-network"
    NEW_COUNTRY = "new-country"
    IMPOSSIBLE_TRAVEL = "impossible-travel"
    MANY_FAILURES = "many-failures"


@dataclass(frozen=True, slots=True, kw_only=True)
class Hours:
    """From `start` to before `end` on `days` (0 is Monday). An `end` that is not later lies on the next day."""

    days: frozenset[int] = frozenset(range(7))
    start: dt.time = dt.time.min
    end: dt.time = dt.time.min

    def __contains__(self, local: dt.datetime) -> bool:
        at, today = local.time(), local.weekday()
        if self.start < self.end:
            return today in self.days and self.start <= at < self.end
        return (today in self.days and at >= self.start) or ((today - 1) % 7 in self.days and at < self.end)

    def __str__(self) -> str:
        return f"{','.join(DAYS[day] for day in sorted(self.days))} {self.start:%H:%M}-{self.end:%H:%M}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Enrolment:
    """One of `any_of` must be enrolled, even if it is never prompted: `grace` after the account was made at the latest,
    or after `start` for accounts that are older than that."""

    any_of: tuple[Method, ...]
    grace: dt.timedelta = dt.timedelta()
    start: dt.datetime | None = None

    def due(self, since: dt.datetime) -> dt.datetime:
        """The deadline of an account that was made at `since`."""
        return max(since, self.start or since) + self.grace


@dataclass(frozen=True, slots=True, kw_only=True)
class Lifetimes:
    """How long a session lives without use, and at most."""

    idle: dt.timedelta
    overall: dt.timedelta


LIFETIMES: Final[Mapping[AAL, Lifetimes]] = MappingProxyType(
    {
        # SP 800-63B-4, sections 2.2.3 and 2.3.3. AAL1 could be longer; nothing here gains by it.
        AAL.AAL1: Lifetimes(idle=dt.timedelta(hours=1), overall=dt.timedelta(hours=24)),
        AAL.AAL2: Lifetimes(idle=dt.timedelta(hours=1), overall=dt.timedelta(hours=24)),
        AAL.AAL3: Lifetimes(idle=dt.timedelta(minutes=15), overall=dt.timedelta(hours=12)),
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """What is required of whom. A condition that is empty holds for everybody.

    `fallback` lists, best first, the methods that may complete a sign-in that is too weak. `models` and
    `refused_models` name devices as `Proof.model` does, or all of a kind: `card:*`, `key:*`. Evidence older than
    `max_age` does not count. With a signal of `withdraw_on` a device alone does not suppress the challenge.
    `refuse`: nobody gets in by this rule; `message` then tells people why.
    """

    name: str
    clients: frozenset[str] = frozenset()
    groups: frozenset[str] = frozenset()
    networks: tuple[Network, ...] = ()
    hours: tuple[Hours, ...] = ()
    signals: frozenset[Signal] = frozenset()
    refuse: bool = False
    message: str = ""
    minimum: AAL = AAL.AAL2
    phishing_resistant: bool = False
    hardware: bool = False
    allow_restricted: bool = True
    models: frozenset[str] = frozenset()
    refused_models: frozenset[str] = frozenset()
    max_age: dt.timedelta | None = None
    idle: dt.timedelta | None = None
    overall: dt.timedelta | None = None
    fallback: tuple[Method, ...] = FALLBACK
    withdraw_on: frozenset[Signal] = frozenset()
    enrolment: Enrolment | None = None

    def lifetimes(self, aal: AAL) -> Lifetimes:
        usual = LIFETIMES[max(aal, AAL.AAL1)]
        overall = self.overall or usual.overall
        return Lifetimes(idle=min(self.idle or usual.idle, overall), overall=overall)

    def accepts(self, proof: Proof) -> bool:
        """Whether the model of the device may be used; other methods have none."""
        if proof.method not in DEVICES:
            return True
        names = {proof.model, f"{proof.method}:*"}
        return not names & self.refused_models and (not self.models or bool(names & self.models))


@dataclass(frozen=True, slots=True, kw_only=True)
class Exemption:
    """An exception for one account until the end of the day `until`. It never lowers what must be proved."""

    account: str
    until: dt.date
    reason: str
    enrolment: bool = False
    fallback: tuple[Method, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """Rules in order, the first that matches decides; what no rule matches is denied. `zone` is for hours and days."""

    rules: tuple[Rule, ...]
    exemptions: tuple[Exemption, ...] = ()
    zone: dt.tzinfo = dt.UTC

    def rule_for(self, context: Context) -> Rule | None:
        return next((rule for rule in self.rules if matches(rule, context, self.zone)), None)

    def exemption(self, context: Context) -> Exemption | None:
        today = context.now.astimezone(self.zone).date()
        found = (item for item in self.exemptions if item.account == context.account and today <= item.until)
        return next(found, None) if context.account else None

    def demands_on(self, rule: Rule, context: Context) -> Rule:
        """`rule` as it is for this account."""
        exemption = self.exemption(context)
        if exemption is None:
            return rule
        more = tuple(method for method in exemption.fallback if method not in rule.fallback)
        return replace(
            rule, fallback=(*rule.fallback, *more), enrolment=None if exemption.enrolment else rule.enrolment
        )


DEFAULT_POLICY: Final = Policy(rules=(Rule(name="default"),))
"""Two factors for everybody, without a policy file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """Who asks from where.

    `enrolled` holds the account's methods beside its password; None: account not known yet. `levels`: what its own
    devices reach at best, where that was looked up. `address` is the network address, empty when there is none;
    `since` is when the account was made.
    """

    client: str
    enrolled: frozenset[Method] | None
    groups: frozenset[str] = frozenset()
    now: dt.datetime
    account: str = ""
    address: str = ""
    signals: frozenset[Signal] = frozenset()
    since: dt.datetime | None = None
    levels: Mapping[Method, AAL] = field(default_factory=dict)

    def has(self, method: Method) -> bool:
        return self.enrolled is None or method in self.enrolled


def matches(rule: Rule, context: Context, zone: dt.tzinfo) -> bool:
    return next(mismatches(rule, context, zone), None) is None


def mismatches(rule: Rule, context: Context, zone: dt.tzinfo) -> Iterator[str]:
    """Why `rule` is not about this sign-in, in words; nothing when it is."""
    if rule.clients and context.client not in rule.clients:
        yield f"the client is {context.client!r}, not {_either(rule.clients)}"
    if rule.groups and not rule.groups & context.groups:
        yield f"the account is not in {_either(rule.groups)}"
    if rule.networks and not _within(context.address, rule.networks):
        place = context.address or "not known"
        yield f"the network address is {place}, not in {_either(map(str, rule.networks))}"
    local = context.now.astimezone(zone)
    if rule.hours and not any(local in hours for hours in rule.hours):
        yield f"it is {DAYS[local.weekday()]} {local:%H:%M}, outside {_either(map(str, rule.hours))}"
    if rule.signals and not rule.signals & context.signals:
        yield f"nothing of {_either(rule.signals)} was noticed"


def _within(address: str, networks: tuple[Network, ...]) -> bool:
    try:
        found: Address = ip_address(address)
    except ValueError:
        return False
    # A client that reaches a dual-stack socket by IPv4 is still in its IPv4 network (RFC 4291 section 2.5.5.2).
    mapped = found.ipv4_mapped if isinstance(found, IPv6Address) else None
    return any((mapped or found) in network for network in networks)


def _either(names: Iterator[str] | frozenset[str]) -> str:
    return " or ".join(sorted(names))
