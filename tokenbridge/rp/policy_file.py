"""The policy file: TOML text to a `Policy`, with every fault named at its place. docs/policy.md explains the keys.

A file is taken whole or not at all. A key that nobody knows is a fault: a misspelt demand must not pass for none.
"""

from __future__ import annotations

import datetime as dt
import tomllib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final, TypeVar

from tokenbridge.errors import PolicyInvalid
from tokenbridge.rp.assurance import AAL
from tokenbridge.rp.policy_values import (
    CLIENT,
    TEXT,
    Fault,
    Zones,
    among,
    boolean,
    date,
    hours,
    level,
    list_of,
    matching,
    member,
    model,
    network,
    set_of,
    span,
    time_zone,
    whole,
)
from tokenbridge.rp.proof import DEVICES, FALLBACK_METHODS
from tokenbridge.rp.rules import FALLBACK, Enrolment, Exemption, Policy, Rule, Signal

MAX_BYTES: Final = 1 << 20
MAX_RULES: Final = 500
_T = TypeVar("_T")

AFTER_PASSWORD: Final = FALLBACK_METHODS | DEVICES
"""What can complete a sign-in, and what can be enrolled."""


def parse(text: str, *, zones: Zones) -> Policy:
    """The policy that `text` says. Raises `PolicyInvalid`, which lists all faults that were found."""
    try:
        if len(text.encode()) > MAX_BYTES:
            raise PolicyInvalid(["it is larger than 1 MiB"])
        document = tomllib.loads(text)
    except (ValueError, RecursionError) as err:  # ValueError: also of numbers with thousands of digits
        raise PolicyInvalid([f"it is not TOML: {err}"]) from err
    faults: list[str] = []
    top = _Table(document, "the file", faults)
    zone = top.take("timezone", lambda value: time_zone(value, zones), dt.UTC)
    rules = tuple(_rule(table, zone) for table in top.tables("rule"))
    exemptions = tuple(_exemption(table) for table in top.tables("exception"))
    top.finish()
    faults += _as_a_whole(rules, exemptions)
    if faults:
        raise PolicyInvalid(faults)
    return Policy(rules=rules, exemptions=exemptions, zone=zone)


def _rule(table: _Table, zone: dt.tzinfo) -> Rule:
    name = table.name()
    rule = Rule(
        name=name,
        clients=table.take("clients", set_of(matching(CLIENT)), frozenset()),
        groups=table.take("groups", set_of(matching(TEXT)), frozenset()),
        networks=table.take("networks", list_of(network), ()),
        hours=table.take("hours", list_of(hours), ()),
        signals=table.take("signals", set_of(member(Signal)), frozenset()),
        refuse=table.take("refuse", boolean, False),
        message=table.take("message", matching(TEXT), ""),
        minimum=table.take("aal", level, AAL.AAL2),
        phishing_resistant=table.take("phishing_resistant", boolean, False),
        hardware=table.take("hardware", boolean, False),
        allow_restricted=table.take("text_and_calls", boolean, True),
        models=table.take("models", set_of(model), frozenset()),
        refused_models=table.take("refused_models", set_of(model), frozenset()),
        max_age=table.take("max_age", span, None),
        idle=table.take("idle", span, None),
        overall=table.take("overall", span, None),
        fallback=table.take("fallback", list_of(among(AFTER_PASSWORD)), FALLBACK),
        withdraw_on=table.take("withdraw_on", set_of(member(Signal)), frozenset()),
        enrolment=table.take("enrol", lambda value: _enrolment(value, zone), None),
    )
    table.finish()
    table.faults += [f"{table.place}: {fault}" for fault in _contradictions(rule)]
    return rule


def _contradictions(rule: Rule) -> Iterator[str]:
    both = rule.models & rule.refused_models
    if both:
        yield f"models and refused_models both name {', '.join(sorted(both))}"
    if rule.idle is not None and rule.overall is not None and rule.idle > rule.overall:
        yield "idle is longer than overall"
    if rule.message and not rule.refuse:
        yield "message is for rules with refuse = true"
    # With withdraw_on a code is asked beside a device that is strong enough by itself.
    devices_only = (rule.minimum is AAL.AAL3 or rule.hardware or rule.phishing_resistant) and not rule.withdraw_on
    codes = [method for method in rule.fallback if method not in DEVICES]
    if devices_only and codes and rule.fallback != FALLBACK:
        yield f"fallback: {codes[0]} can never complete what the rule requires; list card or key only"


def _enrolment(value: object, zone: dt.tzinfo) -> Enrolment:
    faults: list[str] = []
    table = _Table(value if isinstance(value, dict) else {}, "its table", faults)
    any_of = table.take("any_of", list_of(among(AFTER_PASSWORD)), ())
    start = table.take("from", date, None)
    enrolment = Enrolment(
        any_of=any_of,
        grace=dt.timedelta(days=table.take("grace_days", whole(0, 3650), 0)),
        start=dt.datetime.combine(start, dt.time.min, zone) if start is not None else None,
    )
    table.finish()
    if faults or not any_of:
        raise Fault("; ".join(faults) or "it is a table with any_of = [methods], grace_days and from")
    return enrolment


def _exemption(table: _Table) -> Exemption:
    exemption = Exemption(
        account=table.must("account", matching(TEXT), "").casefold(),
        until=table.must("until", date, dt.date.min),
        reason=table.must("reason", matching(TEXT), ""),
        enrolment=table.take("no_enrolment", boolean, False),
        fallback=table.take("fallback", list_of(among(AFTER_PASSWORD)), ()),
    )
    table.finish()
    if not exemption.enrolment and not exemption.fallback:
        table.faults.append(f"{table.place}: it changes nothing: set no_enrolment = true or fallback = [methods]")
    return exemption


def _as_a_whole(rules: Sequence[Rule], exemptions: Sequence[Exemption]) -> Iterator[str]:
    if not rules:
        yield "there is no [[rule]]: nobody could sign in"
    for name, count in Counter(rule.name for rule in rules).items():
        if count > 1:
            yield f"{count} rules are called {name!r}: names stand in the audit trail and must differ"
    for account, count in Counter(item.account for item in exemptions).items():
        if count > 1:
            yield f"{count} exceptions are for {account!r}: write one"


class _Table:
    """One table of the file: values are taken out of it by name, and what is left over in the end is a fault."""

    def __init__(self, values: Mapping[str, Any], place: str, faults: list[str]) -> None:
        self.place = place
        self.faults = faults
        self._left = dict(values)

    def name(self) -> str:
        found: str = self.must("name", matching(TEXT), "")
        self.place = f"rule {found!r}" if found else self.place
        return found

    def take(self, key: str, read: Callable[[object], _T], default: _T | Any) -> Any:
        if key not in self._left:
            return default
        try:
            return read(self._left.pop(key))
        except Fault as fault:
            self.faults.append(f"{self.place}: {key}: {fault}")
            return default

    def must(self, key: str, read: Callable[[object], _T], default: _T) -> Any:
        if key not in self._left:
            self.faults.append(f"{self.place}: {key} is missing")
        return self.take(key, read, default)

    def tables(self, key: str) -> Iterator[_Table]:
        found = self._left.pop(key, [])
        if not isinstance(found, list) or not all(isinstance(item, dict) for item in found):
            self.faults.append(f"{key}: write it as [[{key}]]")
            return
        if len(found) > MAX_RULES:
            self.faults.append(f"there are more than {MAX_RULES} [[{key}]]")
            return
        yield from (_Table(item, f"{key} {number}", self.faults) for number, item in enumerate(found, 1))

    def finish(self) -> None:
        self.faults += [f"{self.place}: nobody knows the key {key!r}" for key in self._left]
