"""Questions and their answers: single use, in time, by the stream or by a pinentry."""

from __future__ import annotations

import asyncio
import json
import os
import stat
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tokenbridge.daemon.prompts import Pending, PinentryInteraction, StreamInteraction, describe
from tokenbridge.errors import Cancelled, NotAllowedNow, SetupError, TimedOut, TokenbridgeError
from tokenbridge.interaction import Option, PinRequest, Secret

from .conftest import run

REQUEST = PinRequest(
    purpose="sign-in",
    rp_name="Test Hospital",
    origin="https://localhost:8443",
    program="portal (7)",
    holder="Ada",
    tries_left=3,
)


class Caller:
    """Reads the stream; `ask` runs a question beside it."""

    def __init__(self, seconds: float = 5) -> None:
        self.pending = Pending()
        self.lines: asyncio.Queue[Mapping[str, Any]] = asyncio.Queue()
        self.interaction = StreamInteraction(self.lines.put, self.pending, seconds)

    async def hears(self) -> Mapping[str, Any]:
        return await self.lines.get()


# --- pending ---------------------------------------------------------------------------------------------------


def test_an_answer_is_taken_once() -> None:
    async def work() -> None:
        pending = Pending()
        question, future = pending.open()
        secret = Secret(b"123456")
        pending.answer(question, secret)
        assert await future is secret
        for again in (lambda: pending.answer(question, Secret(b"1")), lambda: pending.decline(question)):
            with pytest.raises(NotAllowedNow):
                again()

    run(work())


def test_ids_are_unguessable_and_unknown_ones_refused() -> None:
    async def work() -> None:
        pending = Pending()
        ids = {pending.open()[0] for _ in range(100)}
        assert len(ids) == 100
        assert min(map(len, ids)) >= 20
        for unknown in ("", "x", "a" * 22):
            with pytest.raises(NotAllowedNow):
                pending.answer(unknown, Secret(b"1"))

    run(work())


def test_a_closed_question_takes_no_answer() -> None:
    async def work() -> None:
        pending = Pending()
        question, _ = pending.open()
        pending.close(question)
        pending.close(question)
        with pytest.raises(NotAllowedNow):
            pending.answer(question, Secret(b"1"))

    run(work())


# --- by the stream ---------------------------------------------------------------------------------------------


def test_a_pin_question_says_all_and_gets_its_answer() -> None:
    async def work() -> None:
        caller = Caller()
        asking = asyncio.create_task(caller.interaction.ask_pin(REQUEST))
        line = await caller.hears()
        assert line["event"] == "prompt"
        assert line["kind"] == "pin"
        assert {key: line[key] for key in ("rp_name", "origin", "program", "holder", "tries_left")} == {
            "rp_name": "Test Hospital",
            "origin": "https://localhost:8443",
            "program": "portal (7)",
            "holder": "Ada",
            "tries_left": 3,
        }
        json.dumps(line)
        secret = Secret(b"123456")
        caller.pending.answer(line["id"], secret)
        assert await asking is secret

    run(work())


@pytest.mark.parametrize("kind", ["pin", "last-try", "choose", "password"])
def test_declining_is_a_cancel_by_the_user(kind: str) -> None:
    async def work() -> None:
        caller = Caller()
        questions = {
            "pin": lambda: caller.interaction.ask_pin(REQUEST),
            "last-try": lambda: caller.interaction.confirm_last_try(REQUEST),
            "choose": lambda: caller.interaction.choose("Which?", [Option(id="a", label="A")]),
            "password": lambda: caller.interaction.ask_text("password", {}),
        }
        asking = asyncio.create_task(questions[kind]())
        line = await caller.hears()
        assert line["kind"] == kind
        caller.pending.decline(line["id"])
        with pytest.raises(Cancelled) as caught:
            await asking
        assert caught.value.by == "user"

    run(work())


def test_nobody_answers_in_time() -> None:
    async def work() -> None:
        caller = Caller(seconds=0.01)
        with pytest.raises(TimedOut):
            await caller.interaction.ask_pin(REQUEST)
        line = await caller.hears()
        with pytest.raises(NotAllowedNow):
            caller.pending.answer(line["id"], Secret(b"123456"))

    run(work())


def test_an_answer_that_crosses_a_withdrawal_is_wiped() -> None:
    async def work() -> None:
        caller = Caller()
        asking = asyncio.create_task(caller.interaction.ask_pin(REQUEST))
        line = await caller.hears()
        secret = Secret(b"123456")
        caller.pending.answer(line["id"], secret)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        assert len(secret) == 0

    run(work())


def test_a_choice_that_is_no_text() -> None:
    async def work() -> None:
        caller = Caller()
        asking = asyncio.create_task(caller.interaction.choose("Which?", [Option(id="a", label="A", detail="x")]))
        line = await caller.hears()
        assert line["options"] == [{"id": "a", "label": "A", "detail": "x"}]
        secret = Secret(b"\xff\xfe")
        caller.pending.answer(line["id"], secret)
        assert await asking == "\ufffd\ufffd"
        assert len(secret) == 0

    run(work())


def test_consent_to_the_last_try_is_wiped_too() -> None:
    async def work() -> None:
        caller = Caller()
        asking = asyncio.create_task(caller.interaction.confirm_last_try(REQUEST))
        secret = Secret(b"yes")
        caller.pending.answer((await caller.hears())["id"], secret)
        await asking
        assert len(secret) == 0

    run(work())


# --- by a pinentry ---------------------------------------------------------------------------------------------

PINENTRY = '''#!{python}
"""A pinentry that notes what it is told and answers as the test says."""
import json, os, sys
answers = json.loads({answers!r})
log = open({log!r}, "w")
def note(text):
    log.write(text + "\\n")
    log.flush()
note(json.dumps(sys.argv[1:]))
def say(text):
    sys.stdout.write(text + "\\n")
    sys.stdout.flush()
if "greeting" in answers:
    say(answers["greeting"])
    if not answers["greeting"].startswith("OK"):
        sys.exit(0)
else:
    say("OK Pleased to meet you")
for line in sys.stdin:
    note(line.rstrip("\\n"))
    word = line.split()[0]
    if answers.get(word) == "exit":
        sys.exit(1)
    for answer in answers.get(word, ["OK"]):
        if answer == "wait":
            sys.stdin.readline()
        say(answer)
'''


class Pinentry:
    """A real program that speaks Assuan as told."""

    def __init__(self, folder: Path, **answers: Any) -> None:
        self.path = folder / "pinentry"
        self.log = folder / "log"
        text = PINENTRY.format(python=sys.executable, answers=json.dumps(answers), log=str(self.log))
        self.path.write_text(text)
        self.path.chmod(self.path.stat().st_mode | stat.S_IXUSR)

    def interaction(self, seconds: float = 5, where: Mapping[str, str] | None = None) -> PinentryInteraction:
        self.caller = Caller(seconds)
        return PinentryInteraction(self.caller.interaction, str(self.path), where or {})

    def is_told(self, wanted: str) -> None:
        """Read the log, here a pipe, until `wanted` comes."""
        with self.log.open() as lines:
            assert any(line.rstrip("\n") == wanted for line in lines)

    def told(self) -> list[str]:
        return self.log.read_text().splitlines()


def test_pin_by_pinentry(tmp_path: Path) -> None:
    async def work() -> None:
        pinentry = Pinentry(tmp_path, GETPIN=["D 123456", "OK"])
        interaction = pinentry.interaction(where={"display": ":1", "ttyname": "/dev/pts/3", "evil": "x", "ttytype": ""})
        with await interaction.ask_pin(REQUEST) as secret:
            assert secret.reveal() == b"123456"
        arguments, *lines = pinentry.told()
        assert json.loads(arguments) == ["--display", ":1", "--ttyname", "/dev/pts/3"]
        assert lines[0] == "SETTITLE tokenbridge"
        assert lines[-1] == "GETPIN"
        shown = next(line for line in lines if line.startswith("SETDESC "))
        for word in ("Test Hospital", "https://localhost:8443", "portal (7)", "Ada", "3 tries left"):
            assert word in shown
        assert (await pinentry.caller.hears())["step"] == "pinentry"

    run(work())


def test_escapes_both_ways(tmp_path: Path) -> None:
    async def work() -> None:
        pinentry = Pinentry(tmp_path, GETPIN=["# a comment", "S STATUS", "D a%25b%0Ac%C3%A9%zz%+1%", "OK"])
        request = PinRequest(purpose="sign-in", rp_name="100%\r\nBYE", origin="https://x", holder="Ada\nSETDESC evil")
        with await pinentry.interaction().ask_pin(request) as secret:
            assert bytes(secret.reveal()) == b"a%b\nc\xc3\xa9%zz%+1%"
        lines = pinentry.told()[1:]
        assert [line.split()[0] for line in lines] == ["SETTITLE", "SETPROMPT", "SETDESC", "GETPIN"]
        assert "100%25??BYE" in lines[2]  # line ends of strangers are not even passed on escaped

    run(work())


@pytest.mark.parametrize("code", ["83886179 Operation cancelled <Pinentry>", "83886194 Not confirmed <Pinentry>"])
def test_cancel_in_the_pinentry(tmp_path: Path, code: str) -> None:
    async def work() -> None:
        pinentry = Pinentry(tmp_path, GETPIN=[f"ERR {code}"], CONFIRM=[f"ERR {code}"])
        for ask in (pinentry.interaction().ask_pin, pinentry.interaction().confirm_last_try):
            with pytest.raises(Cancelled) as caught:
                await ask(REQUEST)
            assert caught.value.by == "user"

    run(work())


def test_last_try_is_confirmed_in_the_pinentry(tmp_path: Path) -> None:
    async def work() -> None:
        pinentry = Pinentry(tmp_path)
        await pinentry.interaction().confirm_last_try(REQUEST)
        assert "LAST try" in "".join(pinentry.told())
        assert pinentry.told()[-1] == "CONFIRM"

    run(work())


def test_consent_and_news_are_shown_in_the_pinentry_too(tmp_path: Path) -> None:
    async def work() -> None:
        pinentry = Pinentry(tmp_path)
        await pinentry.interaction().confirm("Sign in?", "The browser will be signed in.")
        assert "Sign in?%0A%0AThe browser will be signed in." in "".join(pinentry.told())
        assert pinentry.told()[-1] == "CONFIRM"
        await pinentry.interaction().tell("Not signed in.")
        assert pinentry.told()[-2:] == ["SETDESC Not signed in.", "MESSAGE"]
        refused = Pinentry(tmp_path, CONFIRM=["ERR 83886194 Not confirmed"])
        with pytest.raises(Cancelled):
            await refused.interaction().confirm("Sign in?", "")

    run(work())


BROKEN = {
    "other error": {"GETPIN": ["ERR 83886340 No display"]},
    "refuses at once": {"greeting": "ERR 83886340 No display"},
    "silent": {"greeting": ""},
    "ends in the middle": {"SETPROMPT": "exit"},
    "ends at the question": {"GETPIN": "exit"},
    "endless line": {"GETPIN": ["D " + "1" * 200_000, "OK"]},
}


@pytest.mark.parametrize("answers", BROKEN.values(), ids=BROKEN.keys())
def test_a_pinentry_that_fails_is_a_typed_error(tmp_path: Path, answers: dict[str, Any]) -> None:
    async def work() -> None:
        with pytest.raises(TokenbridgeError):
            await Pinentry(tmp_path, **answers).interaction().ask_pin(REQUEST)

    run(work())


def test_a_pinentry_that_is_not_there() -> None:
    async def work() -> None:
        interaction = PinentryInteraction(Caller().interaction, "/nonexistent/pinentry", {})
        with pytest.raises(SetupError) as caught:
            await interaction.ask_pin(REQUEST)
        assert "--prompt terminal" in caught.value.hint

    run(work())


def children() -> set[str]:
    return set(Path(f"/proc/self/task/{os.getpid()}/children").read_text().split())


def test_a_pinentry_that_nobody_answers_is_ended(tmp_path: Path) -> None:
    async def work() -> None:
        before = children()
        with pytest.raises(TimedOut):
            await Pinentry(tmp_path, GETPIN=["wait"]).interaction(seconds=0.3).ask_pin(REQUEST)
        assert children() <= before

    run(work())


def test_a_withdrawn_question_ends_the_pinentry(tmp_path: Path) -> None:
    async def work() -> None:
        before = children()
        pinentry = Pinentry(tmp_path, GETPIN=["wait"])
        os.mkfifo(pinentry.log)
        asking = asyncio.create_task(pinentry.interaction().ask_pin(REQUEST))
        await asyncio.to_thread(pinentry.is_told, "GETPIN")
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        assert children() <= before

    run(work())


@pytest.mark.parametrize(
    ("tries", "words"), [(3, "3 tries left"), (1, "1 try left"), (None, "Card of Ada"), (0, "0 tries left")]
)
def test_words_of_a_prompt(tries: int | None, words: str) -> None:
    request = PinRequest(purpose="sign-in", holder="Ada", tries_left=tries)
    assert words in describe(request)
    assert "Your card" in describe(PinRequest(purpose="pin-change"))
