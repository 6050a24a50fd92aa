"""Key sign-ins at a real server on PostgreSQL that writes to its disk: rate for each core, where the time goes, and
what two processes make of it. The load comes from this machine too, so rates are also told for each second of the
server's CPU.
"""

from __future__ import annotations

import http.client
import json
import os
import signal
import ssl
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from benchmarks.bench import percentile, table
from tests.postgresql import cluster
from tests.software_key import SoftwareKey
from tokenbridge.server import passwords
from tokenbridge.server.operator import office, people, security_keys
from tokenbridge.server.store.accounts import NewAccount

SECONDS = 6.0
ACCOUNTS = 16
THREADS = 8
ORIGIN = "https://localhost:8443"
GOAL_RATIO, GOAL_P99 = 1.8, 100
TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(kw_only=True)
class Load:
    """Connections to one server, each with an account and a key of its own."""

    url: str
    ca: Path

    def connect(self) -> http.client.HTTPSConnection:
        parts = urlsplit(self.url)
        context = ssl.create_default_context(cafile=str(self.ca))
        return http.client.HTTPSConnection(str(parts.hostname), parts.port, context=context, timeout=30)


@dataclass(frozen=True, kw_only=True)
class Run:
    """What came of a run: sign-ins, seconds of the clock, seconds of CPU of all server processes together."""

    done: int
    seconds: float
    cpu: float

    @property
    def rate(self) -> float:
        return self.done / self.seconds

    @property
    def per_core(self) -> float:
        return self.done / self.cpu


def run(*, seconds: float = SECONDS) -> None:
    print(f"{os.cpu_count()} cores, which the load and PostgreSQL (fsync on) share with the server\n")
    with tempfile.TemporaryDirectory(prefix="tb-scale-") as name, cluster(durable=True) as postgresql:
        data = Path(name) / "data"
        office.initialise(data, origin=ORIGIN, database=postgresql.url(postgresql.create()))
        with _serving(data, 1) as (load, _):
            keys = [_register(load, data, f"user{number}") for number in range(ACCOUNTS)]
        runs = {}
        for processes in (1, 2):
            with _serving(data, processes) as (load, pids):
                _closed(load, keys, 1.0, pids)
                runs[processes] = _closed(load, keys, seconds, pids)
                late = _open(load, keys, runs[processes].rate / 2, seconds)
                _print_run(processes, runs[processes], late)
        _print_ratio(runs[1], runs[2])
        with _serving(data, 0) as (load, pids):
            whole = _closed(load, keys, seconds, pids)
        _print_shares(whole, json.loads((data / "shares.json").read_text()))
    _print_hashing()


# --- the server ----------------------------------------------------------------------------------------------------


@contextmanager
def _serving(data: Path, processes: int) -> Iterator[tuple[Load, list[int]]]:
    """The server with so many processes; 0: one that measures itself. Yields the ids of those that serve."""
    script = "from tokenbridge.cli.server import server; server()"
    options = ["--workers", str(processes or 1)]
    if not processes:
        script = f"from benchmarks.server_shares import measured; measured({str(data / 'shares.json')!r})"
    command = [
        sys.executable,
        "-c",
        script,
        "--data",
        str(data),
        "run",
        "--port",
        "0",
        "--log-level",
        "error",
        *options,
    ]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    try:
        assert process.stdout is not None
        url = process.stdout.readline().split()[2]
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        yield Load(url=url, ca=data / "tls" / "ca.pem"), [int(pid) for pid in children] or [process.pid]
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(30)
        if process.stdout is not None:
            process.stdout.close()


def _cpu(pids: list[int]) -> float:
    """Seconds of CPU, user and system (proc(5))."""
    fields = [Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split() for pid in pids]
    return sum(int(of[11]) + int(of[12]) for of in fields) / TICKS


# --- the load ------------------------------------------------------------------------------------------------------


def _post(connection: http.client.HTTPSConnection, path: str, body: dict[str, Any]) -> dict[str, Any]:
    connection.request("POST", path, json.dumps(body), {"content-type": "application/json"})
    answer = connection.getresponse()
    found = json.loads(answer.read())
    if answer.status >= 300:
        raise RuntimeError(f"{path}: {answer.status} {found}")
    return dict(found)


def _register(load: Load, data: Path, name: str) -> SoftwareKey:
    with office.opened(data) as opened:
        people.add(opened, NewAccount(username=name, display_name=name), None)
        code = security_keys.new_enrolment_code(opened, name, 24).code
    connection, key = load.connect(), SoftwareKey()
    begun = _post(connection, "/api/keys/registration", {"username": name, "enrolment_code": code})
    credential = key.register(begun["options"], ORIGIN)
    _post(connection, f"/api/keys/registration/{begun['registration']}", {"credential": credential})
    connection.close()
    return key


def _sign_in(connection: http.client.HTTPSConnection, key: SoftwareKey) -> None:
    ticket = _post(connection, "/api/sign-in", {"client": "bench"})
    options = next(way for way in ticket["accepts"] if way["method"] == "key")["options"]
    path = f"/api/sign-in/{ticket['transaction']}/key"
    if _post(connection, path, {"credential": key.answer(options, ORIGIN)})["decision"] != "allow":
        raise RuntimeError("a sign-in was not allowed")


def _threads(load: Load, keys: list[SoftwareKey], work: Callable[[Callable[[], None]], None]) -> None:
    def begin(key: SoftwareKey) -> None:
        connection = load.connect()
        work(lambda: _sign_in(connection, key))
        connection.close()

    threads = [threading.Thread(target=begin, args=(key,)) for key in keys]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def _closed(load: Load, keys: list[SoftwareKey], seconds: float, pids: list[int]) -> Run:
    """As fast as it goes: each thread begins the next sign-in when its last one is done."""
    counts: list[int] = []
    end = time.monotonic() + seconds

    def work(sign_in: Callable[[], None]) -> None:
        count = 0
        while time.monotonic() < end:
            sign_in()
            count += 1
        counts.append(count)

    cpu, started = _cpu(pids), time.monotonic()
    _threads(load, keys[:THREADS], work)
    return Run(done=sum(counts), seconds=time.monotonic() - started, cpu=_cpu(pids) - cpu)


def _open(load: Load, keys: list[SoftwareKey], rate: float, seconds: float) -> list[float]:
    """At a fixed rate, whatever the server does; seconds from when each sign-in was due to its end."""
    lock, number, started, late = threading.Lock(), iter(range(int(rate * seconds))), time.monotonic() + 0.2, []

    def work(sign_in: Callable[[], None]) -> None:
        while True:
            with lock:
                mine = next(number, None)
            if mine is None:
                return
            due = started + mine / rate
            time.sleep(max(0.0, due - time.monotonic()))
            sign_in()
            late.append(time.monotonic() - due)

    _threads(load, keys, work)
    return late


# --- what is told --------------------------------------------------------------------------------------------------


def _print_run(processes: int, found: Run, late: list[float]) -> None:
    p99 = percentile(late, 0.99) * 1000
    print(
        f"{processes} process{'es' if processes > 1 else ''}: {found.rate:.0f} sign-ins/s, "
        f"{found.per_core:.0f} for each second of CPU ({found.cpu / found.seconds / processes:.0%} of a core each); "
        f"at half of that rate p99 {p99:.0f} ms (goal: under {GOAL_P99})"
    )


def _print_ratio(one: Run, two: Run) -> None:
    print(
        f"\none -> two: {two.rate / one.rate:.2f} x by the clock; "
        f"{2 * two.per_core / one.per_core:.2f} x where each process has a core (goal: at least {GOAL_RATIO})\n"
    )


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
