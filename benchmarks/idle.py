"""The idle bridge: context switches of all its threads over 30 s, and its memory."""

from __future__ import annotations

import time
from pathlib import Path

from benchmarks.bench import ALGORITHMS, workplace

SECONDS = 30
MEMORY_GOAL_MB = 60


def run(*, seconds: float = SECONDS) -> None:
    with workplace() as bench:
        connection = bench.insert(bench.card(ALGORITHMS["P-256"]))
        bench.sign_in()
        pid = bench.place.must_json("status")["pid"]
        time.sleep(8)  # connections that the sign-in left open have been closed by then
        before = _switches(pid)
        time.sleep(seconds)
        woken = _switches(pid) - before
        memory = _memory_mb(pid)
        print(f"idle bridge, card inserted, after a sign-in: {woken} wake-ups in {seconds:.0f} s (goal 0), "
              f"{memory:.0f} MB resident (goal at most {MEMORY_GOAL_MB}): "
              f"{'ok' if woken == 0 and memory <= MEMORY_GOAL_MB else 'ABOVE'}")  # fmt: skip
        connection.stop()


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
