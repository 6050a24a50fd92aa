"""Three server processes on one database, and threads that use each of them at the same moment."""

from __future__ import annotations

import concurrent.futures
import contextlib
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from tests.server.conftest import ORIGIN, PASSWORD, Bench, Databases, Person, Server, make_bench, now, running
from tests.server.key_bench import KeyBench, bearer, hardware_model, key_options
from tests.server.soft_phone import SoftPhone
from tests.software_key import Maker
from tokenbridge.rig.pki import RigPki
from tokenbridge.server.operator import people
from tokenbridge.server.store import audit

PROCESSES = 3
ROUNDS = 25


@dataclass(kw_only=True)
class Fleet:
    """Servers that share a data directory, and with it everything."""

    servers: list[Server]
    bench: Bench
    maker: Maker

    @property
    def one(self) -> Server:
        return self.servers[0]

    def at(self, number: int) -> KeyBench:
        return KeyBench(bench=self.bench, server=self.servers[number % PROCESSES], maker=self.maker)

    def race(self, work: Callable[[Server], httpx.Response]) -> list[httpx.Response]:
        """The same at every server, twice, all at the same moment."""
        return self.each([lambda server=server: work(server) for server in self.servers * 2])

    def each(self, works: Sequence[Callable[[], httpx.Response]]) -> list[httpx.Response]:
        start = threading.Barrier(len(works))

        def begin(work: Callable[[], httpx.Response]) -> httpx.Response:
            start.wait(20)
            return work()

        with concurrent.futures.ThreadPoolExecutor(len(works)) as pool:
            return list(pool.map(begin, works))


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory, pki: RigPki, databases: Databases) -> Iterator[Fleet]:
    bench = make_bench(tmp_path_factory.mktemp("fleet") / "data", pki, database=databases.new())
    bench.trust()
    maker = Maker()
    with contextlib.ExitStack() as stack:
        servers = [stack.enter_context(running(bench.data)) for _ in range(PROCESSES)]
        made = Fleet(servers=servers, bench=bench, maker=maker)
        made.at(0).load(hardware_model(maker))
        yield made
    with bench.office() as opened, opened.database.read() as tx:
        # After all races: one chain, and neither a session without its record nor a record without its session.
        assert audit.verify(tx, opened.ring).broken_at is None
        recorded = sorted(entry.sign_in for entry in audit.entries(tx, limit=100_000) if entry.event == "signed-in")
    assert sorted(row[0] for row in bench.sql("SELECT sign_in_ref FROM sessions")) == recorded


@pytest.fixture(scope="module")
def somebody(fleet: Fleet) -> Person:
    return fleet.bench.person()


def statuses(answers: list[httpx.Response]) -> list[int]:
    return sorted(answer.status_code for answer in answers)


def awaiting_code(fleet: Fleet, username: str) -> list[tuple[Server, dict[str, Any]]]:
    """One sign-in at each server that has got its password."""
    begun = [(server, server.begin()) for server in fleet.servers]
    for server, ticket in begun:
        assert server.password(ticket, username).status_code == 200
    return begun


class TestOnce:
    def test_a_nonce(self, fleet: Fleet, somebody: Person):
        for _ in range(ROUNDS):
            ticket = fleet.one.begin()
            token = somebody.card.token(ticket["nonce"])
            assert statuses(fleet.race(lambda server: server.card(ticket, token))) == [200] + [409] * 5  # noqa: B023

    def test_a_keys_challenge(self, fleet: Fleet):
        at = fleet.at(0)
        key = at.register(at.newcomer())
        for _ in range(ROUNDS):
            ticket = at.start()
            signed = {"credential": key.answer(key_options(ticket), ORIGIN)}
            path = f"/api/sign-in/{ticket['transaction']}/key"
            answers = fleet.race(lambda server: server.http.post(path, json=signed))  # noqa: B023
            assert statuses(answers) == [200] + [409] * 5

    def test_a_code_of_an_app_in_different_sign_ins(self, fleet: Fleet):
        for _ in range(ROUNDS):
            person = fleet.bench.person(enrol=False)
            begun, code = awaiting_code(fleet, person.username), person.code()
            answers = fleet.each([lambda at=at, ticket=ticket: at.code(ticket, code) for at, ticket in begun])  # noqa: B023
            assert statuses(answers) == [200, 403, 403]

    def test_a_code_of_an_app_in_one_sign_in(self, fleet: Fleet):
        for _ in range(ROUNDS):
            person, ticket = fleet.bench.person(enrol=False), fleet.one.begin()
            fleet.one.password(ticket, person.username)
            code = person.code()
            answers = fleet.race(lambda server: server.code(ticket, code))  # noqa: B023
            assert statuses(answers) == [200] + [409] * 5

    def test_a_recovery_code(self, fleet: Fleet):
        for _ in range(ROUNDS):
            name = fleet.at(0).newcomer()
            begun = fleet.at(0).begin_by_code(name).json()
            registered = fleet.at(0).finish(begun, fleet.at(0).key().register(begun["options"], ORIGIN))
            body = {"method": "recovery", "code": registered.json()["recovery_codes"][0]}
            works = [
                lambda at=at, path=f"/api/sign-in/{ticket['transaction']}/code": at.http.post(path, json=body)  # noqa: B023
                for at, ticket in awaiting_code(fleet, name)
            ]
            assert statuses(fleet.each(works)) == [200, 403, 403]

    def test_an_enrolment_code(self, fleet: Fleet):
        """It may be begun with again and again, and only the newest of these can be completed: once."""
        for _ in range(ROUNDS):
            name = fleet.at(0).newcomer()
            code = fleet.at(0).enrolment_code(name)
            begun = fleet.race(lambda server: KeyBench.begin_by_code(self._of(fleet, server), name, code))  # noqa: B023
            assert statuses(begun) == [201] * 6
            answers = fleet.each(
                [
                    lambda number=number, answer=answer: self._finish(fleet.at(number), answer.json())
                    for number, answer in enumerate(begun)
                ]
            )
            assert statuses(answers) == [201] + [403] * 5
            assert len(self._keys(fleet, name)) == 1

    def test_a_registration(self, fleet: Fleet):
        for _ in range(ROUNDS):
            name = fleet.at(0).newcomer()
            begun = fleet.at(0).begin_by_code(name).json()
            credential = {"credential": fleet.at(0).key().register(begun["options"], ORIGIN)}
            path = f"/api/keys/registration/{begun['registration']}"
            answers = fleet.race(lambda server: server.http.post(path, json=credential))  # noqa: B023
            assert statuses(answers) == [201] + [404] * 5
            assert len(self._keys(fleet, name)) == 1

    def test_an_approval(self, fleet: Fleet):
        """Asked for, answered and gone on with: each at all servers at once."""
        for _ in range(ROUNDS):
            person, ticket = fleet.bench.person(enrol=False), fleet.one.begin()
            phone = SoftPhone(http=fleet.one.http, origin=ORIGIN).enrolled(fleet.bench, person.username)
            fleet.one.password(ticket, person.username)
            path = f"/api/sign-in/{ticket['transaction']}"
            asked = fleet.race(lambda server: server.http.post(f"{path}/start", json={"method": "number-match"}))  # noqa: B023
            assert statuses(asked) == [200] + [429] * 5
            number = next(answer.json()["number"] for answer in asked if answer.status_code == 200)
            approval = phone.look().json()["request"]["approval"]
            content = {"approval": approval, "decision": "approve", "number": number}
            signed = iter([{"signed": phone.sign("answer", content)} for _ in range(6)])
            answered = fleet.race(lambda server: server.http.post("/api/phone/answer", json=next(signed)))  # noqa: B023
            assert statuses(answered) == [204] + [409] * 5
            gone_on = fleet.race(lambda server: server.http.post(f"{path}/approval"))  # noqa: B023
            assert statuses(gone_on) == [200] + [409] * 5

    def test_a_phones_signed_request(self, fleet: Fleet):
        phone = SoftPhone(http=fleet.one.http, origin=ORIGIN)
        phone.enrolled(fleet.bench, fleet.bench.person(enrol=False).username)
        for _ in range(ROUNDS):
            body = {"signed": phone.sign("look", {})}
            answers = fleet.race(lambda server: server.http.post("/api/phone/request", json=body))  # noqa: B023
            assert statuses(answers) == [200] + [409] * 5

    def test_a_question_to_the_phone(self, fleet: Fleet):
        """Asked in different sign-ins at once: the person is asked once."""
        for _ in range(ROUNDS):
            person = fleet.bench.person(enrol=False)
            SoftPhone(http=fleet.one.http, origin=ORIGIN).enrolled(fleet.bench, person.username)
            works = [
                lambda at=at, path=f"/api/sign-in/{ticket['transaction']}/start": at.http.post(
                    path, json={"method": "number-match"}
                )
                for at, ticket in awaiting_code(fleet, person.username)
            ]
            assert statuses(fleet.each(works)) == [200, 429, 429]

    @staticmethod
    def _of(fleet: Fleet, server: Server) -> KeyBench:
        return KeyBench(bench=fleet.bench, server=server, maker=fleet.maker)

    @staticmethod
    def _finish(at: KeyBench, begun: dict[str, Any]) -> httpx.Response:
        return at.finish(begun, at.key().register(begun["options"], ORIGIN))

    @staticmethod
    def _keys(fleet: Fleet, name: str) -> list[Any]:
        query = f"SELECT k.id FROM security_keys k JOIN accounts a ON a.id = k.account_id WHERE a.username = '{name}'"
        return fleet.bench.sql(query)


class TestTogether:
    def test_the_last_factor_stays(self, fleet: Fleet):
        """Three keys, each removed at another server at the same moment: whichever has become the last stays."""
        for _ in range(ROUNDS):
            at = fleet.at(0)
            name = at.newcomer()
            token = at.session(at.register(name))
            for _ in range(2):
                begun = at.begin_by_session(token).json()
                assert at.finish(begun, at.key().register(begun["options"], ORIGIN)).status_code == 201
            listed = at.server.http.get("/api/keys", headers=bearer(token)).json()["keys"]
            works = [
                lambda server=server, path=f"/api/keys/{row['id']}": server.http.delete(path, headers=bearer(token))  # noqa: B023
                for server, row in zip(fleet.servers, listed, strict=True)
            ]
            answers = fleet.each(works)
            assert statuses(answers) == [204, 204, 409]
            (kept,) = [answer for answer in answers if answer.status_code == 409]
            assert kept.json()["error"]["code"] == "last-factor"

    def test_limits_count_at_all_of_them(self, fleet: Fleet):
        for name in (fleet.bench.person(enrol=False).username, "nobody-of-that-name"):
            while True:
                before, tickets = now().minute, [(server, server.begin()) for server in fleet.servers * 8]
                answers = fleet.each(
                    [
                        lambda at=at, ticket=ticket: at.password(ticket, name, "wrong password")  # noqa: B023
                        for at, ticket in tickets
                    ]
                )
                if now().minute == before:
                    break
                fleet.bench.sql("DELETE FROM throttles")
            assert Counter(statuses(answers)) == {403: 10, 429: 14}

    def test_attempts_in_one_sign_in_count_at_all_of_them(self, fleet: Fleet):
        person, ticket = fleet.bench.person(enrol=False), fleet.one.begin()
        wrong = statuses(fleet.race(lambda server: server.password(ticket, person.username, "wrong password")))
        fleet.bench.sql("DELETE FROM throttles")
        # Never more than the machine allows, whatever the order; then the sign-in is over.
        assert wrong.count(403) <= 5
        assert fleet.one.password(ticket, person.username, PASSWORD).status_code in (409, 429)

    def test_a_session_is_one_everywhere(self, fleet: Fleet, somebody: Person):
        ticket = fleet.servers[1].begin()
        answer = fleet.servers[2].card(ticket, somebody.card.token(ticket["nonce"]))
        token = answer.json()["session"]["token"]
        assert [server.session(token).status_code for server in fleet.servers] == [200] * 3
        ends = fleet.race(lambda server: server.http.delete("/api/session", headers=bearer(token)))
        assert statuses(ends) == [204] + [401] * 5
        assert [server.session(token).status_code for server in fleet.servers] == [401] * 3

    def test_what_the_operator_does_is_seen_everywhere(self, fleet: Fleet):
        name = fleet.at(0).newcomer()
        key = fleet.at(0).register(name)
        tokens = [fleet.at(number).session(key) for number in range(PROCESSES)]
        with fleet.bench.office() as opened:
            people.set_disabled(opened, name, disabled=True)
        assert {server.session(token).status_code for server in fleet.servers for token in tokens} == {401}
        assert {fleet.at(number).sign_in(key).json()["decision"] for number in range(PROCESSES)} == {"deny"}

    def test_many_people_at_once_leave_one_whole_trail(self, fleet: Fleet):
        crowd = [fleet.bench.person() for _ in range(6)]

        def sign_in(number: int) -> int:
            server, person = fleet.servers[number % PROCESSES], crowd[number % len(crowd)]
            ticket = server.begin()
            return server.card(ticket, person.card.token(ticket["nonce"])).status_code

        with concurrent.futures.ThreadPoolExecutor(12) as pool:
            assert Counter(pool.map(sign_in, range(120))) == {200: 120}
        with fleet.bench.office() as opened, opened.database.read() as tx:
            assert audit.verify(tx, opened.ring).broken_at is None


def test_one_that_is_killed_holds_nobody_up(fresh: Bench):
    """It dies in the middle of its work: what it held is free at once, and the other one goes on."""
    fresh.trust()
    person = fresh.person()
    with running(fresh.data) as victim, running(fresh.data) as other:
        stop = threading.Event()

        def hammer() -> None:
            with contextlib.suppress(httpx.HTTPError):
                while not stop.is_set():
                    ticket = victim.begin()
                    victim.card(ticket, person.card.token(ticket["nonce"]))

        threads = [threading.Thread(target=hammer) for _ in range(4)]
        for thread in threads:
            thread.start()
        for _ in range(10):
            other.begin()
        victim.kill()
        stop.set()
        ticket = other.begin()
        assert other.card(ticket, person.card.token(ticket["nonce"])).status_code == 200
        for thread in threads:
            thread.join(20)
    with fresh.office() as opened, opened.database.read() as tx:
        assert audit.verify(tx, opened.ring).broken_at is None


def test_sessions_outlive_all_servers(fresh: Bench):
    fresh.trust()
    person = fresh.person()
    with running(fresh.data) as first:
        ticket, waiting = first.begin(), first.begin()
        token = first.card(ticket, person.card.token(ticket["nonce"])).json()["session"]["token"]
    with running(fresh.data) as second:
        assert second.session(token).status_code == 200
        assert second.card(ticket, person.card.token(ticket["nonce"])).status_code == 409
        assert second.card(waiting, person.card.token(waiting["nonce"])).status_code == 200
