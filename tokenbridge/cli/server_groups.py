"""`tokenbridge server group`."""

from __future__ import annotations

from pathlib import Path

import click

from tokenbridge.cli.server_output import as_json, columns, emit
from tokenbridge.server.operator import groups
from tokenbridge.server.operator.groups import Change
from tokenbridge.server.operator.office import opened

users = click.argument("users", nargs=-1, required=True, metavar="USER...")


@click.group()
def group() -> None:
    """Groups of users, which rules of the policy refer to.

    \b
    Examples:
      tokenbridge server group add prescribers alice bob
      tokenbridge server group list
    """


@group.command()
@click.argument("name")
@users
@as_json
@click.pass_obj
def add(data: Path | None, /, *, name: str, users: tuple[str, ...], as_json: bool) -> None:
    """Put users into the group NAME. Who is in it already stays.

    \b
    Examples:
      tokenbridge server group add prescribers alice bob
    """
    with opened(data) as office:
        _say(groups.add(office, name, users), "Put into", as_json=as_json)


@group.command()
@click.argument("name")
@users
@as_json
@click.pass_obj
def remove(data: Path | None, /, *, name: str, users: tuple[str, ...], as_json: bool) -> None:
    """Take users out of the group NAME.

    \b
    Examples:
      tokenbridge server group remove prescribers bob
    """
    with opened(data) as office:
        _say(groups.remove(office, name, users), "Taken out of", as_json=as_json)


@group.command("list")
@click.argument("name", required=False)
@as_json
@click.pass_obj
def list_(data: Path | None, /, *, name: str | None, as_json: bool) -> None:
    """Show all groups, or who is in the group NAME.

    \b
    Examples:
      tokenbridge server group list
      tokenbridge server group list prescribers --json | jq -r .[].username
    """
    with opened(data) as office:
        if name is None:
            _show_all(groups.listed(office), as_json=as_json)
            return
        found = groups.members(office, name)
    if as_json:
        emit([{"username": account.username, "display_name": account.display_name} for account in found])
    else:
        columns(("user", "name"), [(account.username, account.display_name) for account in found])


def _show_all(found: list[tuple[str, int]], *, as_json: bool) -> None:
    if as_json:
        emit([{"name": name, "users": count} for name, count in found])
    else:
        columns(("group", "users"), found)


def _say(change: Change, verb: str, *, as_json: bool) -> None:
    if as_json:
        emit({"group": change.group, "changed": list(change.changed)})
    elif change.changed:
        click.echo(f"{verb} {change.group}: {', '.join(change.changed)}.")
    else:
        click.echo(f"Nothing to change in {change.group}.")
