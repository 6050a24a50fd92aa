"""`tokenbridge server phone` and `tokenbridge server outbox`."""

from __future__ import annotations

from pathlib import Path

import click

from tokenbridge.cli.server_output import as_json, columns, emit
from tokenbridge.server.operator import telephones
from tokenbridge.server.operator.office import opened


@click.group()
def phone() -> None:
    """Telephone numbers that people have set up for codes, and their phone apps.

    \b
    Examples:
      tokenbridge server phone list alice
      tokenbridge server phone remove alice 3
      tokenbridge server phone apps alice
      tokenbridge server phone remove-app alice 2
    """


@phone.command("list")
@click.argument("user")
@as_json
@click.pass_obj
def list_(data: Path | None, /, *, user: str, as_json: bool) -> None:
    """Show the confirmed numbers of USER, masked.

    \b
    Examples:
      tokenbridge server phone list alice --json | jq .[].id
    """
    with opened(data) as office:
        found = telephones.listed(office, user)
    if as_json:
        emit([{"id": item.id, "number": item.number, "methods": list(item.methods)} for item in found])
    else:
        columns(("id", "number", "methods"), [(item.id, item.number, ", ".join(item.methods)) for item in found])


@phone.command()
@click.argument("user")
@click.argument("phone_id", metavar="ID", type=int)
@as_json
@click.pass_obj
def remove(data: Path | None, /, *, user: str, phone_id: int, as_json: bool) -> None:
    """Remove the number ID of USER, because the telephone was lost for instance. The user's sessions end.

    \b
    Examples:
      tokenbridge server phone remove alice 3
    """
    with opened(data) as office:
        ended = telephones.remove(office, user, phone_id)
    _removed(phone_id, ended, as_json=as_json)


@phone.command()
@click.argument("user")
@as_json
@click.pass_obj
def apps(data: Path | None, /, *, user: str, as_json: bool) -> None:
    """Show the phone apps of USER that approve sign-ins by a number.

    \b
    Examples:
      tokenbridge server phone apps alice
    """
    with opened(data) as office:
        found = telephones.apps(office, user)
    if as_json:
        emit([{"id": row.id, "name": row.name, "device": row.device} for row in found])
    else:
        columns(("id", "name", "device"), [(row.id, row.name, row.device) for row in found])


@phone.command("remove-app")
@click.argument("user")
@click.argument("app_id", metavar="ID", type=int)
@as_json
@click.pass_obj
def remove_app(data: Path | None, /, *, user: str, app_id: int, as_json: bool) -> None:
    """Remove the phone app ID of USER, because the telephone was lost for instance. The user's sessions end.

    \b
    Examples:
      tokenbridge server phone remove-app alice 2
    """
    with opened(data) as office:
        ended = telephones.remove_app(office, user, app_id)
    _removed(app_id, ended, as_json=as_json)


def _removed(number: int, ended: int, *, as_json: bool) -> None:
    if as_json:
        emit({"removed": number, "sessions_ended": ended})
    else:
        click.echo(f"Removed. Sessions that ended: {ended}.")


@click.command()
@as_json
@click.pass_obj
def outbox(data: Path | None, /, *, as_json: bool) -> None:
    """Show what the development outbox holds instead of sending it.

    \b
    Examples:
      tokenbridge server outbox
      tokenbridge server outbox --json | jq -r .[0].text
    """
    with opened(data) as office:
        found = telephones.messages(office)
    if as_json:
        emit(found)
        return
    for item in found:
        click.echo(f"{item['at'][:19]}  {item['channel']} to {item['to']}  {item['subject']}".rstrip())
        click.echo("".join(f"    {line}\n" for line in item["text"].splitlines()))
