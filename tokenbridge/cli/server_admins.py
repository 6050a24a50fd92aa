"""`tokenbridge server admin`."""

from __future__ import annotations

from pathlib import Path

import click

from tokenbridge.cli.server_output import as_json, columns, emit
from tokenbridge.server.operator import admins
from tokenbridge.server.operator.office import opened
from tokenbridge.server.store.roles import Role

role_option = click.option("--role", type=click.Choice([str(role) for role in Role]), required=True)
organisation_option = click.option(
    "--organisation", help="Only for accounts of this organisation [default: the whole site]."
)


@click.group()
def admin() -> None:
    """Who administers accounts on the pages under /admin.

    \b
    Examples:
      tokenbridge server admin grant alice --role administrator
      tokenbridge server admin grant bob --role helpdesk --organisation "St Elsewhere"
      tokenbridge server admin list
    """


@admin.command()
@click.argument("user")
@role_option
@organisation_option
@as_json
@click.pass_obj
def grant(data: Path | None, /, *, user: str, role: str, organisation: str | None, as_json: bool) -> None:
    """Give a user a role: an administrator does everything, the help desk resets what people sign in with.

    \b
    Examples:
      tokenbridge server admin grant alice --role administrator
      tokenbridge server admin grant bob --role helpdesk --organisation "St Elsewhere"
    """
    with opened(data) as office:
        changed = admins.grant(office, user, Role(role), organisation)
    where = organisation or "the whole site"
    if as_json:
        emit({"username": user, "role": role, "organisation": organisation or "", "changed": changed})
    else:
        click.echo(f"{user} is {'now' if changed else 'already'} {role} of {where}.")


@admin.command()
@click.argument("user")
@role_option
@organisation_option
@as_json
@click.pass_obj
def revoke(data: Path | None, /, *, user: str, role: str, organisation: str | None, as_json: bool) -> None:
    """Take a role back, as it was given.

    \b
    Examples:
      tokenbridge server admin revoke bob --role helpdesk --organisation "St Elsewhere"
    """
    with opened(data) as office:
        admins.revoke(office, user, Role(role), organisation)
    if as_json:
        emit({"username": user, "role": role, "organisation": organisation or ""})
    else:
        click.echo(f"{user} is {role} of {organisation or 'the whole site'} no longer.")


@admin.command("list")
@as_json
@click.pass_obj
def list_(data: Path | None, as_json: bool) -> None:
    """Show everybody who has a role.

    \b
    Examples:
      tokenbridge server admin list
    """
    with opened(data) as office:
        found = admins.listed(office)
    if as_json:
        emit([{"username": name, "role": str(one.role), "organisation": one.organisation} for name, one in found])
    else:
        columns(("user", "role", "organisation"), [(n, str(g.role), g.organisation or "whole site") for n, g in found])
