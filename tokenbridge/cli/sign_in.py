"""`tokenbridge sign-in URL`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from tokenbridge.cli import exits, terminal
from tokenbridge.cli.answers import Answers, follow, pinentry_place
from tokenbridge.cli.plain import plain

EXIT_BY_DECISION = {"allow": exits.OK, "deny": exits.REFUSED, "challenge": exits.CHALLENGED}
METHOD_NAMES = {
    "totp": "authenticator-app code",
    "number-match": "number matching",
    "sms": "text message",
    "whatsapp": "WhatsApp message",
    "voice": "voice call",
    "recovery": "recovery code",
}


@click.command("sign-in")
@click.argument("url")
@click.option("--ca", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="Authority to trust for URL.")
@click.option("--reader", default="", help="Use the card in this reader.")
@click.option("--user", "username", default="", help="Sign in with a password instead of a card.")
@click.option(
    "--prompt",
    type=click.Choice(["auto", "terminal", "pinentry"]),
    default="auto",
    show_default=True,
    help="Where to ask for the PIN; auto is the terminal if there is one.",
)
@click.option("--pin-fd", type=int, help="Read the PIN from this file descriptor.")
@click.option("--password-fd", type=int, help="Read the password from this file descriptor.")
@click.option("--code-fd", type=int, help="Read the code from this file descriptor.")
@click.option("--spend-last-try", is_flag=True, help="Agree beforehand to spend the card's last PIN try.")
@click.option("--wait", default=120.0, show_default=True, help="Seconds to wait for a card.")
@click.option("--json", "as_json", is_flag=True, help="Print the outcome as JSON, session token included.")
def sign_in(**options: Any) -> int:
    """Sign in at URL with the card in the reader, or wait for one.

    Shows whose card it is, who asks and how many PIN tries are left, then asks for the PIN. Prints what the site
    decided and why.

    \b
    Examples:
      tokenbridge sign-in https://portal.example.org
      tokenbridge sign-in https://localhost:8443 --ca ca.pem --json
      tokenbridge sign-in https://portal.example.org --pin-fd 3  3< pin.txt
      tokenbridge sign-in https://portal.example.org --user ada

    \b
    Exit codes: 0 signed in, 3 card or reader, 4 PIN, 5 refused, 6 a further challenge is asked for,
    7 set-up (site or bridge not reachable), 130 cancelled.
    """
    from tokenbridge.daemon import client

    given = {kind: options[f"{kind}_fd"] for kind in ("pin", "password", "code") if options[f"{kind}_fd"] is not None}
    answers = Answers(given=given, agree_to_last_try=options["spend_last_try"])
    request: dict[str, Any] = {
        "url": options["url"],
        "ca": str(options["ca"].resolve()) if options["ca"] else "",
        "reader": options["reader"],
        "username": options["username"],
        "wait_seconds": options["wait"],
    }
    if options["prompt"] == "pinentry" or (options["prompt"] == "auto" and not given and not terminal.is_interactive()):
        request["pinentry"] = pinentry_place()
    with client.connect().stream("POST", "/v1/sign-in", request) as stream:
        outcome = follow(stream, answers, lambda line: _say_step(plain(line), answers))["outcome"]
    click.echo(json.dumps(outcome) if options["as_json"] else describe(plain(outcome)))
    return EXIT_BY_DECISION.get(str(outcome["decision"]), exits.REFUSED)


def _say_step(line: Mapping[str, Any], answers: Answers) -> None:
    match line["step"]:
        case "waiting-for-card":
            terminal.note(click.style(f"{line['rp']} ({line['origin']}): insert your card.", dim=True))
            if "problem" in line:
                terminal.note(click.style(f"{line['problem']['message']} {line['problem']['next_step']}", fg="yellow"))
        case "card-removed":
            terminal.note(click.style("The card was taken out.", fg="yellow"))
        case "try-again" if answers.somebody_is_there():
            terminal.note(click.style(f"✗ {line['message']}", fg="red"))
            terminal.note(f"  → {line['next_step']}")
        case "challenged" if answers.somebody_is_there():
            terminal.note(click.style(line.get("sentence", "A further proof is asked for."), fg="yellow"))
        case "type-pin-on-reader":
            terminal.note("Type your PIN on the reader.")


def describe(outcome: Mapping[str, Any]) -> str:
    """The outcome for people: what was decided, then why. A site may leave out or garble any of it."""
    lines = []
    if outcome["decision"] == "allow":
        lines.append(click.style(f"✓ Signed in{_as_whom(outcome.get('account'))}", fg="green", bold=True))
    elif outcome["decision"] == "challenge":
        wanted = ", ".join(METHOD_NAMES.get(str(m), str(m)) for m in outcome.get("methods") or ())
        lines.append(click.style(f"… A further proof is asked for: {wanted}", fg="yellow", bold=True))
    else:
        lines.append(click.style("✗ Not signed in", fg="red", bold=True))
    sentence = str(outcome.get("sentence") or "The site does not say why.")
    lines.append(f"  {sentence}")
    lines += [click.style(f"    · {text}", dim=True) for text in _reasons(outcome) if not _repeats(text, sentence)]
    return "\n".join(lines)


def _as_whom(account: Any) -> str:
    if not isinstance(account, dict) or not account.get("username"):
        return ""
    return f" as {account.get('display_name') or account['username']} ({account['username']})"


def _reasons(outcome: Mapping[str, Any]) -> list[str]:
    reasons = outcome.get("reasons")
    given = reasons if isinstance(reasons, list) else []
    return [str(reason["text"]) for reason in given if isinstance(reason, dict) and reason.get("text")]


def _repeats(text: str, sentence: str) -> bool:
    return text.rstrip(".").lower() in sentence.lower()
