"""`tokenbridge account ...`: the person's own account at a site: registered keys, recovery codes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import click

from tokenbridge.cli.ceremony import answers_from, conduct, sign_in_request, site_options
from tokenbridge.cli.key import show_recovery_codes
from tokenbridge.cli.plain import plain

json_option = click.option("--json", "as_json", is_flag=True)


@click.group()
def account() -> None:
    """Your account at a site: registered security keys and recovery codes. Each command signs you in first.

    \b
    Examples:
      tokenbridge account keys https://portal.example.org
      tokenbridge account remove-key https://portal.example.org 7
    """


@account.command()
@click.argument("url")
@site_options
@json_option
def keys(**options: Any) -> None:
    """The security keys that are registered for you, with their names and last use.

    \b
    Examples:
      tokenbridge account keys https://portal.example.org
      tokenbridge account keys https://portal.example.org --json | jq -r .keys[].name
    """
    done = _conduct("keys", options)
    if options["as_json"]:
        click.echo(json.dumps(done))
        return
    shown = plain(done)
    for key in shown["keys"]:
        click.echo(_line(key))
    left = shown.get("recovery_codes_left")
    click.echo(click.style(f"{len(shown['keys'])} registered, {left} recovery codes left.", dim=True))


@account.command("rename-key")
@click.argument("url")
@click.argument("key_id", metavar="ID", type=int)
@click.argument("name")
@site_options
@json_option
def rename_key(**options: Any) -> None:
    """Call the key with the number ID by another NAME.

    \b
    Examples:
      tokenbridge account rename-key https://portal.example.org 7 "blue key"
    """
    done = _conduct("rename", options, {"id": options["key_id"], "name": options["name"]})
    click.echo(json.dumps(done) if options["as_json"] else _line(plain(done)["key"]))


@account.command("remove-key")
@click.argument("url")
@click.argument("key_id", metavar="ID", type=int)
@click.option("--confirm-last", is_flag=True, help="Remove it even if nothing but the password is left.")
@site_options
@json_option
def remove_key(**options: Any) -> None:
    """Remove the key with the number ID: it no longer signs you in.

    \b
    Examples:
      tokenbridge account remove-key https://portal.example.org 7
    """
    done = _conduct("remove", options, {"id": options["key_id"], "confirm_last": options["confirm_last"]})
    click.echo(json.dumps(done) if options["as_json"] else click.style("✓ The key is removed.", fg="green"))


@account.command("recovery-codes")
@click.argument("url")
@site_options
@json_option
def recovery_codes(**options: Any) -> None:
    """Get ten new recovery codes; older ones no longer work.

    \b
    Examples:
      tokenbridge account recovery-codes https://portal.example.org
    """
    done = _conduct("recovery-codes", options)
    if options["as_json"]:
        click.echo(json.dumps(done))
    else:
        show_recovery_codes(plain(done))


def _conduct(action: str, options: Mapping[str, Any], more: Mapping[str, Any] | None = None) -> dict[str, Any]:
    answers = answers_from(options)
    return conduct(f"/v1/account/{action}", sign_in_request(options, answers) | dict(more or {}), answers)


def _line(key: Mapping[str, Any]) -> str:
    used = f"last used {str(key['last_used'])[:16]}" if key.get("last_used") else "not used yet"
    level = click.style(f"AAL{key.get('level', '?')}", fg="green" if key.get("level") == 3 else "yellow")
    if key.get("suspended_at"):
        level = click.style(f"suspended since {str(key['suspended_at'])[:16]}", fg="red")
    name = click.style(str(key.get("name") or "unnamed"), bold=True)
    return f"{key.get('id'):>4}  {name}  {level}  {used}  {click.style(str(key.get('model') or ''), dim=True)}"
