"""Who answers a ceremony's questions: a script once for each, a person as often as need be."""

from __future__ import annotations

from typing import Any

import pytest
from pytest_mock import MockerFixture

from tokenbridge.cli import answers, terminal
from tokenbridge.cli.answers import Answers, follow
from tokenbridge.errors import Cancelled, RemoteError, TokenbridgeError

from .conftest import ScriptedStream, descriptor, prompt

DONE = {"event": "done", "outcome": {"decision": "allow"}}


def lead(answering: Answers, *lines: Any, **options: Any) -> ScriptedStream:
    stream = ScriptedStream(*lines, DONE, **options)
    with stream:
        assert follow(stream, answering, lambda line: None) == DONE
    return stream


# --- scripts ---------------------------------------------------------------------------------------------------


def test_a_script_answers_each_kind_once() -> None:
    answering = Answers(given={"pin": descriptor(b"123456\n"), "code": descriptor(b"111111")})
    stream = lead(answering, prompt("pin", 1), prompt("code", 2))
    assert stream.answers == [("q1", b"123456"), ("q2", b"111111")]
    assert stream.declined == []


def test_a_script_never_gives_the_same_pin_twice(mocker: MockerFixture) -> None:
    mocker.patch.object(terminal, "is_interactive", return_value=True)
    asked = mocker.patch.object(terminal, "ask")
    answering = Answers(given={"pin": descriptor(b"111111\n222222\n")})
    stream = lead(answering, prompt("pin", 1, tries_left=3), prompt("pin", 2, tries_left=2))
    assert stream.answers == [("q1", b"111111")]
    assert stream.declined == ["q2"]
    asked.assert_not_called()


@pytest.mark.parametrize("kind", ["code", "password", "username", "choose", "new-pin", "puk", "unheard-of"])
def test_a_script_declines_what_it_did_not_come_for(kind: str, mocker: MockerFixture) -> None:
    mocker.patch.object(terminal, "is_interactive", return_value=True)
    asked = mocker.patch.object(terminal, "ask")
    stream = lead(Answers(given={"pin": descriptor(b"1")}), prompt(kind, options=[]))
    assert stream.declined == ["q1"]
    asked.assert_not_called()


def test_the_last_try_is_not_spent_by_a_script_unless_it_says_so() -> None:
    stream = lead(Answers(given={"pin": descriptor(b"123456")}), prompt("last-try", tries_left=1))
    assert (stream.answers, stream.declined) == ([], ["q1"])
    agreeing = Answers(given={"pin": descriptor(b"123456")}, agree_to_last_try=True)
    stream = lead(agreeing, prompt("last-try", 1, tries_left=1), prompt("pin", 2, tries_left=1))
    assert stream.answers == [("q1", b"yes"), ("q2", b"123456")]


def test_nobody_there(mocker: MockerFixture) -> None:
    mocker.patch.object(terminal, "is_interactive", return_value=False)
    stream = lead(Answers(), prompt("pin", 1), prompt("last-try", 2))
    assert stream.declined == ["q1", "q2"]


def test_answers_are_wiped(mocker: MockerFixture) -> None:
    typed = bytearray(b"123456")
    mocker.patch.object(terminal, "is_interactive", return_value=True)
    mocker.patch.object(terminal, "ask", return_value=typed)
    stream = lead(Answers(), prompt("pin", tries_left=3))
    assert stream.answers == [("q1", b"123456")]
    assert typed == bytes(6)


@pytest.mark.parametrize(("code", "passes"), [("not-allowed-now", True), ("bad-request", False)])
def test_an_answer_that_crosses_a_withdrawal_is_no_failure(code: str, passes: bool) -> None:
    answering = Answers(given={"pin": descriptor(b"123456")})
    if passes:
        lead(answering, prompt("pin"), refuse=code)
    else:
        with pytest.raises(RemoteError):
            lead(answering, prompt("pin"), refuse=code)


def test_a_scripts_code_that_comes_late_answers_the_question_that_has_taken_the_place() -> None:
    """It is a message's, and another one was sent meanwhile. A PIN that comes late is given no second time."""
    stream = ScriptedStream(prompt("code", 1), prompt("code", 2), DONE, refuse="not-allowed-now")
    with stream:
        follow(stream, Answers(given={"code": descriptor(b"111111\n")}), lambda line: None)
    assert stream.answers == [("q1", b"111111"), ("q2", b"111111")]
    assert all(not any(buffer) for buffer in stream.buffers)
    stream = ScriptedStream(prompt("pin", 1), prompt("pin", 2), DONE, refuse="not-allowed-now")
    with stream:
        follow(stream, Answers(given={"pin": descriptor(b"111111\n")}), lambda line: None)
    assert (stream.answers, stream.declined) == ([("q1", b"111111")], ["q2"])


# --- people ----------------------------------------------------------------------------------------------------


class Typist:
    """Answers `terminal.ask` by script; None is a question withdrawn while typing."""

    def __init__(self, mocker: MockerFixture, *typed: bytes | None) -> None:
        self.typed = list(typed)
        self.asked: list[tuple[str, bool]] = []
        mocker.patch.object(terminal, "is_interactive", return_value=True)
        mocker.patch.object(terminal, "ask", self.ask)

    def ask(self, label: str, *, hidden: bool, interrupt: int | None) -> bytearray | None:
        assert interrupt is not None
        self.asked.append((label, hidden))
        given = self.typed.pop(0)
        return None if given is None else bytearray(given)


@pytest.mark.parametrize(
    ("kind", "hidden"), [("pin", True), ("puk", True), ("password", True), ("code", False), ("username", False)]
)
def test_what_is_secret_is_hidden(mocker: MockerFixture, kind: str, hidden: bool) -> None:
    typist = Typist(mocker, b"123456")
    stream = lead(Answers(), prompt(kind))
    assert stream.answers == [("q1", b"123456")]
    ((label, was_hidden),) = typist.asked
    assert was_hidden is hidden
    assert label == answers.LABELS[kind]


def test_a_person_is_asked_again_and_sees_the_tries(mocker: MockerFixture, capsys: pytest.CaptureFixture[str]) -> None:
    Typist(mocker, b"111111", b"123456")
    facts = {"rp_name": "Test Hospital", "origin": "https://localhost:8443", "program": "tokenbridge (42)"}
    first = prompt("pin", 1, tries_left=3, holder="Ada", **facts)
    stream = lead(Answers(), first, prompt("pin", 2, tries_left=1, holder="Ada", **facts))
    assert [value for _, value in stream.answers] == [b"111111", b"123456"]
    shown = capsys.readouterr().err
    for words in (
        "Test Hospital",
        "https://localhost:8443",
        "tokenbridge (42)",
        "Card of Ada",
        "3 tries left",
        "1 try left",
    ):
        assert words in shown


@pytest.mark.parametrize(
    ("typed", "agrees"), [(b"y", True), (b"YES", True), (b"n", False), (b"", False), (b"yo", False)]
)
def test_the_last_try_needs_a_yes(mocker: MockerFixture, typed: bytes, agrees: bool) -> None:
    Typist(mocker, typed)
    stream = lead(Answers(), prompt("last-try", tries_left=1))
    assert bool(stream.answers) is agrees
    assert stream.declined == ([] if agrees else ["q1"])


def test_a_person_agreed_on_the_command_line(mocker: MockerFixture) -> None:
    Typist(mocker)
    assert lead(Answers(agree_to_last_try=True), prompt("last-try")).answers == [("q1", b"yes")]


def test_a_card_is_chosen_by_its_number(mocker: MockerFixture, capsys: pytest.CaptureFixture[str]) -> None:
    typist = Typist(mocker, b"0", b"x", b"3", b"2")
    options = [{"id": "Reader A", "label": "Ada", "detail": "CA"}, {"id": "Reader B", "label": "Bob", "detail": "CA"}]
    stream = lead(Answers(), prompt("choose", title="Which card?", options=options))
    assert stream.answers == [("q1", b"Reader B")]
    assert len(typist.asked) == 4
    shown = capsys.readouterr().err
    assert "Which card?" in shown
    assert "Bob" in shown


def test_a_new_pin_is_typed_twice(mocker: MockerFixture, capsys: pytest.CaptureFixture[str]) -> None:
    typist = Typist(mocker, b"111111", b"111112", b"222222", b"222222")
    assert lead(Answers(), prompt("new-pin")).answers == [("q1", b"222222")]
    assert all(hidden for _, hidden in typist.asked)
    assert "not the same" in capsys.readouterr().err


@pytest.mark.parametrize("kind", ["pin", "last-try", "choose", "new-pin"])
@pytest.mark.parametrize("typed", [(None,), (b"1", None)])
def test_a_withdrawn_question_gets_no_answer(mocker: MockerFixture, kind: str, typed: tuple[bytes | None, ...]) -> None:
    if len(typed) == 2 and kind != "new-pin":
        typed = (None,)
    Typist(mocker, *typed)
    stream = lead(Answers(), prompt(kind, options=[{"id": "a", "label": "A", "detail": ""}] * 2))
    assert (stream.answers, stream.declined) == ([], [])


def test_ctrl_d_declines(mocker: MockerFixture) -> None:
    mocker.patch.object(terminal, "is_interactive", return_value=True)
    mocker.patch.object(terminal, "ask", side_effect=Cancelled("user"))
    assert lead(Answers(), prompt("pin")).declined == ["q1"]


# --- the stream ------------------------------------------------------------------------------------------------


def test_steps_are_told_and_the_end_is_returned() -> None:
    told: list[Any] = []
    stream = ScriptedStream({"event": "step", "step": "waiting-for-device"}, DONE)
    with stream:
        assert follow(stream, Answers(), told.append) == DONE
    assert [line["step"] for line in told] == ["waiting-for-device"]


def test_an_error_line_is_raised_with_its_code() -> None:
    stream = ScriptedStream({"event": "error", "error": {"code": "pin-blocked", "message": "m"}})
    with stream, pytest.raises(RemoteError) as caught:
        follow(stream, Answers(), lambda line: None)
    assert caught.value.remote_code == "pin-blocked"


def test_a_stream_that_just_ends_is_an_error() -> None:
    with ScriptedStream() as stream, pytest.raises(TokenbridgeError):
        follow(stream, Answers(), lambda line: None)


def test_where_a_pinentry_may_appear(monkeypatch: pytest.MonkeyPatch, mocker: MockerFixture) -> None:
    monkeypatch.setenv("DISPLAY", ":1")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("LC_CTYPE", raising=False)
    mocker.patch("os.ttyname", return_value="/dev/pts/3")
    assert answers.pinentry_place() == {"display": ":1", "ttyname": "/dev/pts/3", "ttytype": "xterm"}
    mocker.patch("os.ttyname", side_effect=OSError)
    assert answers.pinentry_place() == {"display": ":1"}
