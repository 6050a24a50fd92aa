"""`tokenbridge server key`: registered security keys, and which models are accepted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from tokenbridge.cli.plain import plain
from tokenbridge.cli.server_output import as_json, columns, emit
from tokenbridge.cli.server_suspensions import lift_command, suspend_command
from tokenbridge.server.operator import metadata, security_keys
from tokenbridge.server.operator.office import opened
from tokenbridge.server.store.suspensions import Kind


@click.group()
def key() -> None:
    """Security keys that sign in to accounts.

    \b
    Examples:
      tokenbridge server user enrolment-code alice
      tokenbridge server key list alice
      tokenbridge server key models
    """


@key.command("list")
@click.argument("user", required=False)
@as_json
@click.pass_obj
def list_(data: Path | None, user: str | None, as_json: bool) -> None:
    """Show registered keys, of one user or of all, and what each reaches today.

    \b
    Examples:
      tokenbridge server key list
      tokenbridge server key list alice --json | jq '.[] | select(.level < 3)'
    """
    with opened(data) as office:
        found = security_keys.keys_of(office, user)
    if as_json:
        emit(found)
        return
    rows = [
        (
            one["id"],
            one["username"],
            plain(one["name"]),
            plain(one["model"]) or one["aaguid"],
            "suspended" if one["suspended_at"] else f"AAL{one['level']}" if one["level"] else "not accepted",
            (one["last_used"] or "never")[:16].replace("T", " "),
        )
        for one in found
    ]
    columns(("ID", "USER", "NAME", "MODEL", "LEVEL", "LAST USED (UTC)"), rows)


@key.command()
@click.argument("key_id", type=int, metavar="ID")
@click.argument("name")
@as_json
@click.pass_obj
def rename(data: Path | None, key_id: int, name: str, as_json: bool) -> None:
    """Give a key another name; ID as in `key list`.

    \b
    Examples:
      tokenbridge server key rename 3 "blue key"
    """
    with opened(data) as office:
        stored = security_keys.rename(office, key_id, name)
    if as_json:
        emit({"id": key_id, "name": stored})
    else:
        click.echo(f"Key {key_id} is now called {stored}.")


@key.command()
@click.argument("key_id", type=int, metavar="ID")
@click.option("--last", is_flag=True, help="Also if nothing but the password would be left.")
@as_json
@click.pass_obj
def remove(data: Path | None, key_id: int, last: bool, as_json: bool) -> None:
    """Forget a key, such as a lost one. All sessions of its owner end.

    \b
    Examples:
      tokenbridge server key remove 3
      tokenbridge server key remove 3 --last
    """
    with opened(data) as office:
        owner = security_keys.remove(office, key_id, last=last)
    if as_json:
        emit({"removed": key_id, "username": owner})
    else:
        click.echo(f"Removed key {key_id} of {owner}.")


@key.command()
@click.argument("search", default="")
@as_json
@click.pass_obj
def models(data: Path | None, search: str, as_json: bool) -> None:
    """Show the rules for models of keys, and what metadata says of each model; SEARCH is a part of a name or AAGUID.

    \b
    Examples:
      tokenbridge server key models
      tokenbridge server key models "yubikey 5" --json
    """
    with opened(data) as office:
        rules, found = metadata.rules(office), metadata.models(office, search)
    if as_json:
        emit({"rules": rules, "models": found})
        return
    for name, value in rules.items():
        click.echo(f"{name}: {_told(value)}")
    rows = [
        (one["aaguid"] or "(U2F)", one["level"] or "-", one["standing"], plain(one["name"]))
        for one in sorted(found, key=lambda one: str(one["name"]))
    ]
    click.echo()
    columns(("AAGUID", "CERTIFIED", "STANDING", "MODEL"), rows)


key.add_command(suspend_command(Kind.KEY))
key.add_command(lift_command(Kind.KEY))


def _told(value: Any) -> str:
    match value:
        case list():
            return ", ".join(map(str, value)) or "(none)"
        case bool():
            return "yes" if value else "no"
        case None:
            return "(none)"
        case _:
            return str(value)
