"""`tokenbridge key credentials ...` and `tokenbridge key fingerprints ...`."""

from __future__ import annotations

import json
from typing import Any

import click

from tokenbridge.cli.key_options import key_options, manage
from tokenbridge.cli.plain import plain


@click.group()
def credentials() -> None:
    """The credentials that a key keeps for sites.

    \b
    Examples:
      tokenbridge key credentials list
      tokenbridge key credentials delete 3f0a
    """


@credentials.command("list")
@key_options
def list_credentials(**options: Any) -> None:
    """What the key keeps, by site.

    \b
    Examples:
      tokenbridge key credentials list
      tokenbridge key credentials list --json | jq -r .credentials[].rp_id
    """
    found = manage("credentials/list", options)
    if options["as_json"]:
        click.echo(json.dumps(found))
        return
    shown = plain(found)
    for item in shown["credentials"]:
        who = item["account"] or item["display_name"] or "unnamed account"
        click.echo(f"{click.style(item['rp_id'], bold=True)}  {who}  {click.style(item['id'][:16], dim=True)}")
    click.echo(click.style(f"{len(shown['credentials'])} kept, room for {shown['rooms_left']} more.", dim=True))


@credentials.command("delete")
@click.argument("credential", metavar="ID")
@key_options
@click.option("--yes", is_flag=True, help="Agree beforehand.")
def delete_credential(**options: Any) -> None:
    """Delete the credential whose id begins with ID. The site keeps its half: remove the key there as well.

    \b
    Examples:
      tokenbridge key credentials delete 3f0a
      tokenbridge key credentials delete 3f0a --yes --pin-fd 3  3< pin.txt
    """
    request = {"id": options["credential"], "sure": options["yes"]}
    done = manage("credentials/delete", options, request)
    click.echo(json.dumps(done) if options["as_json"] else click.style("✓ The credential is deleted.", fg="green"))


@click.group()
def fingerprints() -> None:
    """The fingers that a key knows.

    \b
    Examples:
      tokenbridge key fingerprints add "right thumb"
      tokenbridge key fingerprints list
    """


@fingerprints.command("list")
@key_options
def list_fingerprints(**options: Any) -> None:
    """The fingers that the key knows, by name.

    \b
    Examples:
      tokenbridge key fingerprints list
      tokenbridge key fingerprints list --json
    """
    found = manage("fingerprints/list", options)
    if options["as_json"]:
        click.echo(json.dumps(found))
        return
    for finger in plain(found)["fingerprints"]:
        click.echo(f"{click.style(finger['name'] or 'unnamed', bold=True)}  {click.style(finger['id'], dim=True)}")
    if not found["fingerprints"]:
        click.echo("The key knows no finger yet.")


@fingerprints.command("add")
@click.argument("name", default="")
@key_options
def add_fingerprint(**options: Any) -> None:
    """Teach the key a finger, and call it NAME. You touch the sensor several times.

    \b
    Examples:
      tokenbridge key fingerprints add "right thumb"
    """
    done = manage("fingerprints/add", options, {"name": options["name"]})
    click.echo(json.dumps(done) if options["as_json"] else click.style("✓ The key knows this finger.", fg="green"))


@fingerprints.command("delete")
@click.argument("finger")
@key_options
def delete_fingerprint(**options: Any) -> None:
    """Make the key forget FINGER (its name or id).

    \b
    Examples:
      tokenbridge key fingerprints delete "right thumb"
    """
    done = manage("fingerprints/delete", options, {"finger": options["finger"]})
    click.echo(json.dumps(done) if options["as_json"] else click.style("✓ The key forgot this finger.", fg="green"))
