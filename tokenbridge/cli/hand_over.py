"""`tokenbridge hand-over LINK`."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import click

from tokenbridge.cli import exits, terminal
from tokenbridge.cli.answers import pinentry_place
from tokenbridge.cli.ceremony import answers_from, conduct, secret_fd
from tokenbridge.cli.plain import plain


@click.command("hand-over")
@click.argument("link")
@click.option("--ca", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="Authority to trust.")
@click.option("--reader", default="", help="Use the card in this reader.")
@click.option("--desktop", is_flag=True, help="Ask in windows: this is how a browser starts it.")
@click.option("--no-open", is_flag=True, help="Print where the browser goes on instead of opening it there.")
@secret_fd("pin")
@click.option("--yes", is_flag=True, help="Agree beforehand that the browser is signed in.")
@click.option("--spend-last-try", is_flag=True, help="Agree beforehand to spend the last PIN try.")
@click.option("--wait", default=120.0, show_default=True, help="Seconds to wait for a card.")
@click.option("--json", "as_json", is_flag=True, help="Print the outcome as JSON.")
def hand_over(**options: Any) -> int:
    """Sign the browser beside you in with your card. A page's button "Use my smartcard" starts it.

    Shows at which site and in which browser, then asks for the PIN and goes on in your browser. Nothing is gained by
    opening a link that somebody sent you: it counts only in the browser in which it was made.

    \b
    Examples:
      tokenbridge hand-over "tokenbridge://hand-over?site=https://portal.example.org&id=..."
      tokenbridge setup browser                 links on pages start it by themselves

    \b
    Exit codes: 0 the browser goes on, 3 card or reader, 4 PIN, 5 refused, 7 set-up, 130 cancelled.
    """
    answers = answers_from(options)
    request: dict[str, Any] = {
        "link": options["link"],
        "ca": str(options["ca"].resolve()) if options["ca"] else "",
        "reader": options["reader"],
        "wait_seconds": options["wait"],
    }
    if options["desktop"] or (not answers.given and not terminal.is_interactive()):
        request["pinentry"] = pinentry_place()
    outcome = conduct("/v1/hand-over", request, answers)["outcome"]
    address = str(outcome["continue"])
    opened = not options["no_open"] and _open(address)
    if options["as_json"]:
        click.echo(json.dumps({**outcome, "opened": opened}))
    else:
        click.echo(plain({"sentence": str(outcome.get("sentence", ""))})["sentence"])
        click.echo("The browser goes on." if opened else f"Go on in the browser where you began: {address}")
    return exits.REFUSED if outcome["decision"] == "deny" else exits.OK


def _open(address: str) -> bool:
    """In the person's own browser. The bridge has checked that the address is the site's."""
    import webbrowser

    try:
        return webbrowser.open(address)
    except (webbrowser.Error, OSError) as err:
        print(f"The browser can't be opened: {err}", file=sys.stderr)
        return False
