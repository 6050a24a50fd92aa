"""Hostile text never reaches the terminal as anything but one line of printable characters."""

from __future__ import annotations

import json
from typing import Any

import click
import pytest

from tokenbridge.cli import main, sign_in
from tokenbridge.cli.plain import plain
from tokenbridge.errors import RemoteError

HOSTILE = "Trust\x1b[2J\x1b]0;owned\x07\nPIN: \u202edaB"


def test_escapes_line_ends_and_bidi_marks_are_replaced() -> None:
    assert plain(HOSTILE) == "Trust?[2J?]0;owned??PIN: ?daB"
    assert plain({"a": [HOSTILE], "n": 3, "pem": "x\ny"}) == {"a": [plain(HOSTILE)], "n": 3, "pem": "x\ny"}
    assert plain("Zoë Ångström 患者") == "Zoë Ångström 患者"


def test_an_error_of_a_hostile_site(capsys: pytest.CaptureFixture[str]) -> None:
    error = RemoteError({"code": HOSTILE, "message": HOSTILE, "next_step": HOSTILE})
    with pytest.raises(SystemExit):
        main.fail(error, as_json=False)
    shown = click.unstyle(capsys.readouterr().err)
    assert "\x1b" not in shown
    assert "\u202e" not in shown
    with pytest.raises(SystemExit):
        main.fail(error, as_json=True)
    assert json.loads(capsys.readouterr().out)["error"]["message"] == HOSTILE


def test_an_outcome_of_a_hostile_site() -> None:
    outcome: dict[str, Any] = {
        "decision": "allow",
        "account": {"username": HOSTILE, "display_name": HOSTILE},
        "sentence": HOSTILE,
        "reasons": [{"code": "x", "text": HOSTILE + "more"}],
    }
    shown = click.unstyle(sign_in.describe(plain(outcome)))
    assert "\x1b" not in shown
    assert shown.count("\n") == 2
