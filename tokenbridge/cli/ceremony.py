"""What the commands that sign in have in common: their options, the request they make, and what is said on the way."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, TypeVar

import click

from tokenbridge.cli import terminal
from tokenbridge.cli.answers import Answers, follow, pinentry_place
from tokenbridge.cli.plain import plain

F = TypeVar("F", bound=Callable[..., Any])

SECRETS: Final = ("pin", "password", "code", "recovery-code", "enrolment-code", "new-pin")
"""Kinds of question that a script may answer by `--KIND-fd`."""


def site_options(command: F) -> F:
    """How to reach the site, and with what to sign in there."""
    for option in reversed(
        (
            click.option(
                "--ca",
                type=click.Path(exists=True, dir_okay=False, path_type=Path),
                help="Authority to trust for URL.",
            ),
            click.option("--card", "use_card", is_flag=True, help="Use a card, whatever else is there."),
            click.option("--reader", default="", help="Use the card in this reader."),
            click.option("--key", default="", metavar="SERIAL|PATH", help="Use this security key; `any` for any one."),
            click.option("--user", "username", default="", help="Sign in with a password; with --key: whose key."),
            click.option("--recovery", is_flag=True, help="After the password, use a recovery code."),
            click.option(
                "--by",
                "by",
                type=click.Choice(["number-match", "totp", "sms", "whatsapp", "voice", "recovery"]),
                help="After the password, use this.",
            ),
            click.option(
                "--prompt",
                type=click.Choice(["auto", "terminal", "pinentry"]),
                default="auto",
                show_default=True,
                help="Where to ask for the PIN; auto is the terminal if there is one.",
            ),
            *(secret_fd(kind) for kind in ("pin", "password", "code", "recovery-code")),
            click.option("--spend-last-try", is_flag=True, help="Agree beforehand to spend the last PIN try."),
            click.option("--wait", default=120.0, show_default=True, help="Seconds to wait for a card or key."),
        )
    ):
        command = option(command)
    return command


def secret_fd(kind: str) -> Callable[[F], F]:
    """`--KIND-fd`, for scripts."""
    what = kind.replace("-", " ").replace("pin", "PIN")
    return click.option(f"--{kind}-fd", type=int, help=f"Read the {what} from this file descriptor.")


def answers_from(options: Mapping[str, Any]) -> Answers:
    given = {kind: options.get(f"{kind.replace('-', '_')}_fd") for kind in SECRETS}
    return Answers(
        given={kind: fd for kind, fd in given.items() if fd is not None},
        agree_to_last_try=bool(options.get("spend_last_try")),
        agreed=bool(options.get("yes")),
    )


def sign_in_request(options: Mapping[str, Any], answers: Answers) -> dict[str, Any]:
    """The members of a request that signs in."""
    recovery = options["recovery"] or options.get("recovery_code_fd") is not None
    # Who brings a code waits for no telephone, even if the site would rather ask that.
    by_code = "totp" if options.get("code_fd") is not None else ""
    request: dict[str, Any] = {
        "url": options["url"],
        "ca": str(options["ca"].resolve()) if options["ca"] else "",
        "method": _method(options),
        "reader": options["reader"],
        "key": "" if options["key"] == "any" else options["key"],
        "username": options["username"],
        "fallback": "recovery" if recovery else options.get("by") or by_code,
        "wait_seconds": options["wait"],
    }
    wants_window = not answers.given and not terminal.is_interactive()
    if options["prompt"] == "pinentry" or (options["prompt"] == "auto" and wants_window):
        request["pinentry"] = pinentry_place()
    return request


def _method(options: Mapping[str, Any]) -> str:
    if options["key"]:
        return "key"
    if options["use_card"] or options["reader"]:
        return "card"
    # A script that brings a code came to sign in by it, not by a key that happens to be plugged in.
    by_code = options.get("code_fd") is not None or options.get("recovery_code_fd") is not None
    return "password" if options["username"] and by_code else ""


def conduct(path: str, request: Mapping[str, Any], answers: Answers) -> dict[str, Any]:
    """Lead a ceremony of the bridge to its end; its last line, without the word `event`."""
    from tokenbridge.daemon import client

    with client.connect().stream("POST", path, request) as stream:
        done = follow(stream, answers, lambda line: say_step(plain(line), answers))
    return {key: value for key, value in done.items() if key != "event"}


def say_step(line: Mapping[str, Any], answers: Answers) -> None:
    """One step of a ceremony, in words."""
    step = line["step"]
    if step in _ONLY_FOR_PEOPLE and not answers.somebody_is_there():
        return
    for text in _words(step, line):
        terminal.note(text)


_ONLY_FOR_PEOPLE: Final = frozenset({"try-again", "challenged", "sign-in-first", "registering"})


def _words(step: str, line: Mapping[str, Any]) -> list[str]:
    match step:
        case "waiting-for-device":
            what = ", or ".join(words for name, words in _PRESENT.items() if name in line["accepts"])
            return [_dim(f"{line['rp']} ({line['origin']}): {what}."), *_problem(line)]
        case "waiting-for-key":
            return [_dim(PLUG_IN.capitalize() + "."), *_problem(line)]
        case "card-removed":
            return [_warning("The card was taken out.")]
        case "key-removed":
            return [_warning("The security key was taken out.")]
        case "try-again":
            return [click.style(f"✗ {line['message']}", fg="red"), f"  → {line['next_step']}"]
        case "message-lost":
            return [_warning(_of_lost(line))]
        case "challenged":
            return [_warning(line.get("sentence", "A further proof is asked for."))]
        case _:
            text = _SIMPLE.get(step, "")
            return [text.format_map({"key": "your security key", **line})] if text else _of_touch(step, line)


def _of_lost(line: Mapping[str, Any]) -> str:
    what = "WhatsApp message" if line["method"] == "whatsapp" else "text message"
    if line["instead"]:
        return f"The {what} did not arrive. We have sent a text message to {line['sent_to']} instead."
    return f"The {what} could not be delivered."


def _of_touch(step: str, line: Mapping[str, Any]) -> list[str]:
    match step:
        case "touch-to-choose":
            return [f"There are {len(line['keys'])} security keys: touch the one you mean.", *map(_dim, line["keys"])]
        case "fingerprint-sample":
            problem = f" That one was {line['problem']}." if line["problem"] else ""
            return [f"{problem.strip()} Touch the sensor again: {line['remaining']} to go.".strip()]
        case _:
            return []


PLUG_IN: Final = "plug in your security key"
_PRESENT: Final = {"card": "insert your card", "key": PLUG_IN}
_SIMPLE: Final = {
    "type-pin-on-reader": "Type your PIN on the reader.",
    "touch-key": "Touch {key}.",
    "touch-to-reset": "Touch {key} to erase it.",
    "replug-key": "Take {key} out and plug it in again.",
    "fingerprint": "Touch the sensor of {key} with the finger you want to add.",
    "approve-on-phone": "Open the request on {sent_to} and type {number} there.",
    "answer-call": "Answer the call to {sent_to} and press #.",
    "sign-in-first": "First sign in at {origin}.",
    "registering": "Registering a security key for {account} at {rp}.",
}


def _dim(text: str) -> str:
    return click.style(text, dim=True)


def _warning(text: str) -> str:
    return click.style(text, fg="yellow")


def _problem(line: Mapping[str, Any]) -> list[str]:
    return [_warning(f"{line['problem']['message']} {line['problem']['next_step']}")] if "problem" in line else []
