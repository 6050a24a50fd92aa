"""`tokenbridge server app-client` and `app-password`."""

from __future__ import annotations

from pathlib import Path

import click

from tokenbridge.cli.server_output import as_json, columns, emit
from tokenbridge.server.operator import app_clients as desk
from tokenbridge.server.operator.app_clients import NewSecret
from tokenbridge.server.operator.office import opened


@click.group()
def app_client() -> None:
    """Programs that can do no second factor and check app passwords here: mail servers, web servers.

    \b
    Examples:
      tokenbridge server app-client add dovecot
      tokenbridge server app-client list
    """


@app_client.command()
@click.argument("name")
@as_json
@click.pass_obj
def add(data: Path | None, /, *, name: str, as_json: bool) -> None:
    """Let the program NAME check app passwords; prints its secret once. docs/app-passwords.md tells what to do with it.

    \b
    Examples:
      tokenbridge server app-client add dovecot
    """
    with opened(data) as office:
        _show(desk.add(office, name), as_json=as_json)


@app_client.command()
@click.argument("name")
@as_json
@click.pass_obj
def renew(data: Path | None, /, *, name: str, as_json: bool) -> None:
    """Make a new secret for the program NAME; the old one is void.

    \b
    Examples:
      tokenbridge server app-client renew dovecot
    """
    with opened(data) as office:
        _show(desk.renew(office, name), as_json=as_json)


@app_client.command()
@click.argument("name")
@click.pass_obj
def remove(data: Path | None, /, *, name: str) -> None:
    """Remove the program NAME with every app password that was made for it.

    \b
    Examples:
      tokenbridge server app-client remove dovecot
    """
    with opened(data) as office:
        desk.remove(office, name)
    click.echo(f"Removed {name}.")


@app_client.command("list")
@as_json
@click.pass_obj
def list_clients(data: Path | None, /, *, as_json: bool) -> None:
    """Show the programs, with the number of app passwords made for each.

    \b
    Examples:
      tokenbridge server app-client list
    """
    with opened(data) as office:
        found = desk.listed(office)
    if as_json:
        emit(found)
    else:
        columns(("program", "app passwords"), [(row["name"], row["app_passwords"]) for row in found])


@click.group()
def app_password() -> None:
    """App passwords of people. They are made by the people themselves; here they are looked at and revoked.

    \b
    Examples:
      tokenbridge server app-password list alice
      tokenbridge server app-password revoke alice --all
    """


@app_password.command("list")
@click.argument("user")
@as_json
@click.pass_obj
def list_passwords(data: Path | None, /, *, user: str, as_json: bool) -> None:
    """Show the app passwords of USER that are not revoked.

    \b
    Examples:
      tokenbridge server app-password list alice --json
    """
    with opened(data) as office:
        found = desk.passwords_of(office, user)
    if as_json:
        emit(found)
        return
    rows = [(row["id"], row["name"], row["client"], (row["last_used"] or "never")[:16]) for row in found]
    columns(("id", "name", "program", "last used"), rows)


@app_password.command()
@click.argument("user")
@click.argument("number", type=int, required=False)
@click.option("--all", "every", is_flag=True, help="All of them.")
@as_json
@click.pass_obj
def revoke(data: Path | None, /, *, user: str, number: int | None, every: bool, as_json: bool) -> None:
    """Revoke the app password NUMBER of USER, or all of them.

    \b
    Examples:
      tokenbridge server app-password revoke alice 3
      tokenbridge server app-password revoke alice --all
    """
    if every == (number is not None):
        raise click.UsageError("Give either a number or --all.")
    with opened(data) as office:
        count = desk.revoke(office, user, number)
    if as_json:
        emit({"username": user, "revoked": count})
    else:
        click.echo(f"Revoked: {count}.")


def _show(made: NewSecret, *, as_json: bool) -> None:
    if as_json:
        emit({"client": made.client, "secret": made.secret, "rule": made.rule})
        return
    click.echo(made.secret)
    click.echo(f"It is not shown again. {made.client} lets people in when the policy has a rule such as:", err=True)
    click.echo(f"\n{made.rule}", err=True)
