"""`tokenbridge server card`: enrolled certificates."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from tokenbridge.cli.server_output import as_json, columns, emit, read_file
from tokenbridge.server.certificate_files import certificates
from tokenbridge.server.operator import people
from tokenbridge.server.operator.office import opened
from tokenbridge.server.store.schema import EnrolledCertificate


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
        (row.id, username, row.subject, row.label, f"{row.last_used:%Y-%m-%d %H:%M}" if row.last_used else "never")
        for row, username in found
    ]
    columns(("ID", "USER", "SUBJECT", "LABEL", "LAST USED (UTC)"), rows)


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
    }
