"""Numbers as shapes: where the bars of a plot stand. The templates draw them as SVG, without any script or style."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from tokenbridge.rp.proof import Method
from tokenbridge.rp.wording import NAMES
from tokenbridge.server.statistics import Day, Statistics

MOST_BARS: Final = 12
HEIGHT: Final = 100
COLUMN: Final = 10
"""Units of a day's width, in the plot's own measure: two bars of 4 and a gap."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """One row of a bar plot; `percent` of the longest."""

    label: str
    count: int
    percent: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """Two bars of one day, as (x, y, height) each; y grows downwards."""

    day: Day
    suppressed: tuple[int, float, float]
    shown: tuple[int, float, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Columns:
    """`most` is the number at the top of the plot."""

    width: int
    most: int
    columns: tuple[Column, ...]


def columns(days: Sequence[Day]) -> Columns:
    """Challenges suppressed beside challenges shown, day by day."""
    most = max((max(day.suppressed, day.shown) for day in days), default=0)
    made = (
        Column(
            day=day,
            suppressed=_upright(at * COLUMN + 1, day.suppressed, most),
            shown=_upright(at * COLUMN + 5, day.shown, most),
        )
        for at, day in enumerate(days)
    )
    return Columns(width=len(days) * COLUMN, most=most, columns=tuple(made))


def _upright(x: int, count: int, most: int) -> tuple[int, float, float]:
    height = round(HEIGHT * count / most, 2) if most else 0.0
    return x, round(HEIGHT - height, 2), height


def by_method(found: Statistics) -> tuple[Bar, ...]:
    return _bars((_methods(name), count) for name, count in found.by_method.most_common())


def by_level(found: Statistics) -> tuple[Bar, ...]:
    return _bars((f"AAL{level}", count) for level, count in sorted(found.by_level.items()))


def by_cause(found: Statistics) -> tuple[Bar, ...]:
    return _bars(found.causes.most_common())


def _bars(counted: Iterable[tuple[str, int]]) -> tuple[Bar, ...]:
    """The first ones as they come, all others together in the last."""
    rows = list(counted)
    kept, rest = rows[:MOST_BARS], rows[MOST_BARS:]
    if rest:
        kept.append((f"{len(rest)} others", sum(count for _, count in rest)))
    most = max(Counter(dict(kept)).values(), default=0)
    return tuple(Bar(label=label, count=count, percent=round(100 * count / most, 2)) for label, count in kept)


def _methods(joined: str) -> str:
    """`password+totp` in words."""
    known = {str(method): NAMES[method] for method in Method}
    text = " and ".join(known.get(name, name) for name in joined.split("+"))
    return text[:1].upper() + text[1:]
