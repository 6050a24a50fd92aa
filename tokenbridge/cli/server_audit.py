"""`tokenbridge server audit`: show the trail, or verify its chain."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

import click

from tokenbridge.cli.server_output import as_json, emit
from tokenbridge.errors import SetupError
from tokenbridge.server.operator.follow import following
from tokenbridge.server.operator.office import Office, opened
from tokenbridge.server.store import accounts
from tokenbridge.server.store import audit as trail
from tokenbridge.server.store.audit import Entry, Search

COLOURS: Final = {
    "signed-in": "green",
    "challenged": "yellow",
    "refused": "red",
    "denied": "red",
    "too-many-attempts": "red",
    "rate-limited": "red",
    "key-copied": "red",
    "key-refused": "red",
}
TOLD: Final = ("detail", "name", "subject", "label", "client")
"""Members of an entry's detail that are shown when there is no sentence."""


day = click.DateTime(["%Y-%m-%d"])


@click.command()
@click.option("--verify", is_flag=True, help="Recompute the hash chain; fails when a row was changed or removed.")
@click.option("--user", default="", help="Only what concerns this user.")
@click.option("--event", default="", help="Only events of this name, such as refused.")
@click.option("--text", default="", help="Only rows whose detail holds this text.")
@click.option("--since", type=day, help="Only from this day on (UTC).")
@click.option("--until", type=day, help="Only to this day (UTC), itself included.")
@click.option("--limit", type=click.IntRange(1, 1_000_000), default=200, show_default=True, help="Newest rows.")
@click.option("--follow", "-f", is_flag=True, help="Go on with new rows as they are written, until Ctrl-C.")
@as_json
@click.pass_obj
def audit(data: Path | None, /, *, verify: bool, limit: int, follow: bool, as_json: bool, **wanted: Any) -> None:
    """Show the audit trail, oldest first, search it, export it as JSON lines, or verify it.

    \b
    Examples:
      tokenbridge server audit --user alice
      tokenbridge server audit --follow --limit 10
      tokenbridge server audit --event refused --since 2026-11-01 --until 2026-11-30
      tokenbridge server audit --json --limit 1000000 > audit.jsonl
      tokenbridge server audit --verify
    """
    with opened(data) as office:
        if verify:
            _verify(office, as_json=as_json)
            return
        show = partial(_show, as_json=as_json)
        search = _search(**wanted)
        with office.database.read() as tx:
            found, last = trail.entries(tx, search=search, limit=limit), trail.last(tx)
        show(found)
        if follow:
            for new in following(office.database, after=last, search=search):
                show(new)


def _search(*, user: str, event: str, text: str, since: dt.datetime | None, until: dt.datetime | None) -> Search:
    return Search(
        account=accounts.normal(user),
        event=event,
        text=text,
        since=since.replace(tzinfo=dt.UTC) if since is not None else None,
        until=until.replace(tzinfo=dt.UTC) + dt.timedelta(days=1) if until is not None else None,
    )


def _show(entries: Sequence[Entry], *, as_json: bool) -> None:
    for entry in entries:
        if as_json:
            emit(entry.as_dict())
        else:
            click.echo(_line(entry))


def _verify(office: Office, *, as_json: bool) -> None:
    with office.database.read() as tx:
        verdict = trail.verify(tx, office.ring)
    if verdict.broken_at is not None:
        raise SetupError(
            f"The audit trail is broken: {verdict.what}.",
            next_step="Keep a copy of the database and find out who could write to it.",
        )
    if as_json:
        emit({"rows": verdict.rows, "intact": True})
    else:
        click.echo(f"The audit trail is intact: {verdict.rows} rows.")


def _line(entry: Entry) -> str:
    colour = COLOURS.get(entry.event)
    when = click.style(f"{entry.seq:>5}  {entry.at[:19].replace('T', ' ')}", dim=True)
    event = click.style(f"{entry.event:<17}", fg=colour)
    return f"{when}  {event} {entry.account or '-':<10} {_told(entry.detail)}".rstrip()


def _told(detail: dict[str, Any]) -> str:
    """The sentence of a decision, else what a person would ask first; everything is in `--json`."""
    if "sentence" in detail:
        return str(detail["sentence"])
    return ", ".join(str(detail[key]) for key in TOLD if detail.get(key))
