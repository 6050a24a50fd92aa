"""`tokenbridge server metadata`: what makers of keys and the FIDO Alliance say about models."""

from __future__ import annotations

from pathlib import Path

import click

from tokenbridge.cli.server_output import as_json, emit
from tokenbridge.server.operator import metadata as desk
from tokenbridge.server.operator.office import opened


@click.group()
def metadata() -> None:
    """What is known about models of keys: FIDO metadata (MDS 3).

    \b
    Examples:
      tokenbridge server metadata load https://mds3.fidoalliance.org/
      tokenbridge server metadata show
    """


@metadata.command()
@click.argument("source", metavar="FILE|URL")
@click.option("--root", type=click.Path(path_type=Path), help="PEM file of the root that signs it [default: FIDO's].")
@as_json
@click.pass_obj
def load(data: Path | None, source: str, root: Path | None, as_json: bool) -> None:
    """Load a signed blob from a file or an address. A running server follows by itself.

    Its signature is checked up to the root, and a blob older than the one in force is refused.

    \b
    Examples:
      tokenbridge server metadata load https://mds3.fidoalliance.org/
      tokenbridge server metadata load blob.jwt --root test-root.pem
    """
    with opened(data) as office:
        change = desk.load(office, source, root)
    if as_json:
        emit({name: getattr(change, name) for name in change.__slots__})
        return
    click.echo(f"Metadata number {change.after} with {change.models} models is in force.")
    click.echo(f"The next one is due by {change.next_update}{', which is past' if change.stale else ''}.")


@metadata.command()
@as_json
@click.pass_obj
def show(data: Path | None, as_json: bool) -> None:
    """Show which metadata is in force and until when.

    \b
    Examples:
      tokenbridge server metadata show
      tokenbridge server metadata show --json | jq .stale
    """
    with opened(data) as office:
        found, today = desk.shown(office), office.now().date()
    if found is None:
        facts = None
    else:
        known = found.metadata
        facts = {
            "number": known.number,
            "models": len(known.models),
            "next_update": known.next_update.isoformat(),
            "stale": known.is_stale(today),
            "source": found.source,
            "loaded_at": found.loaded_at.isoformat(),
        }
    if as_json:
        emit(facts)
    elif facts is None:
        click.echo("No metadata is loaded: every key counts as not attested, unless key_roots vouches for it.")
    else:
        click.echo(f"Number {facts['number']}, {facts['models']} models, loaded {str(facts['loaded_at'])[:16]} UTC")
        click.echo(f"from {facts['source']}")
        click.echo(f"Next due by {facts['next_update']}{': OUT OF DATE' if facts['stale'] else ''}")
