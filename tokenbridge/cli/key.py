"""`tokenbridge key ...`: security keys: register, what is on them, PIN, credentials, fingerprints, settings, reset."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import click

from tokenbridge.cli.ceremony import answers_from, conduct, secret_fd, sign_in_request, site_options
from tokenbridge.cli.key_contents import credentials, fingerprints
from tokenbridge.cli.key_options import json_option, key_options, manage
from tokenbridge.cli.plain import plain


@click.group()
def key() -> None:
    """Security keys: register one, and manage what is on it.

    \b
    Examples:
      tokenbridge key register https://portal.example.org
      tokenbridge key list
      tokenbridge key pin set
    """


@key.command()
@click.argument("url")
@click.option("--by-code", is_flag=True, help="Use an enrolment code instead of signing in first.")
@click.option("--name", default="", help="What to call the key, e.g. 'blue key'.")
@click.option("--new-key", default="", metavar="SERIAL|PATH", help="The key to register, if there are several.")
@site_options
@secret_fd("enrolment-code")
@secret_fd("new-pin")
@json_option
def register(**options: Any) -> None:
    """Register a security key for your account at URL.

    You sign in first, with the strongest thing you have; for a new account your administrator gives you an
    enrolment code. A key without a PIN gets one on the way.

    \b
    Examples:
      tokenbridge key register https://portal.example.org
      tokenbridge key register https://portal.example.org --by-code --user ada
      tokenbridge key register https://portal.example.org --name "blue key" --json
    """
    answers = answers_from(options)
    by_code = options["by_code"] or options["enrolment_code_fd"] is not None
    request = sign_in_request(options, answers) | {
        "by_code": by_code,
        "name": options["name"],
        "new_key": options["new_key"] or (request_key(options) if by_code else ""),
    }
    done = conduct("/v1/register", request, answers)["registered"]
    if options["as_json"]:
        click.echo(json.dumps(done))
        return
    shown = plain(done)
    click.secho(f"✓ {shown.get('sentence') or 'The key is registered.'}", fg="green", bold=True)
    show_recovery_codes(shown)


def request_key(options: Mapping[str, Any]) -> str:
    """With a code nobody signs in, so --key can only mean the key that is registered."""
    return "" if options["key"] == "any" else str(options["key"])


def show_recovery_codes(answer: Mapping[str, Any]) -> None:
    codes = answer.get("recovery_codes")
    if not isinstance(codes, list):
        return
    click.echo("\nRecovery codes, for the day without card or key. Each works once, after your password.")
    click.echo("They are not shown again: print them, or keep them in a safe place.\n")
    for left, right in zip(codes[::2], [*codes[1::2], ""], strict=False):
        click.secho(f"    {left}    {right}", bold=True)


@key.command("list")
@json_option
def list_keys(as_json: bool) -> None:
    """Every security key that is plugged in.

    \b
    Examples:
      tokenbridge key list
      tokenbridge key list --json | jq -r .keys[].path
    """
    from tokenbridge.daemon import client

    answer = client.connect().get("/v1/keys")
    if as_json:
        click.echo(json.dumps(answer))
        return
    if not answer["keys"]:
        click.echo("No security key is plugged in.")
        click.echo("  → Plug one in; `tokenbridge watch` shows what arrives.")
    for found in answer["keys"]:
        _print_key(plain(found))


@key.command()
@key_options
def info(**options: Any) -> None:
    """What a key says about itself, and the PIN tries that are left.

    \b
    Examples:
      tokenbridge key info
      tokenbridge key info --key /dev/hidraw2 --json
    """
    found = manage("info", options)
    if options["as_json"]:
        click.echo(json.dumps(found))
        return
    shown = plain(found)
    when = "every time" if shown["always_verify"] else "when the site wants it"
    rows = {
        "key": shown["name"] or "security key",
        "serial": shown["serial"] or "none",
        "path": shown["path"],
        "model": f"{shown['aaguid']}  ({shown['vendor']}:{shown['product']}, firmware {shown['firmware']})",
        "speaks": ", ".join(shown["versions"]),
        "PIN": _pin(shown),
        "finger": shown["fingerprints"],
        "asks": f"for PIN or finger {when}",
        "room": "unknown" if shown["rooms_left"] is None else f"for {shown['rooms_left']} more credentials",
        "extras": ", ".join(shown["extensions"]),
    }
    for label, value in rows.items():
        click.echo(f"{click.style(f'{label:8}', dim=True)}{value}")


def _pin(shown: Mapping[str, Any]) -> str:
    if shown["pin"] != "set":
        return {"not set": "not set yet", "none": "this key takes none"}.get(shown["pin"], str(shown["pin"]))
    tries = shown.get("tries_left")
    parts = ["set", *([] if tries is None else [f"{tries} {'try' if tries == 1 else 'tries'} left"])]
    parts += ["must be changed"] * bool(shown["must_change_pin"])
    parts += ["plug it in again first"] * bool(shown.get("replug_first"))
    return f"{', '.join(parts)}; at least {shown['min_pin_length']} characters"


@key.group()
def pin() -> None:
    """Set or change a key's PIN.

    \b
    Examples:
      tokenbridge key pin set
      tokenbridge key pin change
    """


@pin.command("set")
@key_options
@secret_fd("new-pin")
def pin_set(**options: Any) -> None:
    """Set the first PIN of a key that has none.

    \b
    Examples:
      tokenbridge key pin set
      tokenbridge key pin set --new-pin-fd 3  3< pin.txt
    """
    done = manage("pin/set", options)
    click.echo(json.dumps(done) if options["as_json"] else click.style("✓ The PIN is set.", fg="green"))


@pin.command("change")
@key_options
@secret_fd("new-pin")
def pin_change(**options: Any) -> None:
    """Change a key's PIN. Tries left are shown first; a wrong old PIN costs one.

    \b
    Examples:
      tokenbridge key pin change
      tokenbridge key pin change --pin-fd 3 --new-pin-fd 4  3< old.txt 4< new.txt
    """
    done = manage("pin/change", options)
    click.echo(json.dumps(done) if options["as_json"] else click.style("✓ The PIN is changed.", fg="green"))


key.add_command(credentials)
key.add_command(fingerprints)


@key.command()
@key_options
@click.option("--always-verify/--no-always-verify", default=None, help="Ask for PIN or finger whatever a site says.")
@click.option("--min-pin-length", type=click.IntRange(4, 63), help="Raise the least PIN length; it never goes down.")
@click.option("--force-new-pin", is_flag=True, help="Make the key want a new PIN before it goes on.")
def config(**options: Any) -> None:
    """Change a key's own settings.

    \b
    Examples:
      tokenbridge key config --always-verify
      tokenbridge key config --min-pin-length 6 --force-new-pin
    """
    request: dict[str, Any] = {"force_new_pin": options["force_new_pin"]}
    if options["always_verify"] is not None:
        request["always_verify"] = options["always_verify"]
    if options["min_pin_length"] is not None:
        request["min_pin_length"] = options["min_pin_length"]
    if request == {"force_new_pin": False}:
        raise click.UsageError("Say what to change: --always-verify, --min-pin-length or --force-new-pin.")
    done = manage("config", options, request)
    click.echo(json.dumps(done) if options["as_json"] else click.style("✓ The key's settings are changed.", fg="green"))


@key.command()
@key_options
@click.option("--yes", is_flag=True, help="Agree beforehand: everything on the key is erased.")
def reset(**options: Any) -> None:
    """Erase a key: every credential, its PIN and fingerprints. It no longer signs in anywhere.

    A key does this in the first ten seconds after it was plugged in only, so you are asked to plug it in again.

    \b
    Examples:
      tokenbridge key reset
      tokenbridge key reset --key 0A1B2C3D --yes
    """
    done = manage("reset", options, {"sure": options["yes"]})
    click.echo(json.dumps(done) if options["as_json"] else click.style("✓ The key is erased.", fg="green"))


def _print_key(found: Mapping[str, Any]) -> None:
    name = click.style(found["name"] or "security key", bold=True)
    serial = f" ({found['serial']})" if found["serial"] else ""
    click.echo(f"{name}{serial}  {_state(found)}  {click.style(found['path'], dim=True)}")


def _state(found: Mapping[str, Any]) -> str:
    if "error" in found:
        return click.style(found["error"]["message"], fg="yellow")
    if found["must_change_pin"]:
        return click.style("wants a new PIN", fg="yellow")
    pin = {"set": click.style("PIN set", fg="green"), "not set": click.style("no PIN yet", fg="yellow")}
    return pin.get(found["pin"], "touch only")
