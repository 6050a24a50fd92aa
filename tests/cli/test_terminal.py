"""Asking on a real terminal: hidden input, interruption, end of input, and settings that come back."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tokenbridge.cli import terminal
from tokenbridge.errors import SetupError

from .conftest import SECONDS, Terminal, descriptor

# A run that was started in the background ignores SIGINT, and its children would too.
ASK = """
import signal
from tokenbridge.cli import terminal
signal.signal(signal.SIGINT, signal.default_int_handler)
from tokenbridge.errors import TokenbridgeError
try:
    typed = terminal.ask("PIN: ", hidden={hidden}, interrupt={interrupt})
    os.write(RESULT, repr(typed if typed is None else bytes(typed)).encode())
except TokenbridgeError as err:
    os.write(RESULT, err.code.encode())
except KeyboardInterrupt:
    os.write(RESULT, b"interrupted")
"""


def ask(terminals: list[Terminal], *, hidden: bool, interrupt: int | None = None) -> Terminal:
    fds = () if interrupt is None else (interrupt,)
    terminals.append(Terminal(ASK.format(hidden=hidden, interrupt=interrupt), pass_fds=fds))
    terminals[-1].sees("PIN: ")
    return terminals[-1]


def test_hidden_input_is_not_on_the_screen(terminals: list[Terminal]) -> None:
    opened = ask(terminals, hidden=True)
    assert not opened.echo_is_on()
    opened.types("123456\n")
    assert opened.result() == b"b'123456'"
    assert "123456" not in opened.screen
    assert opened.screen.endswith("\r\n")
    assert opened.settings_are_as_before()


def test_open_input_is_on_the_screen(terminals: list[Terminal]) -> None:
    opened = ask(terminals, hidden=False)
    opened.types("ada\n")
    assert opened.result() == b"b'ada'"
    assert "ada" in opened.screen
    assert opened.settings_are_as_before()


def test_input_can_be_corrected_and_may_be_any_text(terminals: list[Terminal]) -> None:
    opened = ask(terminals, hidden=True)
    opened.types("12x\x7f3 p\u00e4ss\n")
    assert opened.result() == repr("123 p\u00e4ss".encode()).encode()


def test_an_empty_line_is_empty_input(terminals: list[Terminal]) -> None:
    opened = ask(terminals, hidden=True)
    opened.types("\n")
    assert opened.result() == b"b''"


@pytest.mark.parametrize("hidden", [True, False])
def test_a_question_that_is_withdrawn_gives_up_what_was_typed(terminals: list[Terminal], hidden: bool) -> None:
    read, write = os.pipe()
    try:
        opened = ask(terminals, hidden=hidden, interrupt=read)
        opened.types("1234")
        os.write(write, b"x")
        assert opened.result() == b"None"
        assert opened.settings_are_as_before()
    finally:
        os.close(read)
        os.close(write)


def test_ctrl_d_is_a_cancel(terminals: list[Terminal]) -> None:
    opened = ask(terminals, hidden=True)
    opened.types("\x04")
    assert opened.result() == b"cancelled"
    assert opened.settings_are_as_before()


def test_ctrl_c_brings_the_settings_back(terminals: list[Terminal]) -> None:
    opened = ask(terminals, hidden=True)
    opened.types("12\x03")
    assert opened.result() == b"interrupted"
    assert opened.settings_are_as_before()


def test_without_a_terminal_it_says_what_else_to_do() -> None:
    code = (
        "from tokenbridge.cli import terminal; from tokenbridge.errors import SetupError\n"
        "assert not terminal.is_interactive()\n"
        "try: terminal.ask('PIN: ', hidden=True)\n"
        "except SetupError as err: print(err.hint)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        start_new_session=True,
        timeout=SECONDS,
        check=True,
    )
    assert "--pin-fd" in done.stdout


@pytest.mark.parametrize(
    ("content", "line"),
    [(b"123456\n", b"123456"), (b"123456", b"123456"), (b"1\n2\n", b"1"), (b"", b""), (b"\n", b"")],
)
def test_the_first_line_of_a_descriptor(content: bytes, line: bytes) -> None:
    read = descriptor(content)
    try:
        assert terminal.read_fd(read) == line
    finally:
        os.close(read)


def test_a_line_from_windows_has_no_carriage_return_at_its_end() -> None:
    read = descriptor(b"123456\r\n")
    try:
        assert terminal.read_fd(read) == b"123456"
    finally:
        os.close(read)


def test_a_descriptor_without_end_is_not_read_to_its_end() -> None:
    with open("/dev/zero", "rb") as endless:
        assert len(terminal.read_fd(endless.fileno())) == terminal.MAX_INPUT


def test_a_descriptor_that_is_not_there() -> None:
    with pytest.raises(SetupError) as caught:
        terminal.read_fd(987)
    assert "987" in caught.value.message
