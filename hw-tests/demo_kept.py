"""A demo that was kept: what it has printed, and a terminal beside it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

PROGRAM = (sys.executable, "-m", "tokenbridge")


@dataclass
class Kept:
    """What `demo --keep` has printed, and a terminal."""

    output: str

    @property
    def origin(self) -> str:
        return self.printed(r"(https://localhost:\d+) +the portal")

    @property
    def directory(self) -> Path:
        return Path(self.printed(r"demo --stop (\S+)"))

    def printed(self, pattern: str) -> str:
        """The first group of what fits `pattern`."""
        found = re.search(pattern, self.output)
        assert found is not None, f"{pattern} is not in:\n{self.output}"
        return found[1]

    @property
    def door_is_open(self) -> bool:
        """Whether pages find the bridge by themselves: only root can make a demo in which they do."""
        return "The page finds the bridge by itself" in " ".join(self.output.split())

    @cached_property
    def environ(self) -> dict[str, str]:
        """As in a terminal in which the first of the printed lines was typed."""
        line = self.printed(r"(\. \S+/environment)")
        told = subprocess.run(["sh", "-c", f"{line} && env -0"], check=True, capture_output=True, text=True, timeout=20)
        return dict(one.split("=", 1) for one in told.stdout.split("\0") if one)

    def run(self, *command: str, secrets: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
        """`tokenbridge COMMAND`, with `secrets` for options such as --pin-fd."""
        pipes = {option: os.pipe() for option in secrets or {}}
        try:
            for option, (_, end) in pipes.items():
                os.write(end, f"{(secrets or {})[option]}\n".encode())
            options = [part for option, (start, _) in pipes.items() for part in (option, str(start))]
            return subprocess.run(
                [*PROGRAM, *command, *options], env=self.environ, pass_fds=[start for start, _ in pipes.values()],
                stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=False,
            )  # fmt: skip
        finally:
            for ends in pipes.values():
                for end in ends:
                    os.close(end)


@contextmanager
def kept_demo() -> Iterator[Kept]:
    """Ended and removed afterwards, whatever happens."""
    done = subprocess.run(
        [*PROGRAM, "demo", "--keep"], capture_output=True, text=True, timeout=200, check=False,
        env={**os.environ, "NO_COLOR": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    kept = Kept(output=done.stdout)
    try:
        yield kept
    finally:
        stop = [*PROGRAM, "demo", "--stop", str(kept.directory)]
        subprocess.run(stop, check=True, capture_output=True, timeout=60)
    assert not kept.directory.exists()
