"""A bridge's stream by script, a terminal of its own for a process, and the command line in process."""

from __future__ import annotations

import os
import pty
import select
import subprocess
import sys
import termios
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from tests.patience import SECONDS
from tokenbridge.errors import RemoteError


class ScriptedStream:
    """In place of `daemon.client.Stream`: gives `lines`, notes answers, and can refuse them."""

    def __init__(self, *lines: Mapping[str, Any], refuse: str = "") -> None:
        self.lines = list(lines)
        self.refuse = refuse
        self.answers: list[tuple[str, bytes]] = []
        self.buffers: list[bytes | bytearray] = []
        self.declined: list[str] = []
        self.closed = False
        self._quiet, self._open_end = os.pipe()
        self.connection_fd = self._quiet

    def __iter__(self) -> Iterator[Mapping[str, Any]]:
        return iter(self.lines)

    def answer(self, question: str, value: bytes | bytearray) -> None:
        self.answers.append((question, bytes(value)))
        self.buffers.append(value)
        if self.refuse:
            raise RemoteError({"code": self.refuse, "message": "refused"})

    def decline(self, question: str) -> None:
        self.declined.append(question)

    def interrupt(self) -> None:
        """Another line is there."""
        os.write(self._open_end, b"x")

    def __enter__(self) -> ScriptedStream:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        if not self.closed:
            os.close(self._quiet)
            os.close(self._open_end)
        self.closed = True


def prompt(kind: str, number: int = 1, **facts: Any) -> dict[str, Any]:
    return {"event": "prompt", "id": f"q{number}", "kind": kind, **facts}


def descriptor(content: bytes) -> int:
    """A pipe to read `content` from, as `3< file` gives it."""
    read, write = os.pipe()
    os.write(write, content)
    os.close(write)
    return read


OWN_TERMINAL = "import os, sys; os.close(os.open(os.ttyname(0), os.O_RDWR))\n"
"""The session's leader gets its terminal by opening it."""


class Terminal:
    """A process on a terminal of its own; the test is the person in front of it."""

    def __init__(self, code: str, *, pass_fds: tuple[int, ...] = ()) -> None:
        self.master, self.slave = pty.openpty()
        self.before = termios.tcgetattr(self.slave)
        self.screen = ""
        self.result_read, result_write = os.pipe()
        self.process = subprocess.Popen(
            [sys.executable, "-c", f"RESULT = {result_write}\n" + OWN_TERMINAL + code],
            stdin=self.slave,
            stdout=self.slave,
            stderr=self.slave,
            start_new_session=True,
            pass_fds=(result_write, *pass_fds),
        )
        os.close(result_write)

    def sees(self, text: str) -> None:
        """Wait until `text` is on the screen."""
        while text not in self.screen:
            readable, _, _ = select.select([self.master], [], [], SECONDS)
            assert readable, f"{text!r} did not come; the screen shows {self.screen!r}"
            self.screen += os.read(self.master, 4096).decode("utf-8", "replace")

    def types(self, text: str) -> None:
        os.write(self.master, text.encode())

    def result(self) -> bytes:
        """What the process wrote to RESULT, when it has ended; its screen is complete then."""
        with os.fdopen(self.result_read, "rb") as pipe:
            content = pipe.read()
        self.process.wait(SECONDS)
        while select.select([self.master], [], [], 0)[0]:
            self.screen += os.read(self.master, 4096).decode("utf-8", "replace")
        return content

    def echo_is_on(self) -> bool:
        return bool(termios.tcgetattr(self.slave)[3] & termios.ECHO)

    def settings_are_as_before(self) -> bool:
        return termios.tcgetattr(self.slave) == self.before

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        os.close(self.master)
        os.close(self.slave)


@pytest.fixture
def terminals() -> Iterator[list[Terminal]]:
    """Terminals that are put here are closed at the end."""
    opened: list[Terminal] = []
    yield opened
    for terminal in opened:
        terminal.close()
