"""A terminal that is killed in front of, input that is wiped, and sites that leave out half of their answer."""

from __future__ import annotations

import signal
from typing import Any

import click
import pytest
from pytest_mock import MockerFixture

from tokenbridge.cli import sign_in, terminal
from tokenbridge.cli.answers import Answers

from .conftest import SECONDS, ScriptedStream, Terminal, prompt

ASK = 'from tokenbridge.cli import terminal\nterminal.ask("PIN: ", hidden=True)\n'


def test_sigterm_gives_the_echo_back(terminals: list[Terminal]) -> None:
    terminals.append(Terminal(ASK))
    (opened,) = terminals
    opened.sees("PIN: ")
    assert not opened.echo_is_on()
    opened.process.send_signal(signal.SIGTERM)
    assert opened.process.wait(SECONDS) == 128 + signal.SIGTERM
    assert opened.settings_are_as_before()


def test_every_new_pin_that_was_typed_is_wiped(mocker: MockerFixture) -> None:
    typed = [bytearray(text) for text in (b"111111", b"222222", b"333333", b"333333")]
    given = iter(typed)
    mocker.patch.object(terminal, "ask", side_effect=lambda *_, **__: next(given))
    mocker.patch.object(terminal, "is_interactive", return_value=True)
    stream = ScriptedStream()
    Answers().answer(stream, prompt("new-pin"))  # type: ignore[arg-type]  # by script
    stream.close()
    assert stream.answers == [("q1", b"333333")]
    assert [bytes(buffer).strip(b"\0") for buffer in typed] == [b""] * 4


@pytest.mark.parametrize(
    ("outcome", "words"),
    [
        ({"decision": "allow"}, "Signed in"),
        ({"decision": "allow", "account": [], "sentence": None, "reasons": 5}, "Signed in"),
        ({"decision": "allow", "account": {"username": "ada"}, "sentence": "AAL3", "reasons": [{}, "x"]}, "ada (ada)"),
        ({"decision": "challenge", "methods": [["totp"], 5, "sms"], "sentence": 7}, "text message"),
        ({"decision": ["allow"], "reasons": [{"text": ["x"]}]}, "Not signed in"),
    ],
)
def test_half_an_outcome_is_shown_as_far_as_it_goes(outcome: dict[str, Any], words: str) -> None:
    assert words in click.unstyle(sign_in.describe(outcome))
