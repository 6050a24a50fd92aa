"""`tokenbridge server user` and `revoke-sessions`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, BinaryIO

import click

from tokenbridge.cli.plain import plain
from tokenbridge.cli.server_output import as_json, columns, emit, read_password
from tokenbridge.server.administration.acts import MAX_HOURS
from tokenbridge.server.administration.people_rows import MAX_BYTES
from tokenbridge.server.operator import account_view, importing, people, security_keys
from tokenbridge.server.operator.office import opened
from tokenbridge.server.store.accounts import NewAccount

password_fd = click.option("--password-fd", type=int, help="Read the password from this file descriptor.")


@click.group()
def user() -> None:
    """Accounts, their passwords, authenticator apps and codes.

    \b
    Examples:
      tokenbridge server user add alice --display-name "Alice Archer"
      tokenbridge server user totp alice
      tokenbridge server user enrolment-code alice
    """


@user.command()
@click.argument("name")
@click.option("--display-name", default="", help="The person's name as shown.")
@click.option("--nhs-uid", help="12-digit NHS user id.")
@click.option("--email", help="E-mail address, for authorities that may assert it.")
@click.option("--upn", help="User principal name, for authorities that may assert it.")
@click.option("--organisation", default="", help="Organisation, whose local administrators may change the account.")
@click.option("--no-password", is_flag=True, help="Card only: no password at all.")
@password_fd
@as_json
@click.pass_obj
def add(
    data: Path | None, /, *, name: str, no_password: bool, password_fd: int | None, as_json: bool, **facts: Any
) -> None:
    """Add a person. The password is asked for, or read from a file descriptor; never given as an argument.

    \b
    Examples:
      tokenbridge server user add alice --display-name "Alice Archer" --nhs-uid 555000000123
      tokenbridge server user add bob --password-fd 3 3< password.txt
    """
    new = NewAccount(username=name, **facts)
    with opened(data) as office:
        account = people.add(office, new, None if no_password else read_password(password_fd))
    if as_json:
        emit({"id": account.id, "username": account.username, "display_name": account.display_name})
    else:
        click.echo(f"Added {account.username} ({account.display_name}).")


@user.command()
@click.argument("name")
@as_json
@click.pass_obj
def show(data: Path | None, name: str, as_json: bool) -> None:
    """Show one account: who it is, what it signs in with, and what of that is suspended.

    \b
    Examples:
      tokenbridge server user show alice
      tokenbridge server user show alice --json | jq '.keys[] | select(.suspended_at)'
    """
    with opened(data) as office:
        found = account_view.view(office, name)
    if as_json:
        emit(found)
        return
    for field in ("username", "display_name", "email", "nhs_uid", "upn", "organisation"):
        if found[field]:
            click.echo(f"{field}: {plain(found[field])}")
    click.echo(f"state: {'disabled' if found['disabled'] else 'enabled'}, sessions: {found['sessions']}")
    methods = [*(["password"] if found["password"] else []), *found["methods"]]
    click.echo(f"signs in with: {', '.join(methods) or 'nothing'}")
    for kind, name_of in (("keys", "name"), ("cards", "subject"), ("issuers", "name")):
        for one in found[kind]:
            since = f", suspended since {one['suspended_at'][:16].replace('T', ' ')} UTC" if one["suspended_at"] else ""
            number = f" {one['id']}" if "id" in one else ""
            click.echo(f"{kind.rstrip('s')}{number}: {plain(one[name_of])}{since}")


@user.command("import")
@click.argument("file", type=click.File("rb"))
@click.option("--dry-run", is_flag=True, help="Say what would happen, and change nothing.")
@as_json
@click.pass_obj
def import_(data: Path | None, /, *, file: BinaryIO, dry_run: bool, as_json: bool) -> None:
    """Add people from a CSV file (UTF-8; `-` is standard input), or bring them up to date. All of it, or nothing.

    The first line names the columns: username, and any of display_name, email, nhs_uid, upn, organisation, groups.
    Groups are separated by semicolons. An empty cell leaves what is there as it is.

    \b
    Examples:
      tokenbridge server user import staff.csv --dry-run
      tokenbridge server user import staff.csv
    """
    with opened(data) as office:
        done = importing.import_csv(office, file.read(MAX_BYTES + 1), dry_run=dry_run)
    if as_json:
        emit({"added": done.added, "changed": done.changed, "same": done.same, "dry_run": dry_run})
        return
    verb = "Would add" if dry_run else "Added"
    click.echo(f"{verb} {len(done.added)}, changed {len(done.changed)}, {done.same} were up to date.")


@user.command("list")
@as_json
@click.pass_obj
def list_(data: Path | None, as_json: bool) -> None:
    """Show all accounts.

    \b
    Examples:
      tokenbridge server user list
      tokenbridge server user list --json | jq -r .[].username
    """
    with opened(data) as office:
        found = people.listed(office)
    if as_json:
        emit(
            [
                {
                    "username": account.username,
                    "display_name": account.display_name,
                    "nhs_uid": account.nhs_uid,
                    "email": account.email,
                    "upn": account.upn,
                    "organisation": account.organisation,
                    "disabled": account.disabled,
                    "password": account.password_hash is not None,
                    "methods": sorted(methods),
                }
                for account, methods in found
            ]
        )
        return
    rows = [
        (
            account.username,
            account.display_name,
            ", ".join([*(["password"] if account.password_hash else []), *sorted(methods)]) or "nothing",
            "disabled" if account.disabled else "",
        )
        for account, methods in found
    ]
    columns(("USER", "NAME", "SIGNS IN WITH", ""), rows)


@user.command()
@click.argument("name")
@password_fd
@as_json
@click.pass_obj
def passwd(data: Path | None, name: str, password_fd: int | None, as_json: bool) -> None:
    """Change a person's password. All sessions of that person end.

    \b
    Examples:
      tokenbridge server user passwd alice
      tokenbridge server user passwd alice --password-fd 3 3< password.txt
    """
    with opened(data) as office:
        people.set_password(office, name, read_password(password_fd))
    if as_json:
        emit({"username": name})
    else:
        click.echo(f"Changed the password of {name}.")


@user.command()
@click.argument("name")
@as_json
@click.pass_obj
def totp(data: Path | None, name: str, as_json: bool) -> None:
    """Make a secret for a person's authenticator app and show it once. An older one stops working.

    \b
    Examples:
      tokenbridge server user totp alice
      tokenbridge server user totp alice --json | jq -r .uri
    """
    with opened(data) as office:
        app = people.new_app(office, name)
    if as_json:
        emit({"username": app.username, "secret": app.secret, "uri": app.uri})
        return
    import segno

    segno.make(app.uri, error="m").terminal(out=sys.stdout, compact=True)
    click.echo(app.uri)
    click.echo(f"Let {app.username} scan this now; it is not shown again.")


@user.command("enrolment-code")
@click.argument("name")
@click.option("--hours", type=click.IntRange(1, MAX_HOURS), default=24, show_default=True)
@as_json
@click.pass_obj
def enrolment_code(data: Path | None, name: str, hours: int, as_json: bool) -> None:
    """Make a code with which a person registers one security key, and show it once. An older one is void.

    Make sure whom you give it to: whoever has the code gets a key to the account.

    \b
    Examples:
      tokenbridge server user enrolment-code alice
      tokenbridge server user enrolment-code alice --hours 2 --json | jq -r .code
    """
    with opened(data) as office:
        made = security_keys.new_enrolment_code(office, name, hours)
    if as_json:
        emit({"username": made.username, "code": made.code, "expires_at": made.expires_at.isoformat()})
        return
    click.echo(made.code)
    click.echo(f"For one key of {made.username}, until {made.expires_at:%Y-%m-%d %H:%M} UTC. It is not shown again.")


@user.command("recovery-codes")
@click.argument("name")
@as_json
@click.pass_obj
def recovery_codes(data: Path | None, name: str, as_json: bool) -> None:
    """Make ten recovery codes for a person and show them once. Older ones are void.

    Each takes the place of the second step after the password, once.

    \b
    Examples:
      tokenbridge server user recovery-codes alice
    """
    with opened(data) as office:
        made = security_keys.new_recovery_codes(office, name)
    if as_json:
        emit({"username": name, "recovery_codes": list(made)})
        return
    click.echo("\n".join(made))
    click.echo(f"For {name}. They are not shown again.")


@user.command()
@click.argument("name")
@as_json
@click.pass_obj
def disable(data: Path | None, name: str, as_json: bool) -> None:
    """Keep a person out. All sessions of that person end.

    \b
    Examples:
      tokenbridge server user disable alice
    """
    _switch(data, name, disabled=True, as_json=as_json)


@user.command()
@click.argument("name")
@as_json
@click.pass_obj
def enable(data: Path | None, name: str, as_json: bool) -> None:
    """Let a disabled person in again.

    \b
    Examples:
      tokenbridge server user enable alice
    """
    _switch(data, name, disabled=False, as_json=as_json)


def _switch(data: Path | None, name: str, *, disabled: bool, as_json: bool) -> None:
    with opened(data) as office:
        people.set_disabled(office, name, disabled=disabled)
    if as_json:
        emit({"username": name, "disabled": disabled})
    else:
        click.echo(f"{name} is {'disabled' if disabled else 'enabled'}.")


@click.command("revoke-sessions")
@click.argument("name")
@as_json
@click.pass_obj
def revoke_sessions(data: Path | None, name: str, as_json: bool) -> None:
    """End all sessions of a user.

    \b
    Examples:
      tokenbridge server revoke-sessions alice
    """
    with opened(data) as office:
        ended = people.revoke_sessions(office, name)
    if as_json:
        emit({"username": name, "ended": ended})
    else:
        click.echo(f"Ended {ended} session{'' if ended == 1 else 's'} of {name}.")
