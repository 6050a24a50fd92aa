"""What time does to sign-ins, codes and sessions, with a clock that the test turns."""

from __future__ import annotations

import asyncio
import dataclasses
import datetime as dt
from collections.abc import Iterator
from dataclasses import dataclass, field

import httpx
import pytest
from pytest_mock import MockerFixture

from tests.server.conftest import PASSWORD, Bench, Person, now
from tokenbridge.server import app, passwords, settings
from tokenbridge.server.operator import people
from tokenbridge.server.sign_in import SignInDesk
from tokenbridge.server.store import audit, database, throttle


@dataclass
class Clock:
    time: dt.datetime = field(default_factory=now)

    def __call__(self) -> dt.datetime:
        return self.time

    def on(self, **delta: float) -> None:
        self.time += dt.timedelta(**delta)


class Local:
    """The application without a process around it."""

    def __init__(self, bench: Bench, clock: Clock) -> None:
        self._app = app.build(settings.load(bench.data), clock)

    def call(self, method: str, path: str, **more) -> httpx.Response:
        async def once() -> httpx.Response:
            transport = httpx.ASGITransport(app=self._app)
            async with httpx.AsyncClient(transport=transport, base_url="https://localhost:8443") as client:
                return await client.request(method, path, **more)

        return asyncio.run(once())

    @property
    def desk(self) -> SignInDesk:
        return self._app.state.sign_ins

    def begin(self) -> dict:
        return self.call("POST", "/api/sign-in", json={"client": "cli"}).json()

    def step(self, ticket: dict, kind: str, **body) -> httpx.Response:
        return self.call("POST", f"/api/sign-in/{ticket['transaction']}/{kind}", json=body)

    def by_card(self, person: Person) -> str:
        ticket = self.begin()
        return self.step(ticket, "card", token=person.card.token(ticket["nonce"])).json()["session"]["token"]

    def session(self, token: str) -> httpx.Response:
        return self.call("GET", "/api/session", headers={"authorization": f"Bearer {token}"})

    def close(self) -> None:
        asyncio.run(self._app.state.parts.revocation.close())
        self._app.state.parts.hashing.shutdown()
        self._app.state.database.close()


def make_local(bench: Bench, clock: Clock) -> Local:
    passwords.prepare()
    return Local(bench, clock)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def local(fresh: Bench, clock: Clock) -> Iterator[Local]:
    fresh.trust()
    made = make_local(fresh, clock)
    yield made
    made.close()


def reason(answer: httpx.Response) -> str:
    return answer.json()["error"].get("reason", answer.json()["error"]["code"])


def test_nonce_lives_five_minutes(fresh: Bench, local: Local, clock: Clock):
    person = fresh.person()
    early, late = local.begin(), local.begin()
    clock.on(seconds=299)
    assert local.step(early, "card", token=person.card.token(early["nonce"])).status_code == 200
    clock.on(seconds=1)
    answer = local.step(late, "card", token=person.card.token(late["nonce"]))
    assert (answer.status_code, reason(answer)) == (403, "challenge-expired")
    again = local.step(late, "card", token=person.card.token(late["nonce"]))
    assert (again.status_code, reason(again)) == (403, "challenge-expired")


@pytest.mark.parametrize(("back", "good"), [(30, True), (3600, False)])
def test_a_clock_set_back_does_not_lengthen_a_nonces_life(
    fresh: Bench, local: Local, clock: Clock, back: int, good: bool
):
    person, ticket = fresh.person(), local.begin()
    clock.on(seconds=-back)
    answer = local.step(ticket, "card", token=person.card.token(ticket["nonce"]))
    assert answer.status_code == (200 if good else 403)


def test_code_comes_too_late(fresh: Bench, local: Local, clock: Clock):
    person, ticket = fresh.person(), local.begin()
    assert local.step(ticket, "password", username=person.username, password=PASSWORD).status_code == 200
    clock.on(seconds=301)
    answer = local.step(ticket, "code", method="totp", code=person.totp.at(clock.time))
    assert reason(answer) == "challenge-expired"


@pytest.mark.parametrize(("drift", "good"), [(-61, False), (-30, True), (0, True), (30, True), (61, False)])
def test_codes_may_drift_by_one_step(fresh: Bench, local: Local, clock: Clock, drift: int, good: bool):
    clock.time = clock.time.replace(second=0, microsecond=0)
    person, ticket = fresh.person(), local.begin()
    local.step(ticket, "password", username=person.username, password=PASSWORD)
    code = person.totp.at(clock.time + dt.timedelta(seconds=drift))
    answer = local.step(ticket, "code", method="totp", code=code)
    assert answer.status_code == (200 if good else 403)


def test_an_older_code_does_not_count_after_a_newer_one(fresh: Bench, local: Local, clock: Clock):
    person = fresh.person()
    codes = [person.totp.at(clock.time), person.totp.at(clock.time - dt.timedelta(seconds=30))]
    results = []
    for code in codes:
        ticket = local.begin()
        local.step(ticket, "password", username=person.username, password=PASSWORD)
        results.append(local.step(ticket, "code", method="totp", code=code).status_code)
    assert results == [200, 403]


def test_session_ends_when_idle(fresh: Bench, local: Local, clock: Clock):
    token = local.by_card(fresh.person())
    for _ in range(3):
        clock.on(minutes=14)
        assert local.session(token).status_code == 200
    clock.on(minutes=15)
    assert local.session(token).status_code == 401


def test_session_ends_after_twelve_hours_however_busy(fresh: Bench, local: Local, clock: Clock):
    token = local.by_card(fresh.person())
    codes = []
    for _ in range(12 * 6):
        clock.on(minutes=10)
        codes.append(local.session(token).status_code)
    assert codes == [200] * 71 + [401]


def test_attempts_of_one_account_are_limited_per_minute(fresh: Bench, local: Local, clock: Clock):
    clock.time = clock.time.replace(second=5)
    person = fresh.person()

    def attempt(name: str) -> int:
        return local.step(local.begin(), "password", username=name, password="wrong password").status_code

    for name in (person.username, "nobody-here", "  "):
        assert [attempt(name) for _ in range(12)] == [403] * 10 + [429] * 2
    answer = local.step(local.begin(), "password", username=person.username.upper(), password=PASSWORD)
    assert answer.status_code == 429
    assert answer.headers["retry-after"] == "55"
    clock.on(seconds=60)
    answer = local.step(local.begin(), "password", username=person.username, password=PASSWORD)
    assert answer.status_code == 200


def test_a_limit_that_holds_is_recorded_once_a_minute(fresh: Bench, local: Local, clock: Clock):
    clock.time = clock.time.replace(second=5)
    person = fresh.person()
    for _ in range(2):
        for name in (person.username, "nobody-here"):
            for _ in range(13):
                local.step(local.begin(), "password", username=name, password="wrong password")
        clock.on(seconds=60)
    with fresh.office() as opened, opened.database.read() as tx:
        found = [entry for entry in audit.entries(tx) if entry.event == "rate-limited"]
    assert [entry.account for entry in found] == [person.username, ""] * 2
    assert "nobody-here" not in str(found)


def test_a_hundred_wrong_codes_in_a_row_are_the_most(
    fresh: Bench, local: Local, clock: Clock, monkeypatch: pytest.MonkeyPatch
):
    clock.time = clock.time.replace(hour=1, minute=0, second=5)
    monkeypatch.setattr(throttle, "CODES_IN_A_ROW", dataclasses.replace(throttle.CODES_IN_A_ROW, most=6))
    person = fresh.person()

    def tried(code: str, count: int) -> list[int]:
        codes = []
        for _ in range(count):
            ticket = local.begin()
            local.step(ticket, "password", username=person.username, password=PASSWORD)
            codes.append(local.step(ticket, "code", method="totp", code=code).status_code)
            clock.on(seconds=30)
        return codes

    assert tried("000000", 5) == [403] * 5
    assert tried(person.totp.at(clock.time), 1) == [200]
    assert tried("000000", 8) == [403] * 6 + [429] * 2
    assert tried(person.totp.at(clock.time), 1) == [429]
    clock.on(days=1)
    assert tried(person.totp.at(clock.time), 1) == [200]


def test_limits_do_not_keep_the_card_out(fresh: Bench, local: Local, clock: Clock):
    person = fresh.person()
    for _ in range(11):
        local.step(local.begin(), "password", username=person.username, password="wrong password")
    assert local.by_card(person)


def test_old_transactions_are_forgotten(fresh: Bench, local: Local, clock: Clock):
    ticket = local.begin()
    clock.on(days=1, minutes=6)
    local.begin()
    assert reason(local.step(ticket, "card", token={})) == "challenge-unknown"


def test_database_that_is_held_by_another_program_comes_back(
    fresh: Bench, clock: Clock, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(database, "BUSY_SECONDS", 0.05)
    fresh.trust()
    person, local = fresh.person(), make_local(fresh, clock)
    ticket = local.begin()
    with fresh.office() as other, other.database.connection():
        answer = local.step(ticket, "card", token=person.card.token(ticket["nonce"]))
        assert (answer.status_code, reason(answer)) == (503, "setup")
        assert "database" not in answer.text.lower()
    # The nonce was not spent, because spending it could not be written down; nothing was judged either.
    assert local.step(ticket, "card", token=person.card.token(ticket["nonce"])).json()["decision"] == "allow"
    local.close()


def test_a_crash_inside_shows_nothing(fresh: Bench, clock: Clock, mocker):
    local = make_local(fresh, clock)
    mocker.patch.object(local.desk, "start", side_effect=ZeroDivisionError("secret inside"))
    answer = local.call("POST", "/api/sign-in", json={"client": "cli"})
    assert answer.status_code == 500
    assert answer.json()["error"]["code"] == "internal"
    assert "secret inside" not in answer.text
    assert "Traceback" not in answer.text
    local.close()


@pytest.mark.parametrize("change", ["disable", "password"])
def test_an_account_that_changes_while_its_password_is_compared(
    fresh: Bench, local: Local, mocker: MockerFixture, change: str
):
    person = fresh.person()

    def slow(encoded: str | None, password: str) -> bool:
        _change(fresh, person, change)
        return True

    mocker.patch.object(passwords, "verify", slow)
    answer = local.step(local.begin(), "password", username=person.username, password=PASSWORD)
    assert reason(answer) == "credentials-wrong"


@pytest.mark.parametrize("change", ["disable", "password"])
def test_an_account_that_changes_while_its_code_is_awaited(fresh: Bench, local: Local, change: str):
    person = fresh.person()
    ticket = local.begin()
    local.step(ticket, "password", username=person.username, password=PASSWORD)
    _change(fresh, person, change)
    outcome = local.step(ticket, "code", method="totp", code=person.code()).json()
    assert outcome["decision"] != "allow"
    assert "session" not in outcome


def _change(bench: Bench, person: Person, change: str) -> None:
    with bench.office() as opened:
        if change == "disable":
            people.set_disabled(opened, person.username, disabled=True)
        else:
            people.set_password(opened, person.username, "another password")
