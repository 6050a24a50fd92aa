"""`tokenbridge server report`: sign-ins counted, for people who answer for them."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Final

import click

from tokenbridge.cli.server_output import as_json, columns, emit
from tokenbridge.rp.wording import listing
from tokenbridge.server import statistics
from tokenbridge.server.operator.office import opened
from tokenbridge.server.statistics import MAX_DAYS, Statistics, Stranded

BAR: Final = 40
MOST: Final = 10


@click.command()
@click.option("--days", type=click.IntRange(1, MAX_DAYS), default=30, show_default=True, help="Up to today (UTC).")
@as_json
@click.pass_obj
def report(data: Path | None, /, *, days: int, as_json: bool) -> None:
    """Count sign-ins by method and level, challenges suppressed against challenges shown, failures by cause, and say
    who could not sign in without a phone.

    \b
    Examples:
      tokenbridge server report
      tokenbridge server report --days 7 --json | jq .totals
    """
    with opened(data) as office, office.database.read() as tx:
        found = statistics.of_days(tx, office.now().date(), days)
        stranded = list(statistics.without_a_phone(tx))
    if as_json:
        emit({**found.as_dict(), "without_a_phone": [one.username for one in stranded]})
        return
    _show(found)
    _show_stranded(stranded)


def _show(found: Statistics) -> None:
    totals = {name: found.total(name) for name in ("signed_in", "suppressed", "shown", "failed")}
    click.echo(f"Sign-ins: {totals['signed_in']}. Failed: {totals['failed']}.")
    click.echo(_bar("Challenges suppressed", totals["suppressed"], totals, "green"))
    click.echo(_bar("Challenges shown", totals["shown"], totals, "yellow"))
    levels = Counter({f"AAL{level}": count for level, count in sorted(found.by_level.items())})
    for head, counter in (("signed in with", found.by_method), ("level", levels), ("failed because", found.causes)):
        if counter:
            click.echo()
            columns((head, "times"), counter.most_common(MOST))


def _bar(name: str, count: int, totals: dict[str, int], colour: str) -> str:
    most = max(totals["suppressed"], totals["shown"], 1)
    bar = "█" * round(BAR * count / most)
    return f"{name:<22} {click.style(bar, fg=colour)} {count}"


def _show_stranded(stranded: list[Stranded]) -> None:
    click.echo()
    if not stranded:
        click.echo("Nobody depends on a phone alone.")
        return
    click.echo(f"{len(stranded)} could not sign in without their phone:")
    columns(
        ("user", "name", "has"), [(one.username, one.display_name, listing(one.enrolled, "and")) for one in stranded]
    )
