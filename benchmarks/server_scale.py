"""Key sign-ins at a real server on PostgreSQL that writes to its disk: how many, where the time goes, and what more
processes make of it.

Server, load and PostgreSQL share this machine. So there are two set-ups: all of its cores for everybody, where the load
takes away what more processes could use; and each server process in a CPU group of its own, where load and PostgreSQL
have CPU to spare, as on machines of their own. The second shows whether anything that the processes share holds them
up.
"""

from __future__ import annotations

import json
import os
import tempfile
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, median

from benchmarks import cpu_groups
from benchmarks.bench import percentile, table
from benchmarks.server_load import ORIGIN, Load, Run, at_rate, flat_out, register, serving
from tests.postgresql import cluster
from tests.software_key import SoftwareKey
from tokenbridge.server import passwords
from tokenbridge.server.operator import office

SECONDS = 4.0
ROUNDS = 3
"""By turns, so that what else the machine does falls on all alike."""
AT_ONCE = 8
AT_ONCE_EACH = 6
"""Sign-ins at once, for each process that is apart: none has more to do at a time than another."""
SHARE = 0.25
"""Of a core, for each process that is apart."""
APART = (1, 2, 3)
GOAL_RATIO, GOAL_P99 = 1.8, 100
TRIES = 3
"""A round in which somebody else took what was to be spare is repeated."""
SPARE = 0.1
"""Below that idle share of the machine the second set-up proves nothing."""


@dataclass(frozen=True, kw_only=True)
class Found:
    """One number of processes: what they did at their best, how late answers were at half of that, and which share of
    the machine was idle in either."""

    processes: int
    run: Run
    late: tuple[list[float], ...]
    idle: tuple[float, ...]
    idle_at_half: tuple[float, ...]

    def __add__(self, other: Found) -> Found:
        return Found(
            processes=self.processes,
            run=self.run + other.run,
            late=self.late + other.late,
            idle=self.idle + other.idle,
            idle_at_half=self.idle_at_half + other.idle_at_half,
        )

    @property
    def p99s(self) -> list[float]:
        """Of each round, in milliseconds."""
        return [percentile(late, 0.99) * 1000 for late in self.late]

    @property
    def has_spare(self) -> bool:
        return min(*self.idle, *self.idle_at_half) >= SPARE


def run(*, seconds: float = SECONDS, rounds: int = ROUNDS, share: float = SHARE) -> None:
    with tempfile.TemporaryDirectory(prefix="tb-scale-") as name, cluster(durable=True) as postgresql:
        data = Path(name) / "data"
        office.initialise(data, origin=ORIGIN, database=postgresql.url(postgresql.create()))
        with serving(data, 1) as (load, _):
            keys = [register(load, data, f"user{number}") for number in range(AT_ONCE_EACH * max(APART))]
        print(f"### No limits: {os.cpu_count()} cores, which load and PostgreSQL (fsync on) share with the server\n")
        free = _by_turns(data, keys, (1, 2), (rounds, seconds), None)
        _print_all(free)
        print(f"\nwhere each process has a core: {2 * free[1].run.per_core / free[0].run.per_core:.2f} x, by its CPU\n")
        print(f"### Each process has {share:.0%} of a core of its own, load and PostgreSQL have the rest\n")
        try:
            apart = _by_turns(data, keys, APART, (rounds, seconds), share)
        except cpu_groups.NotHere as err:
            print(f"not measured: CPU groups can't be made here ({err})\n")
        else:
            _print_all(apart)
            _print_spare(apart, share)
        with serving(data, 0) as (load, pids):
            whole = flat_out(load, keys[:AT_ONCE], seconds, pids)
        _print_shares(whole, json.loads((data / "shares.json").read_text()))
    _print_hashing()


def _by_turns(
    data: Path, keys: list[SoftwareKey], counts: tuple[int, ...], times: tuple[int, float], share: float | None
) -> list[Found]:
    """Each number of processes, several times (`times`: how often, and seconds of each). `share`: of a core for each
    process. Raises `cpu_groups.NotHere`."""
    rounds, seconds = times
    found: dict[int, Found] = {}
    for _ in range(rounds):
        for processes in counts:
            for _ in range(TRIES):
                with serving(data, processes) as (load, pids), _limits(pids, share):
                    new = _driven(load, keys[: AT_ONCE if share is None else AT_ONCE_EACH * processes], pids, seconds)
                if share is None or new.has_spare:
                    break
            found[processes] = found[processes] + new if processes in found else new
    return list(found.values())


def _limits(pids: list[int], share: float | None) -> AbstractContextManager[None]:
    return nullcontext() if share is None else cpu_groups.apart(pids, share)


def _driven(load: Load, keys: list[SoftwareKey], pids: list[int], seconds: float) -> Found:
    flat_out(load, keys, 1.0, pids)
    with cpu_groups.spare() as idle:
        best = flat_out(load, keys, seconds, pids)
    with cpu_groups.spare() as idle_at_half:
        late = at_rate(load, keys, best.rate / 2, seconds)
    return Found(processes=len(pids), run=best, late=(late,), idle=tuple(idle), idle_at_half=tuple(idle_at_half))


# --- what is told --------------------------------------------------------------------------------------------------


def _print_spare(found: Sequence[Found], share: float) -> None:
    print(f"\nby CPU groups: {cpu_groups.told(share)}; {AT_ONCE_EACH} sign-ins at once for each")
    for one in found:
        if not one.has_spare:
            print(f"with {one.processes} the machine had too little to spare in some round: that row proves nothing")
    print()


def _print_all(found: Sequence[Found]) -> None:
    first = found[0].run
    rows = [
        (
            one.processes,
            f"{one.run.rate:.0f}",
            f"{one.run.rate / first.rate:.2f} x",
            f"{one.run.cpu / one.run.seconds / one.processes:.2f}",
            f"{one.run.cpu / one.run.done * 1000:.2f}",
            f"{mean(one.idle):.0%}",
            f"{median(one.p99s):.0f} ({', '.join(f'{p99:.0f}' for p99 in one.p99s)})",
            f"{mean(one.idle_at_half):.0%}",
        )
        for one in found
    ]
    print(
        table(
            (
                "processes", "sign-ins/s", f"against one (goal for two: {GOAL_RATIO})", "cores used by each",
                "CPU of a sign-in, ms", "machine idle", f"p99 at half of that, ms (each round; goal: {GOAL_P99})",
                "idle then",
            ),
            rows,
        )
    )  # fmt: skip


def _print_shares(whole: Run, shares: dict[str, float]) -> None:
    each = whole.cpu / whole.done
    rows = []
    for name in ("signature checks", "SQL", "database waits"):
        rows.append((name, shares[name] / shares["sign-ins"]))
    rest = each - rows[0][1] - rows[1][1]
    told = [(name, f"{value * 1000:.2f}", f"{value / each:.0%}") for name, value in rows[:2]]
    told.append(("framework, TLS, JSON, rules and the rest", f"{rest * 1000:.2f}", f"{rest / each:.0%}"))
    told.append(("together", f"{each * 1000:.2f}", "100%"))
    print(table(("CPU of one key sign-in (two requests)", "ms", "share"), told))
    print(f"\nbeside it {rows[2][1] * 1000:.2f} ms of waiting for PostgreSQL, its commits included, by the clock\n")


def _print_hashing() -> None:
    encoded = passwords.hash_password("correct horse battery")
    wall = time.perf_counter()
    passwords.verify(encoded, "correct horse battery")
    wall = time.perf_counter() - wall
    print(f"apart from that: comparing one password (argon2id, 64 MiB) takes {wall * 1000:.0f} ms")
