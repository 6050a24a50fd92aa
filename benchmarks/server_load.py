"""A real server on PostgreSQL and a load of key sign-ins on it, for `server_scale` and `server_cost`."""

from __future__ import annotations

import http.client
import json
import os
import signal
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tests.software_key import SoftwareKey
from tokenbridge.server.operator import office, people, security_keys
from tokenbridge.server.store.accounts import NewAccount

ORIGIN = "https://localhost:8443"
THREADS = 8
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

    def __add__(self, other: Run) -> Run:
        return Run(done=self.done + other.done, seconds=self.seconds + other.seconds, cpu=self.cpu + other.cpu)

    @property
    def rate(self) -> float:
        return self.done / self.seconds

    @property
    def per_core(self) -> float:
        return self.done / self.cpu


# --- the server ----------------------------------------------------------------------------------------------------


@contextmanager
def serving(data: Path, processes: int, *, port: int = 0) -> Iterator[tuple[Load, list[int]]]:
    """The server with so many processes; 0: one that measures itself. Yields the ids of those that serve."""
    script = "from tokenbridge.cli.server import server; server()"
    options = ["--workers", str(processes or 1)]
    if not processes:
        script = f"from benchmarks.server_shares import measured; measured({str(data / 'shares.json')!r})"
    command = [sys.executable, "-c", script, "--data", str(data), "run"]
    command += ["--port", str(port), "--log-level", "error", *options]
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


def cpu_of(pids: list[int]) -> float:
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


def register(load: Load, data: Path, name: str) -> SoftwareKey:
    with office.opened(data) as opened:
        people.add(opened, NewAccount(username=name, display_name=name), None)
        code = security_keys.new_enrolment_code(opened, name, 24).code
    connection, key = load.connect(), SoftwareKey()
    begun = _post(connection, "/api/keys/registration", {"username": name, "enrolment_code": code})
    credential = key.register(begun["options"], ORIGIN)
    _post(connection, f"/api/keys/registration/{begun['registration']}", {"credential": credential})
    connection.close()
    return key


def sign_in(connection: http.client.HTTPSConnection, key: SoftwareKey) -> None:
    ticket = _post(connection, "/api/sign-in", {"client": "bench"})
    options = next(way for way in ticket["accepts"] if way["method"] == "key")["options"]
    path = f"/api/sign-in/{ticket['transaction']}/key"
    if _post(connection, path, {"credential": key.answer(options, ORIGIN)})["decision"] != "allow":
        raise RuntimeError("a sign-in was not allowed")


def _threads(load: Load, keys: list[SoftwareKey], work: Callable[[Callable[[], None]], None]) -> None:
    def begin(key: SoftwareKey) -> None:
        connection = load.connect()
        work(lambda: sign_in(connection, key))
        connection.close()

    threads = [threading.Thread(target=begin, args=(key,)) for key in keys]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def flat_out(load: Load, keys: list[SoftwareKey], seconds: float, pids: list[int]) -> Run:
    """As fast as it goes: each thread begins the next sign-in when its last one is done."""
    counts: list[int] = []
    end = time.monotonic() + seconds

    def work(sign_in: Callable[[], None]) -> None:
        count = 0
        while time.monotonic() < end:
            sign_in()
            count += 1
        counts.append(count)

    cpu, started = cpu_of(pids), time.monotonic()
    _threads(load, keys, work)
    return Run(done=sum(counts), seconds=time.monotonic() - started, cpu=cpu_of(pids) - cpu)


def at_rate(load: Load, keys: list[SoftwareKey], rate: float, seconds: float) -> list[float]:
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
