"""Waiting for what will come, however slow the machine, and ending what was started, however a test ends."""

from __future__ import annotations

import asyncio
import contextlib
import queue
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import IO, Any, TypeVar

T = TypeVar("T")

SECONDS = 60.0
"""Far more than it takes anywhere: who waits so long waits for what does not come."""
LOOK_EVERY = 0.02


def until(holds: Callable[[], T], what: str = "", *, seconds: float = SECONDS) -> T:
    """The first true value of `holds`. Fails the test after `seconds`, naming `what`."""
    deadline = time.monotonic() + seconds
    while not (found := holds()):
        assert time.monotonic() < deadline, f"not within {seconds:.0f} s: {what or holds}"
        time.sleep(LOOK_EVERY)
    return found


async def until_async(holds: Callable[[], T], what: str = "", *, seconds: float = SECONDS) -> T:
    """As `until`, while the loop goes on."""
    deadline = time.monotonic() + seconds
    while not (found := holds()):
        assert time.monotonic() < deadline, f"not within {seconds:.0f} s: {what or holds}"
        await asyncio.sleep(LOOK_EVERY)
    return found


@contextmanager
def ended(*processes: subprocess.Popen[Any]) -> Iterator[None]:
    """Afterwards none of them runs and their pipes are closed: what is left open makes another test fail."""
    try:
        yield
    finally:
        for process in processes:
            if process.poll() is None:
                process.kill()
            process.wait(SECONDS)
            for pipe in (process.stdin, process.stdout, process.stderr):
                if pipe is not None:
                    pipe.close()


def go(processes: Sequence[subprocess.Popen[str]], word: str) -> None:
    """Children that have said `word`, and wait for a line: all go on at the same time."""
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == f"{word}\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()


class Lines:
    """What a child says, line by line, without waiting for ever; other lines may come before the one that is meant."""

    def __init__(self, pipe: IO[str] | None) -> None:
        assert pipe is not None
        self._pipe: IO[str] = pipe
        self._said: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._before: list[str] = []
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        with contextlib.suppress(ValueError):  # it was closed
            for line in self._pipe:
                self._said.put(line)
        self._said.put("")

    def next(self, holds: Callable[[str], bool] = bool, *, seconds: float = SECONDS) -> str:
        """The next line that fits. Fails the test if the child ends, or after `seconds`."""
        deadline = time.monotonic() + seconds
        while True:
            try:
                line = self._said.get(timeout=max(0.0, deadline - time.monotonic()))
            except queue.Empty:
                line = ""
            assert line, f"it has said only: {''.join(self._before)}"
            if holds(line):
                return line
            self._before.append(line)
