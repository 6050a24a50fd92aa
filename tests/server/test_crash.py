"""The server is killed at random moments: no session without its record, no nonce and no code used twice."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from typing import Any

import httpx

from tests.patience import SECONDS
from tests.server.conftest import ORIGIN, Bench, Person, Server, running
from tests.server.key_bench import KeyBench, key_options
from tests.software_key import Maker, SoftwareKey
from tokenbridge.server.store import audit

ROUNDS = 6
LONGEST = 0.4
SEED = 20261124


Evidence = Callable[[dict[str, Any]], tuple[str, dict[str, Any]]]
"""From a sign-in that has begun to where its evidence is sent, and what."""


def of_card(person: Person) -> Evidence:
    return lambda ticket: ("card", {"token": person.card.token(ticket["nonce"])})


def of_key(key: SoftwareKey) -> Evidence:
    return lambda ticket: ("key", {"credential": key.answer(key_options(ticket), ORIGIN)})


def hammer(server: Server, evidence: Evidence, used: list[tuple[str, Any]], stop: threading.Event) -> None:
    """Sign in again and again until the server is gone, remembering everything that was sent."""
    try:
        while not stop.is_set():
            ticket = server.begin()
            kind, body = evidence(ticket)
            path = f"/api/sign-in/{ticket['transaction']}/{kind}"
            used.append((path, body))
            server.http.post(path, json=body)
    except (httpx.HTTPError, AssertionError, ValueError):
        return


def test_killed_at_any_moment(fresh: Bench):
    fresh.trust()
    people = [of_card(fresh.person()), of_card(fresh.person())]
    with running(fresh.data) as server:
        at = KeyBench(bench=fresh, server=server, maker=Maker())
        people.append(of_key(at.register(at.newcomer())))
    pick = random.Random(SEED)
    used: list[tuple[str, Any]] = []
    for number in range(ROUNDS):
        with running(fresh.data) as server:
            stop = threading.Event()
            threads = [threading.Thread(target=hammer, args=(server, person, used, stop)) for person in people]
            for thread in threads:
                thread.start()
            # The moment of death is the only thing that is random; each round has its own part of the time.
            stop.wait((number + pick.random()) * LONGEST / ROUNDS)
            server.kill()
            stop.set()
            for thread in threads:
                thread.join(30)
        check_store(fresh)
    assert {path.rpartition("/")[2] for path, _ in used} == {"card", "key"}
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


def check_no_replay(bench: Bench, used: list[tuple[str, Any]]) -> None:
    """What was presented before a crash is worth nothing after it, unless it never arrived: then it works once."""
    unspent = bench.sql("SELECT count(*) FROM sign_ins WHERE state = 'Started'")[0][0]
    with running(bench.data) as server:
        first = [server.http.post(path, json=body).status_code for path, body in used]
        second = [server.http.post(path, json=body).status_code for path, body in used]
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
        assert server.process.wait(SECONDS) in (0, -15)
