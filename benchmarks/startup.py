"""Start of the command line, as a ratio to bare Python, pair by pair in one run."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from collections.abc import Sequence

from benchmarks.bench import Bench, workplace

RUNS = 25
GOALS = {"--version": 2.5, "status": 5.0}


def run(*, runs: int = RUNS) -> None:
    with workplace() as bench:
        for words, goal in GOALS.items():
            command = [sys.executable, "-m", "tokenbridge", words]
            pairs = [(_seconds(bench, command), _seconds(bench, [sys.executable, "-c", "pass"])) for _ in range(runs)]
            ratio = statistics.median(ours / bare for ours, bare in pairs)
            ours, bare = (statistics.median(column) * 1000 for column in zip(*pairs, strict=True))
            verdict = "ok" if ratio <= goal else "ABOVE"
            print(f"tokenbridge {words:10}  {ours:5.0f} ms; python -c pass {bare:4.0f} ms; ratio {ratio:.2f}, "
                  f"goal at most {goal}: {verdict}")  # fmt: skip


def _seconds(bench: Bench, command: Sequence[str]) -> float:
    started = time.perf_counter()
    subprocess.run(command, env=bench.place.environ, check=True, capture_output=True)
    return time.perf_counter() - started
