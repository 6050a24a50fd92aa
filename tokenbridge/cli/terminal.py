"""Hidden input from the terminal that can be interrupted by something else becoming readable."""

from __future__ import annotations

import os
import select
import signal
import sys
import termios
from types import FrameType
from typing import Final

import click

from tokenbridge.errors import Cancelled, SetupError

MAX_INPUT: Final = 1024


def is_interactive() -> bool:
    """Whether somebody could be asked: the controlling terminal can be opened."""
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY))
    except OSError:
        return False
    return True


def ask(prompt: str, *, hidden: bool, interrupt: int | None = None) -> bytearray | None:
    """One line from the terminal, without its end; None if descriptor `interrupt` became readable first.

    Raises `Cancelled` at end of input, `SetupError` without a terminal.
    """
    try:
        tty = os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY)
    except OSError as err:
        raise SetupError(
            "There is no terminal to ask on.", next_step="Use --pin-fd, or --prompt pinentry on a desktop."
        ) from err
    try:
        return _ask(tty, prompt, hidden=hidden, interrupt=interrupt)
    finally:
        os.close(tty)


def _ask(tty: int, prompt: str, *, hidden: bool, interrupt: int | None) -> bytearray | None:
    before = termios.tcgetattr(tty)
    previous = signal.signal(signal.SIGTERM, _leave)
    try:
        if hidden:
            quiet = termios.tcgetattr(tty)
            quiet[3] &= ~termios.ECHO
            termios.tcsetattr(tty, termios.TCSAFLUSH, quiet)
        os.write(tty, prompt.encode())
        watched = [tty] if interrupt is None else [tty, interrupt]
        readable, _, _ = select.select(watched, [], [])
        if tty not in readable:
            termios.tcflush(tty, termios.TCIFLUSH)
            os.write(tty, b"\n")
            return None
        return _line(tty, echo_newline=hidden)
    finally:
        termios.tcsetattr(tty, termios.TCSAFLUSH, before)
        signal.signal(signal.SIGTERM, previous)


def _leave(number: int, frame: FrameType | None) -> None:  # noqa: ARG001  a signal handler's shape
    """End as the signal would, but with the terminal's echo given back on the way."""
    sys.exit(128 + number)


def _line(tty: int, *, echo_newline: bool) -> bytearray:
    # In canonical mode a read gives one whole line.
    typed = bytearray(MAX_INPUT)
    del typed[os.readv(tty, [typed]) :]  # into the buffer that is wiped later, without a copy that is not
    if echo_newline:
        os.write(tty, b"\n")
    if not typed:
        raise Cancelled("user")
    while typed and typed[-1] in b"\r\n":
        del typed[-1]
    return typed


def read_fd(descriptor: int) -> bytearray:
    """The first line from descriptor `descriptor` (`--pin-fd`). Raises `SetupError`."""
    typed = bytearray()
    try:
        while len(typed) < MAX_INPUT and (byte := os.read(descriptor, 1)) not in (b"", b"\n"):
            typed += byte
    except OSError as err:
        raise SetupError(f"Nothing can be read from descriptor {descriptor}: {err.strerror}.") from err
    if typed.endswith(b"\r"):
        del typed[-1]
    return typed


def note(text: str) -> None:
    """Tell the person something while the result goes to standard output."""
    click.echo(text, err=True)
    sys.stderr.flush()
