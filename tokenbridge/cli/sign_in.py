"""`tokenbridge sign-in URL`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import click

from tokenbridge.cli import exits
from tokenbridge.cli.ceremony import answers_from, conduct, sign_in_request, site_options
from tokenbridge.cli.plain import plain

EXIT_BY_DECISION = {"allow": exits.OK, "deny": exits.REFUSED, "challenge": exits.CHALLENGED}
METHOD_NAMES = {
    "key": "security key",
    "totp": "authenticator-app code",
    "number-match": "number matching",
    "sms": "text message",
    "whatsapp": "WhatsApp message",
    "voice": "voice call",
    "recovery": "recovery code",
}


@click.command("sign-in")
@click.argument("url")
@site_options
@click.option("--json", "as_json", is_flag=True, help="Print the outcome as JSON, session token included.")
def sign_in(**options: Any) -> int:
    """Sign in at URL with your card or your security key, whichever you present first.

    Shows who asks, whose card it is and how many PIN tries are left, then asks for the PIN. Prints what the site
    decided and why.

    \b
    Examples:
      tokenbridge sign-in https://portal.example.org
      tokenbridge sign-in https://localhost:8443 --ca ca.pem --json
      tokenbridge sign-in https://portal.example.org --pin-fd 3  3< pin.txt
      tokenbridge sign-in https://portal.example.org --key any
      tokenbridge sign-in https://portal.example.org --user ada
      tokenbridge sign-in https://portal.example.org --user ada --recovery

    \b
    Exit codes: 0 signed in, 3 card, key or reader, 4 PIN, 5 refused, 6 a further challenge is asked for,
    7 set-up (site or bridge not reachable), 130 cancelled.
    """
    answers = answers_from(options)
    outcome = conduct("/v1/sign-in", sign_in_request(options, answers), answers)["outcome"]
    click.echo(json.dumps(outcome) if options["as_json"] else describe(plain(outcome)))
    return EXIT_BY_DECISION.get(str(outcome["decision"]), exits.REFUSED)


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
