"""The idle bridge: context switches of all its threads over 30 s, and its memory.

A card and a security key are there and have been used. The key is plugged in by a socket and runs in this process: only
the bridge's own wake-ups are counted.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.bench import ALGORITHMS, Bench, workplace
from tokenbridge.rig.key_socket import KeySocket
from tokenbridge.rig.virtual_key import VirtualKey

SECONDS = 30
SETTLE_SECONDS = 8
"""Connections that the sign-in left open have been closed by then."""
MEMORY_GOAL_MB = 60


def run(*, seconds: float = SECONDS) -> None:
    with workplace() as bench:
        connection = bench.insert(bench.card(ALGORITHMS["P-256"]))
        bench.sign_in()
        with _key_that_was_asked(bench):
            pid = bench.place.must_json("status")["pid"]
            time.sleep(SETTLE_SECONDS)
            before = _switches(pid)
            time.sleep(seconds)
            woken = _switches(pid) - before
            memory = _memory_mb(pid)
        print(f"idle bridge, card inserted and key plugged in (by a socket), after a sign-in: {woken} wake-ups in "
              f"{seconds:.0f} s (goal 0), {memory:.0f} MB resident (goal at most {MEMORY_GOAL_MB}): "
              f"{'ok' if woken == 0 and memory <= MEMORY_GOAL_MB else 'ABOVE'}")  # fmt: skip
        connection.stop()


@contextmanager
def _key_that_was_asked(bench: Bench) -> Iterator[None]:
    """A key that the bridge keeps open: it has been asked what it is."""
    key = VirtualKey.create()
    bench.place.key_sockets.mkdir(parents=True, exist_ok=True)
    key.plug(KeySocket(bench.place.key_sockets / "idle.key"))
    try:
        (found,) = bench.place.must_json("key", "list")["keys"]
        if found["pin"] != "not set":
            raise RuntimeError(f"the key is not as it should be: {found}")
        yield
    finally:
        key.close()


def _switches(pid: int) -> int:
    """Voluntary context switches: each is a thread that had run and went to sleep again."""
    total = 0
    for status in Path(f"/proc/{pid}/task").glob("*/status"):
        total += int(_field(status, "voluntary_ctxt_switches"))
    return total


def _memory_mb(pid: int) -> float:
    return int(_field(Path(f"/proc/{pid}/status"), "VmRSS").split()[0]) / 1024


def _field(path: Path, name: str) -> str:
    for line in path.read_text().splitlines():
        if line.startswith(f"{name}:"):
            return line.split(":", 1)[1].strip()
    raise KeyError(name)
