"""`tokenbridge server card`: enrolled certificates."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Any

import click

from tokenbridge.cli.server_output import as_json, columns, emit, read_file
from tokenbridge.cli.server_suspensions import lift_command, suspend_command, tell_suspension
from tokenbridge.server.certificate_files import certificates
from tokenbridge.server.operator import people, suspensions
from tokenbridge.server.operator.office import opened
from tokenbridge.server.store.schema import EnrolledCertificate
from tokenbridge.server.store.suspensions import Kind


@click.group()
def card() -> None:
    """Cards that sign in to accounts.

    \b
    Examples:
      tokenbridge card certs --slot 9A --pem | tokenbridge server card enrol alice --pem -
      tokenbridge server card list
    """


@card.command()
@click.argument("user")
@click.option("--pem", required=True, help="PEM (or one DER) file with the card's certificate; - is standard input.")
@click.option("--label", default="", help="A name for it, such as where the card is kept.")
@click.option("--fingerprint", default="", help="Beginning of the SHA-256 fingerprint, when there are several.")
@click.option("--unchecked", is_flag=True, help="Enrol it even if it could not sign in today.")
@as_json
@click.pass_obj
def enrol(data: Path | None, /, *, user: str, pem: str, fingerprint: str, as_json: bool, **how: Any) -> None:
    """Bind a card's certificate to an account. It is checked against the trust anchors now.

    \b
    Examples:
      tokenbridge card certs --pem | tokenbridge server card enrol alice --pem -
      tokenbridge server card enrol alice --pem alice.pem --label "ward 7"
    """
    certificate = people.choose(certificates(read_file(pem)), fingerprint)
    with opened(data) as office:
        done = people.enrol(office, user, certificate, **how)
    if as_json:
        emit({**_facts(done.card, user), "checked": done.checked, "anchor": done.anchor, "remark": done.remark})
        return
    click.echo(f"Enrolled {done.card.subject} for {user}.")
    if done.checked:
        click.echo(f"Checked now: issued under {done.anchor!r}, valid, not revoked.")
    else:
        click.echo(f"Enrolled, but not fully checked: {done.remark}")


@card.command("list")
@click.argument("user", required=False)
@as_json
@click.pass_obj
def list_(data: Path | None, user: str | None, as_json: bool) -> None:
    """Show enrolled cards, of one user or of all.

    \b
    Examples:
      tokenbridge server card list
      tokenbridge server card list alice --json
    """
    with opened(data) as office:
        found = people.cards_of(office, user)
    if as_json:
        emit([_facts(row, username) for row, username in found])
        return
    rows = [
        (row.id, username, row.subject, row.label, _minute(row.last_used) or "never", _minute(row.suspended_at))
        for row, username in found
    ]
    columns(("ID", "USER", "SUBJECT", "LABEL", "LAST USED (UTC)", "SUSPENDED SINCE"), rows)


@card.command()
@click.argument("card_id", type=int, metavar="ID")
@as_json
@click.pass_obj
def remove(data: Path | None, card_id: int, as_json: bool) -> None:
    """Forget an enrolled card; ID as in `card list`.

    \b
    Examples:
      tokenbridge server card remove 3
    """
    with opened(data) as office:
        people.remove_card(office, card_id)
    if as_json:
        emit({"removed": card_id})
    else:
        click.echo(f"Removed card {card_id}.")


@card.command("suspend-issuer")
@click.argument("user")
@click.argument("authority")
@as_json
@click.pass_obj
def suspend_issuer(data: Path | None, user: str, authority: str, as_json: bool) -> None:
    """Suspend the cards by which USER is known without their being enrolled: those of AUTHORITY, as in `trust list`.

    \b
    Examples:
      tokenbridge server card suspend-issuer alice "Hospital CA"
    """
    with opened(data) as office:
        tell_suspension(suspensions.set_issuer_suspended(office, user, authority, suspended=True), as_json=as_json)


@card.command("lift-issuer")
@click.argument("user")
@click.argument("authority")
@as_json
@click.pass_obj
def lift_issuer(data: Path | None, user: str, authority: str, as_json: bool) -> None:
    """Let the cards of AUTHORITY sign USER in again.

    \b
    Examples:
      tokenbridge server card lift-issuer alice "Hospital CA" --json
    """
    with opened(data) as office:
        tell_suspension(suspensions.set_issuer_suspended(office, user, authority, suspended=False), as_json=as_json)


card.add_command(suspend_command(Kind.CARD))
card.add_command(lift_command(Kind.CARD))


def _minute(at: dt.datetime | None) -> str:
    return f"{at:%Y-%m-%d %H:%M}" if at is not None else ""


def _facts(row: EnrolledCertificate, username: str) -> dict[str, Any]:
    return {
        "id": row.id,
        "username": username,
        "subject": row.subject,
        "serial": row.serial,
        "fingerprint": row.fingerprint,
        "ski": row.ski,
        "label": row.label,
        "enrolled_at": row.enrolled_at.isoformat(),
        "last_used": row.last_used.isoformat() if row.last_used else None,
        "suspended_at": row.suspended_at.isoformat() if row.suspended_at else None,
    }
