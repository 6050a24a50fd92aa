"""One command, several processes on one socket: they share the work, are replaced, and end together."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from tests.patience import SECONDS, until
from tests.server.conftest import Bench, Server, running
from tokenbridge.errors import SetupError
from tokenbridge.server import settings
from tokenbridge.server.workers import MOST_SOON, Workers

ON_ONE = pytest.mark.parametrize("databases", ["sqlite"], indirect=True, scope="session")
"""For what does not depend on the database."""


def children(process: subprocess.Popen[str]) -> set[int]:
    """By the kernel's list."""
    return {int(pid) for pid in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()}


def alive(pids: set[int]) -> set[int]:
    """Those that run: a zombie that nobody has asked for yet does not."""
    found = set()
    for pid in pids:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except (FileNotFoundError, ProcessLookupError):
            continue
        if state != "Z":
            found.add(pid)
    return found


def sign_in(server: Server, bench: Bench) -> str:
    person, ticket = bench.person(), server.begin()
    answer = server.card(ticket, person.card.token(ticket["nonce"]))
    assert answer.status_code == 200, answer.text
    return answer.json()["session"]["token"]


def ask_anew(server: Server) -> int:
    """A request on a connection of its own, so that any process may get it."""
    answer = server.http.get("/healthz", headers={"connection": "close"})
    return answer.status_code


def test_they_share_the_work_and_what_they_know(fresh: Bench):
    fresh.trust()
    with running(fresh.data, "--workers", "3") as server:
        assert server.process is not None
        workers = children(server.process)
        assert len(workers) == 3
        tokens = [sign_in(server, fresh) for _ in range(6)]
        server.http.headers["connection"] = "close"
        assert {server.session(token).status_code for token in tokens for _ in range(4)} == {200}
        server.process.terminate()
        assert server.process.wait(SECONDS) in (0, -signal.SIGTERM)
        assert not alive(workers)


@ON_ONE
def test_one_that_dies_is_replaced(fresh: Bench):
    with running(fresh.data, "--workers", "2") as server:
        assert server.process is not None
        replace_one(server.process)
        assert Counter(ask_anew(server) for _ in range(20)) == {200: 20}
    assert "has ended; another one takes its place" in (fresh.data / "server.log").read_text()


@ON_ONE
def test_when_they_die_again_and_again_all_end(fresh: Bench):
    with running(fresh.data, "--workers", "2") as server:
        assert server.process is not None
        for _ in range(MOST_SOON):
            replace_one(server.process)
        workers = children(server.process)
        os.kill(min(workers), signal.SIGKILL)
        assert server.process.wait(20) != 0
        assert not alive(workers)
    assert "ends again and again" in (fresh.data / "server.log").read_text()


def replace_one(process: subprocess.Popen[str]) -> None:
    victim = min(children(process))
    os.kill(victim, signal.SIGKILL)
    until(lambda: victim not in children(process) and len(children(process)) == 2)


@ON_ONE
def test_they_do_not_outlive_their_parent(fresh: Bench):
    with running(fresh.data, "--workers", "2") as server:
        assert server.process is not None
        workers = children(server.process)
        server.kill()
        until(lambda: not alive(workers))
        address = urlsplit(server.url)
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", address.port or 0), timeout=5)


@ON_ONE
def test_a_stop_lets_what_runs_come_to_its_end(fresh: Bench):
    with running(fresh.data, "--workers", "2") as server, httpx.Client(verify=False, trust_env=False) as slow:
        assert server.process is not None
        process = server.process

        def body():
            yield b'{"client"'
            process.terminate()
            yield b': "cli"}'

        answer = slow.post(f"{server.url}/api/sign-in", content=body(), headers={"content-type": "application/json"})
        assert answer.status_code == 201
        assert process.wait(20) in (0, -signal.SIGTERM)


def test_one_that_never_gets_ready_is_said_so():
    def work(*, ready: Callable[[], None], lifeline: int) -> None:
        return

    with pytest.raises(SetupError, match="did not start"):
        Workers(count=2, work=work).run(lambda: None)


@pytest.mark.parametrize("count", [0, 65])
def test_a_number_that_can_not_be(tmp_path: Path, count: int):
    with pytest.raises(SetupError, match="workers"):
        settings.check(settings.Settings(data=tmp_path, workers=count))
