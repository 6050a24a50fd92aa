"""What the audit trail says about sign-ins, counted, for dashboard and report. It changes nothing."""

from __future__ import annotations

import datetime as dt
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from sqlalchemy.orm import Session

from tokenbridge.rp.proof import FALLBACK_METHODS, Method
from tokenbridge.server import login
from tokenbridge.server.people import everybody
from tokenbridge.server.store import audit
from tokenbridge.server.store.audit import Entry

MAX_DAYS: Final = 366

ON_A_PHONE: Final = frozenset({Method.TOTP, Method.NUMBER_MATCH, Method.SMS, Method.WHATSAPP, Method.VOICE})
"""Methods that are gone when the phone is."""

_FAILED: Final = frozenset({login.Recorded.REFUSED, login.Recorded.DENIED, login.Recorded.TOO_MANY})
_COUNTED: Final = (str(login.Recorded.SIGNED_IN), *sorted(map(str, _FAILED)))


@dataclass(slots=True, kw_only=True)
class Day:
    """One day (UTC). `suppressed`: sign-ins in which a fallback method was not asked though it is enrolled; `shown`:
    those in which one was asked."""

    day: dt.date
    signed_in: int = 0
    suppressed: int = 0
    shown: int = 0
    failed: int = 0


@dataclass(slots=True, kw_only=True)
class Statistics:
    """Counts over a span of days, each of which is in `days`.

    `by_method`: what people signed in with, as the methods together (`password+totp`). `by_level`: 1 to 3. `causes`:
    why sign-ins failed, as the trail says it.
    """

    days: list[Day]
    by_method: Counter[str] = field(default_factory=Counter)
    by_level: Counter[int] = field(default_factory=Counter)
    suppressed_methods: Counter[str] = field(default_factory=Counter)
    causes: Counter[str] = field(default_factory=Counter)

    def total(self, what: str) -> int:
        return sum(getattr(day, what) for day in self.days)

    def as_dict(self) -> dict[str, Any]:
        """JSON types."""
        names = ("signed_in", "suppressed", "shown", "failed")
        return {
            "totals": {name: self.total(name) for name in names},
            "days": [{"day": day.day.isoformat(), **{name: getattr(day, name) for name in names}} for day in self.days],
            "by_method": dict(self.by_method.most_common()),
            "by_level": {str(level): count for level, count in sorted(self.by_level.items())},
            "suppressed_methods": dict(self.suppressed_methods.most_common()),
            "causes": dict(self.causes.most_common()),
        }


def of_days(tx: Session, today: dt.date, days: int, *, organisations: frozenset[str] | None = None) -> Statistics:
    """The last `days` days, `today` included; 1 to 366. `organisations`: only their accounts."""
    span = min(max(days, 1), MAX_DAYS)
    first = today - dt.timedelta(days=span - 1)
    search = audit.Search(events=_COUNTED, organisations=organisations)
    return count(audit.of_span(tx, first, today, search), first, today)


def count(entries: Iterable[Entry], first: dt.date, last: dt.date) -> Statistics:
    """Count what happened from `first` to `last`; entries of other days are left out."""
    days = {first + dt.timedelta(days=number): number for number in range((last - first).days + 1)}
    found = Statistics(days=[Day(day=day) for day in days])
    for entry in entries:
        number = days.get(dt.datetime.fromisoformat(entry.at).date())
        if number is not None:
            _count(found, found.days[number], entry)
    return found


def _count(found: Statistics, day: Day, entry: Entry) -> None:
    detail = entry.detail
    if entry.event == login.Recorded.SIGNED_IN:
        methods = [str(method) for method in detail.get("methods", ())]
        day.signed_in += 1
        found.by_method["+".join(methods)] += 1
        found.by_level[int(detail.get("assurance", {}).get("aal", 0))] += 1
        if detail.get("suppressed"):
            day.suppressed += 1
            found.suppressed_methods.update(detail["suppressed"])
        elif FALLBACK_METHODS.intersection(methods):
            day.shown += 1
    elif entry.event in _FAILED:
        day.failed += 1
        found.causes[_cause(entry)] += 1


def _cause(entry: Entry) -> str:
    detail = entry.detail
    if entry.event == login.Recorded.DENIED:
        return f"policy: {next(iter(detail.get('reasons', ())), 'denied')}"
    return str(detail.get("detail") or entry.event)[:100]


@dataclass(frozen=True, slots=True, kw_only=True)
class Stranded:
    """An account that its owner could not sign in to on the day without phone, and why."""

    id: int
    username: str
    display_name: str
    enrolled: tuple[Method, ...]


def without_a_phone(tx: Session, *, organisations: frozenset[str] | None = None) -> Iterator[Stranded]:
    """Who has fallback methods on a phone only, and neither card, key nor recovery codes; by user name."""
    for who in everybody(tx, organisations):
        if not who.disabled and who.enrolled and who.enrolled <= ON_A_PHONE:
            enrolled = tuple(method for method in Method if method in who.enrolled)
            yield Stranded(id=who.id, username=who.username, display_name=who.display_name, enrolled=enrolled)
