"""Answers the questions of a ceremony: on the terminal, or from descriptors that a script gave."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import click

from tokenbridge.cli import terminal
from tokenbridge.cli.plain import plain
from tokenbridge.errors import Cancelled, RemoteError, TokenbridgeError

if TYPE_CHECKING:
    from tokenbridge.daemon.client import Stream

HIDDEN = frozenset({"pin", "new-pin", "puk", "password", "enrolment-code", "recovery-code"})
LABELS = {
    "pin": "PIN: ",
    "puk": "PUK: ",
    "password": "Password: ",
    "code": "Code from your authenticator app: ",
    "recovery-code": "Recovery code: ",
    "enrolment-code": "Enrolment code: ",
    "username": "User name: ",
}
MESSAGES = {
    "sms": "Code of the text message to {sent_to}: ",
    "whatsapp": "Code of the WhatsApp message to {sent_to}: ",
}
WHY_NEW = {
    "first-pin": "{key} has no PIN yet. Choose one:\nwith it, the key is all you need to sign in.",
    "must-change-pin": "{key} wants a new PIN before it goes on.\nIt can't be the one you have.",
}
"""Why a new PIN is asked for, where the person did not ask for it."""


@dataclass(slots=True)
class Answers:
    """`given` holds, by kind of question, the descriptor that a script gave; each is used once."""

    given: dict[str, int] = field(default_factory=dict)
    agree_to_last_try: bool = False
    agreed: bool = False
    """To whatever else is asked for consent (--yes)."""
    scripted: bool = field(init=False)
    _late_code: bytearray | None = field(init=False, default=None)
    """A script's code whose question was void when it came: it is for the one that has taken its place."""

    def __post_init__(self) -> None:
        self.scripted = bool(self.given)

    def somebody_is_there(self) -> bool:
        """Whether a person can be asked, now that no script answers (any more)."""
        return not self.scripted and terminal.is_interactive()

    def answer(self, stream: Stream, question: Mapping[str, Any]) -> None:
        """Answer one `prompt` line; declines when there is nobody to ask (any more)."""
        try:
            value = self._value(plain(question), stream.connection_fd)
        except (Cancelled, click.Abort):
            stream.decline(question["id"])
            return
        if value is None:
            return  # withdrawn: the stream says why
        try:
            stream.answer(question["id"], value)
        except RemoteError as err:
            if err.remote_code != "not-allowed-now":  # withdrawn while it was on its way
                raise
            if question["kind"] == "code" and self.scripted:
                self._late_code = bytearray(value)
        finally:
            _wipe(value)

    def _value(self, question: Mapping[str, Any], interrupt: int) -> bytearray | None:
        kind = question["kind"]
        if kind == "last-try" and (self.agree_to_last_try or self.scripted):
            return self._last_try_by_script()
        if kind == "confirm" and self.agreed:
            return bytearray(b"yes")
        if kind in self.given:
            return terminal.read_fd(self.given.pop(kind))
        if kind == "code" and self._late_code is not None:
            code, self._late_code = self._late_code, None
            return code
        if not self.somebody_is_there():
            # A script answers what it came for and nothing else: never the same PIN a second time.
            raise Cancelled("user")
        return self._from_person(kind, question, interrupt)

    def _last_try_by_script(self) -> bytearray:
        if not self.agree_to_last_try:
            raise Cancelled("user")
        return bytearray(b"yes")

    def _from_person(self, kind: str, question: Mapping[str, Any], interrupt: int) -> bytearray | None:
        match kind:
            case "pin":
                terminal.note(describe(question))
            case "last-try":
                return self._last_try(question, interrupt)
            case "confirm":
                terminal.note(click.style(question["question"], bold=True))
                return self._consent(f"{question['consequence']} [y/N] ", interrupt)
            case "choose":
                return self._choose(question, interrupt)
            case "new-pin":
                return self._twice(question, interrupt)
        label = MESSAGES.get(question.get("method", ""), LABELS.get(kind, f"{kind}: ")).format_map(question)
        return terminal.ask(label, hidden=kind in HIDDEN, interrupt=interrupt)

    def _last_try(self, question: Mapping[str, Any], interrupt: int) -> bytearray | None:
        what = "key" if question.get("key") else "card"
        terminal.note(describe(question))
        warning = f"This is the LAST try. If it is wrong, the {what} is blocked."
        terminal.note(click.style(warning, fg="yellow", bold=True))
        return self._consent("Spend it? [y/N] ", interrupt)

    def _consent(self, prompt: str, interrupt: int) -> bytearray | None:
        typed = terminal.ask(prompt, hidden=False, interrupt=interrupt)
        if typed is None:
            return None
        if bytes(typed).lower() not in (b"y", b"yes"):
            raise Cancelled("user")
        return typed

    def _choose(self, question: Mapping[str, Any], interrupt: int) -> bytearray | None:
        options = question["options"]
        terminal.note(question.get("title", "Which one?"))
        for number, option in enumerate(options, 1):
            terminal.note(f"  {number}  {option['label']}  {click.style(option['detail'], dim=True)}".rstrip())
        while (typed := terminal.ask(f"[1-{len(options)}] ", hidden=False, interrupt=interrupt)) is not None:
            if typed.isdigit() and 1 <= int(typed) <= len(options):
                return bytearray(str(options[int(typed) - 1]["id"]).encode())
        return None

    def _twice(self, question: Mapping[str, Any], interrupt: int) -> bytearray | None:
        if question.get("purpose") in WHY_NEW:
            terminal.note(WHY_NEW[question["purpose"]].format(key=question["key"]))
        while True:
            first = terminal.ask(_new_pin_label(question), hidden=True, interrupt=interrupt)
            second = terminal.ask("Once more: ", hidden=True, interrupt=interrupt) if first is not None else None
            same = first == second
            _wipe(second)
            if first is not None and second is not None and same:
                return first
            _wipe(first)
            if first is None or second is None:
                return None
            terminal.note("The two are not the same. Nothing was changed; type them again.")


def _new_pin_label(question: Mapping[str, Any]) -> str:
    unit = "characters" if question.get("key") else "digits"
    return f"New PIN ({question.get('min_length', 6)} to {question.get('max_length', 8)} {unit}): "


def _wipe(typed: bytearray | None) -> None:
    if typed is not None:
        typed[:] = bytes(len(typed))


def describe(question: Mapping[str, Any]) -> str:
    """What a person sees before the PIN: who asks, whose card, tries left."""
    lines = []
    if question.get("rp_name"):
        site = click.style(question["rp_name"], bold=True)
        wish = "wants to register your key" if question.get("purpose") == "register" else "asks you to sign in"
        lines.append(f"{site} ({question['origin']}) {wish}, for {question['program']}.")
    tries = question.get("tries_left")
    left = "" if tries is None else f"  {tries} {'try' if tries == 1 else 'tries'} left"
    lines.append(_whose(question) + click.style(left, fg="yellow" if (tries or 9) < 3 else None))
    return "\n".join(lines)


def _whose(question: Mapping[str, Any]) -> str:
    if question.get("key"):
        return str(question["key"])
    return f"Card of {question['holder']}" if question.get("holder") else "Your card"


def follow(stream: Stream, answers: Answers, on_step: Any) -> dict[str, Any]:
    """Lead a ceremony to its end; returns its `done` line. Raises what it ended with."""
    for line in stream:
        match line["event"]:
            case "prompt":
                answers.answer(stream, line)
            case "step":
                on_step(line)
            case "done":
                return line
            case "error":
                raise RemoteError(line["error"])
    raise TokenbridgeError("The bridge ended the ceremony without a result.")


def pinentry_place() -> dict[str, str]:
    """Where a pinentry may appear: this process's display or terminal."""
    place = {"display": os.environ.get("DISPLAY", ""), "lc-ctype": os.environ.get("LC_CTYPE", "")}
    with contextlib.suppress(OSError):
        place |= {"ttyname": os.ttyname(0), "ttytype": os.environ.get("TERM", "")}
    return {key: value for key, value in place.items() if value}
