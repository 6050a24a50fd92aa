"""The server is killed at random moments: no session without its record, no nonce and no code used twice."""

from __future__ import annotations

import random
import threading
from typing import Any

import httpx

from tests.server.conftest import Bench, Server, running
from tokenbridge.server.store import audit

ROUNDS = 6
LONGEST = 0.4
SEED = 20261124


def hammer(server: Server, bench: Bench, person: Any, used: list[Any], stop: threading.Event) -> None:
    """Sign in by card again and again until the server is gone, remembering every token that was sent."""
    try:
        while not stop.is_set():
            ticket = server.begin()
            token = person.card.token(ticket["nonce"])
            used.append((ticket, token))
            server.card(ticket, token)
    except (httpx.HTTPError, AssertionError, ValueError):
        return


def test_killed_at_any_moment(fresh: Bench):
    fresh.trust()
    people = [fresh.person() for _ in range(2)]
    pick = random.Random(SEED)
    used: list[Any] = []
    for number in range(ROUNDS):
        with running(fresh.data) as server:
            stop = threading.Event()
            args = [(server, fresh, person, used, stop) for person in people]
            threads = [threading.Thread(target=hammer, args=given) for given in args]
            for thread in threads:
                thread.start()
            # The moment of death is the only thing that is random; each round has its own part of the time.
            stop.wait((number + pick.random()) * LONGEST / ROUNDS)
            server.kill()
            stop.set()
            for thread in threads:
                thread.join(30)
        check_store(fresh)
    assert used
    check_no_replay(fresh, used)


def check_store(bench: Bench) -> None:
    with bench.office() as opened, opened.database.read() as tx:
        assert audit.verify(tx, opened.ring).broken_at is None
        recorded = {entry.sign_in for entry in audit.entries(tx, limit=100_000) if entry.event == "signed-in"}
    sessions = [row[0] for row in bench.sql("SELECT sign_in_ref FROM sessions")]
    states = {row[0]: row[1] for row in bench.sql("SELECT token_hash, state FROM sign_ins")}
    assert sorted(sessions) == sorted(recorded)
    assert len(sessions) == len(set(sessions))
    assert {ref for ref, state in states.items() if state == "SignedIn"} == recorded


def check_no_replay(bench: Bench, used: list[Any]) -> None:
    """What was presented before a crash is worth nothing after it, unless it never arrived: then it works once."""
    unspent = bench.sql("SELECT count(*) FROM sign_ins WHERE state = 'Started'")[0][0]
    with running(bench.data) as server:
        first = [server.card(ticket, token).status_code for ticket, token in used]
        second = [server.card(ticket, token).status_code for ticket, token in used]
    assert set(first) <= {200, 409}
    assert first.count(200) <= unspent
    assert set(second) == {409}


def test_killed_between_password_and_code(fresh: Bench):
    person = fresh.person(enrol=False)
    with running(fresh.data) as server:
        ticket = server.begin()
        assert server.password(ticket, person.username).status_code == 200
        server.kill()
    with running(fresh.data) as server:
        code = person.code()
        assert server.code(ticket, code).json()["decision"] == "allow"
        server.kill()
    with running(fresh.data) as server:
        assert server.code(ticket, code).status_code == 409
        again = server.begin()
        server.password(again, person.username)
        assert server.code(again, code).status_code == 403


def test_stopped_gently_it_does_not_wait_for_idle_clients(fresh: Bench):
    with running(fresh.data) as server:
        assert server.http.get("/healthz").json() == {"status": "ok"}
        server.process.terminate()
        # The client's connection is open and idle: that must not hold up the end.
        assert server.process.wait(5) in (0, -15)
