"""`tokenbridge server key|card suspend` and `lift`."""

from __future__ import annotations

from pathlib import Path

import click

from tokenbridge.cli.plain import plain
from tokenbridge.cli.server_output import as_json, emit
from tokenbridge.server.operator import suspensions
from tokenbridge.server.operator.office import opened
from tokenbridge.server.operator.suspensions import Changed
from tokenbridge.server.store.suspensions import Kind


def suspend_command(kind: Kind) -> click.Command:
    """`suspend ID`, of keys or cards."""
    text = f"""Take a {kind} out of use that may be found again; ID as in `{kind} list`. Sessions that it opened end.

    \b
    Examples:
      tokenbridge server {kind} suspend 3
    """
    return _command("suspend", kind, text, suspended=True)


def lift_command(kind: Kind) -> click.Command:
    """`lift ID`, of keys or cards."""
    text = f"""Let a suspended {kind} sign in again; ID as in `{kind} list`.

    \b
    Examples:
      tokenbridge server {kind} lift 3
    """
    return _command("lift", kind, text, suspended=False)


def _command(name: str, kind: Kind, text: str, *, suspended: bool) -> click.Command:
    @click.command(name, help=text)
    @click.argument("number", type=click.IntRange(min=1), metavar="ID")
    @as_json
    @click.pass_obj
    def run(data: Path | None, number: int, as_json: bool) -> None:
        with opened(data) as office:
            tell_suspension(suspensions.set_suspended(office, kind, number, suspended=suspended), as_json=as_json)

    return run


def tell_suspension(done: Changed, *, as_json: bool) -> None:
    """What was done, or was so already."""
    if as_json:
        emit({name: getattr(done, name) for name in done.__slots__})
        return
    name, state = plain(done.name), "suspended" if done.suspended else "in use"
    if not done.changed:
        click.echo(f"Of {done.username}, {name}: {state} already.")
        return
    click.echo(f"Of {done.username}, {name}: {state} from now on.")
    if done.sessions_ended:
        click.echo(f"Sessions ended: {done.sessions_ended}.")
