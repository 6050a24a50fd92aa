"""`tokenbridge card ...`: what is on the card, and its PIN."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import click

from tokenbridge.cli import terminal
from tokenbridge.cli.answers import Answers, follow, pinentry_place
from tokenbridge.cli.plain import plain

reader_option = click.option("--reader", default="", help="The card in this reader.")
json_option = click.option("--json", "as_json", is_flag=True)
prompt_option = click.option(
    "--prompt", type=click.Choice(["terminal", "pinentry"]), default="terminal", help="Where to ask for the old PIN."
)


@click.group()
def card() -> None:
    """Smartcards: what is on them, and their PIN.

    \b
    Examples:
      tokenbridge card list
      tokenbridge card certs --pem | tokenbridge server card enrol ada --pem -
      tokenbridge card pin change
    """


@card.command("list")
@json_option
def list_cards(as_json: bool) -> None:
    """Every card that is inserted, with its holder and the PIN tries left.

    \b
    Examples:
      tokenbridge card list
      tokenbridge card list --json | jq .cards[].holder
    """
    answer = _bridge().get("/v1/cards")
    cards = answer["cards"]
    if as_json:
        click.echo(json.dumps(answer))
    elif not cards:
        click.echo(answer["absence"]["message"])
        click.echo(f"  → {answer['absence']['next_step']}")
    for found in () if as_json else cards:
        click.echo(_line(plain(found)))


@card.command()
@reader_option
@json_option
def info(reader: str, as_json: bool) -> None:
    """Everything that a card shows without its PIN.

    \b
    Examples:
      tokenbridge card info
      tokenbridge card info --reader "Reader 00 00" --json
    """
    found = _bridge().get("/v1/card", reader=reader)
    if as_json:
        click.echo(json.dumps(found))
        return
    found = plain(found)
    for label, value in (
        ("reader", found["reader"]),
        ("holder", found["holder"] or "unknown"),
        ("GUID", found["guid"] or "none"),
        ("ATR", found["atr"]),
        ("PIN", f"{found['pin']} PIN, {_tries(found)}{', typed on the reader' if found['pin_pad'] else ''}"),
    ):
        click.echo(f"{click.style(f'{label:8}', dim=True)}{value}")
    for certificate in found["certificates"]:
        _print_certificate(certificate)


@card.command()
@reader_option
@click.option("--slot", default="", help="Only this slot, e.g. 9A.")
@click.option("--pem", is_flag=True, help="Print the certificates themselves.")
@json_option
def certs(reader: str, slot: str, pem: bool, as_json: bool) -> None:
    """The certificates on a card, and whether each can be used to sign in.

    \b
    Examples:
      tokenbridge card certs
      tokenbridge card certs --slot 9A --pem > card.pem
    """
    found = _bridge().get("/v1/card", reader=reader)["certificates"]
    chosen = [certificate for certificate in found if slot.upper() in ("", certificate["slot"])]
    if as_json:
        click.echo(json.dumps({"certificates": chosen}))
    elif not chosen:
        click.echo("The card has no such certificate.", err=True)
    for certificate in () if as_json else chosen:
        if pem:
            click.echo(certificate["pem"], nl=False)
        else:
            _print_certificate(plain(certificate))


@card.group()
def pin() -> None:
    """Change the PIN, or unblock it with the PUK.

    \b
    Examples:
      tokenbridge card pin change
      tokenbridge card pin unblock
    """


@pin.command()
@reader_option
@prompt_option
@click.option("--pin-fd", type=int, help="Read the PIN from this file descriptor.")
@click.option("--new-pin-fd", type=int, help="Read the new PIN from this file descriptor.")
@json_option
def change(reader: str, prompt: str, pin_fd: int | None, new_pin_fd: int | None, as_json: bool) -> None:
    """Change the PIN (6 to 8 digits). Tries left are shown first; a wrong old PIN costs one.

    \b
    Examples:
      tokenbridge card pin change
      tokenbridge card pin change --pin-fd 3 --new-pin-fd 4  3< old.txt 4< new.txt
    """
    result = _conduct("/v1/pin/change", {"pin": pin_fd, "new-pin": new_pin_fd}, reader, prompt)
    click.echo(json.dumps(result) if as_json else click.style("✓ The PIN is changed.", fg="green"))


@pin.command()
@reader_option
@click.option("--puk-fd", type=int, help="Read the PUK from this file descriptor.")
@click.option("--new-pin-fd", type=int, help="Read the new PIN from this file descriptor.")
@json_option
def unblock(reader: str, puk_fd: int | None, new_pin_fd: int | None, as_json: bool) -> None:
    """Set a new PIN with the PUK when the old one is blocked or forgotten. A wrong PUK costs one of its tries.

    \b
    Examples:
      tokenbridge card pin unblock
      tokenbridge card pin unblock --puk-fd 3 --new-pin-fd 4  3< puk.txt 4< new.txt
    """
    result = _conduct("/v1/pin/unblock", {"puk": puk_fd, "new-pin": new_pin_fd}, reader, "terminal")
    click.echo(json.dumps(result) if as_json else click.style("✓ The PIN is unblocked and set.", fg="green"))


def _conduct(path: str, descriptors: Mapping[str, int | None], reader: str, prompt: str) -> dict[str, Any]:
    answers = Answers(given={kind: fd for kind, fd in descriptors.items() if fd is not None})
    request: dict[str, Any] = {"reader": reader}
    if prompt == "pinentry":
        request["pinentry"] = pinentry_place()
    with _bridge().stream("POST", path, request) as stream:
        done = follow(stream, answers, lambda line: terminal.note(str(line["step"])))
    return {key: value for key, value in done.items() if key != "event"}


def _bridge() -> Any:
    from tokenbridge.daemon import client

    return client.connect()


def _line(found: Mapping[str, Any]) -> str:
    if "error" in found:
        return f"{found['reader']}: {click.style(found['error']['message'], fg='yellow')}"
    return f"{found['reader']}: {click.style(found['holder'] or 'no certificate', bold=True)}, {_tries(found)}"


def _tries(found: Mapping[str, Any]) -> str:
    tries = found["tries_left"]
    if tries is None:
        return "tries left unknown"
    if tries == 0:
        return click.style("blocked", fg="red")
    return click.style(f"{tries} {'try' if tries == 1 else 'tries'} left", fg="yellow" if tries < 3 else None)


def _print_certificate(certificate: Mapping[str, Any]) -> None:
    fits = certificate["fitness"] == "fits"
    mark = click.style("can sign in", fg="green") if fits else click.style(certificate["fitness"], fg="yellow")
    click.echo(f"\n{click.style(certificate['slot'], bold=True)}  {certificate['purpose']}: {mark}")
    for label in ("subject", "issuer", "serial", "key", "not_before", "not_after"):
        if label in certificate:
            click.echo(f"    {click.style(label.replace('_', ' ').ljust(11), dim=True)} {certificate[label]}")
