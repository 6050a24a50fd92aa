"""Values of the policy file: one reader each, which gives the value or raises `Fault` with what is wrong in words."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Callable, Iterable
from enum import Enum
from ipaddress import ip_network
from typing import Final, TypeVar

from tokenbridge.rp.assurance import AAL
from tokenbridge.rp.rules import DAYS, Hours, Network

MAX_ITEMS: Final = 1_000
"""Entries of one list. A directory of people belongs in groups, not in a policy."""

MAX_SPAN_DAYS: Final = 400

CLIENT: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")
TEXT: Final = re.compile(r"[^\x00-\x1f\x7f]{1,256}")

Zones = Callable[[str], dt.tzinfo]
"""Finds a time zone by its name, and raises `ValueError` or `LookupError` when there is none (`zoneinfo.ZoneInfo`)."""

_E = TypeVar("_E", bound=Enum)
_T = TypeVar("_T")

_SPAN: Final = re.compile(r"([0-9]{1,6})(s|m|h|d)")
_UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_HOURS: Final = re.compile(r"(?:([a-z,\- ]{1,64}) +)?([0-9]{2}:[0-9]{2})-([0-9]{2}:[0-9]{2})")
_MODEL: Final = re.compile(
    r"card:(?:\*|[^\x00-\x1f\x7f]{1,128})|key:(?:\*|[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12})"
)


class Fault(Exception):
    """What is wrong with one value. The reader of the file adds where."""


def boolean(value: object) -> bool:
    if not isinstance(value, bool):
        raise Fault("write true or false")
    return value


def whole(least: int, most: int) -> Callable[[object], int]:
    def read(value: object) -> int:
        if type(value) is not int or not least <= value <= most:
            raise Fault(f"write a whole number from {least} to {most}")
        return value

    return read


def level(value: object) -> AAL:
    return AAL(whole(1, 3)(value))


def date(value: object) -> dt.date:
    if type(value) is not dt.date:
        raise Fault("write a date without quotation marks, such as 2026-12-31")
    return value


def span(value: object) -> dt.timedelta:
    found = _SPAN.fullmatch(value) if isinstance(value, str) else None
    seconds = int(found[1]) * _UNITS[found[2]] if found else 0
    if not 0 < seconds <= 400 * 86_400:
        raise Fault('write a span such as "90s", "15m", "12h" or "30d"')
    return dt.timedelta(seconds=seconds)


def matching(pattern: re.Pattern[str]) -> Callable[[object], str]:
    def read(value: object) -> str:
        if not isinstance(value, str) or not pattern.fullmatch(value):
            raise Fault(f"{value!r} can't be used here")
        return value

    return read


def model(value: object) -> str:
    if not isinstance(value, str) or not _MODEL.fullmatch(value):
        raise Fault(f'{value!r} names no model: write "card:NAME OF THE TRUST ANCHOR", "key:AAGUID" or "key:*"')
    return value


def member(enum: type[_E]) -> Callable[[object], _E]:
    return among(frozenset(enum))


def among(members: frozenset[_E]) -> Callable[[object], _E]:
    by_word = {str(member.value): member for member in members}

    def read(value: object) -> _E:
        if not isinstance(value, str) or value not in by_word:
            raise Fault(f"{value!r} is none of {', '.join(sorted(by_word))}")
        return by_word[value]

    return read


def _items(value: object) -> Iterable[object]:
    if not isinstance(value, list) or not value:
        raise Fault("write a list with something in it")
    if len(value) > MAX_ITEMS:
        raise Fault(f"it has more than {MAX_ITEMS} entries")
    return value


def set_of(read: Callable[[object], _T]) -> Callable[[object], frozenset[_T]]:
    return lambda value: frozenset(list_of(read)(value))


def list_of(read: Callable[[object], _T]) -> Callable[[object], tuple[_T, ...]]:
    def read_all(value: object) -> tuple[_T, ...]:
        found = tuple(read(item) for item in _items(value))
        if len(set(found)) < len(found):
            raise Fault("an entry stands there twice")
        return found

    return read_all


def network(value: object) -> Network:
    try:
        return ip_network(str(value))
    except ValueError as err:
        raise Fault(f"{value!r} is no network: {err}") from err


def time_zone(value: object, zones: Zones) -> dt.tzinfo:
    try:
        return zones(value if isinstance(value, str) else "")
    except (ValueError, LookupError) as err:
        raise Fault(f"{value!r} is no time zone; write a name such as Europe/London") from err


def hours(value: object) -> Hours:
    found = _HOURS.fullmatch(value) if isinstance(value, str) else None
    if found is None:
        raise Fault(f'{value!r}: write days and hours such as "mon-fri 07:00-19:00"')
    try:
        start, end = (dt.time.fromisoformat(part) for part in found.groups()[1:])
    except ValueError as err:
        raise Fault(f"{value!r}: {err}") from err
    return Hours(days=_days(found[1]), start=start, end=end)


def _days(text: str | None) -> frozenset[int]:
    days: set[int] = set()
    for part in (text or "mon-sun").replace(" ", "").split(","):
        first, _, last = part.partition("-")
        if first not in DAYS or (last or first) not in DAYS:
            raise Fault(f"{part!r} is no day: write {', '.join(DAYS)}")
        begin, end = DAYS.index(first), DAYS.index(last or first)
        days.update((begin + step) % 7 for step in range((end - begin) % 7 + 1))
    return frozenset(days)
