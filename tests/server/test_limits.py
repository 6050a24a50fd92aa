"""Who is told to wait is told the truth: the header, the member and the words agree, and after so long it goes on."""

from __future__ import annotations

import ast
import datetime as dt
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.server.conftest import PASSWORD, Bench, Person
from tests.server.test_time import Clock, Local, make_local
from tokenbridge.errors import SetupError, TooMany
from tokenbridge.server import settings
from tokenbridge.server.store import throttle
from tokenbridge.server.store.throttle import Limit

UNITS = {"second": 1, "minute": 60, "hour": 3600}


@pytest.fixture
def clock() -> Clock:
    """Cards are valid by then."""
    made = Clock()
    made.on(hours=1)
    made.time = made.time.replace(minute=7, second=5, microsecond=250_000)
    return made


@pytest.fixture
def local(fresh: Bench, clock: Clock) -> Iterator[Local]:
    fresh.trust()
    made = make_local(fresh, clock)
    yield made
    made.close()


def told(answer: httpx.Response) -> int:
    """The seconds, which the answer says three times. In words they are rounded up, never down."""
    assert answer.status_code == 429, answer.text
    error = answer.json()["error"]
    seconds = int(answer.headers["retry-after"])
    assert error["retry_after"] == seconds > 0
    found = re.search(r"(\d+) (second|minute|hour)s?\b", error["next_step"])
    assert found, error
    said = int(found[1]) * UNITS[found[2]]
    assert seconds <= said < seconds + UNITS[found[2]]
    return seconds


def without_id(answer: httpx.Response) -> dict[str, Any]:
    return {name: value for name, value in answer.json()["error"].items() if name != "request_id"}


def wrong(local: Local, name: str) -> httpx.Response:
    return local.step(local.begin(), "password", username=name, password="wrong password")


def challenged(local: Local, person: Person) -> dict[str, Any]:
    ticket = local.begin()
    assert local.step(ticket, "password", username=person.username, password=PASSWORD).status_code == 200
    return ticket


class TestAttempts:
    def test_of_passwords_for_anybody_and_nobody_alike(self, fresh: Bench, local: Local, clock: Clock):
        person, answers = fresh.person(), []
        for name in (person.username, "nobody-here"):
            answers.append([wrong(local, name) for _ in range(11)][-1])
        assert [told(answer) for answer in answers] == [55, 55]
        assert without_id(answers[0]) == without_id(answers[1])
        clock.on(seconds=54)
        assert told(wrong(local, person.username)) == 1
        clock.on(seconds=1)
        ticket = local.begin()
        done = local.step(ticket, "password", username=person.username, password=PASSWORD)
        assert done.status_code == 200

    def test_of_codes_in_a_day(self, fresh: Bench, local: Local, clock: Clock, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setattr(throttle, "CODES_IN_A_ROW", Limit(kind="codes", most=3, minutes=24 * 60))
        person = fresh.person()
        for _ in range(3):
            assert local.step(challenged(local, person), "code", method="totp", code="000000").status_code == 403
        answer = local.step(challenged(local, person), "code", method="totp", code="000000")
        seconds = told(answer)
        midnight = (clock.time + dt.timedelta(days=1)).replace(hour=0, minute=0, second=0, microsecond=0)
        assert 0 <= seconds - (midnight - clock.time).total_seconds() < 1
        assert answer.json()["error"]["next_step"].startswith("Sign in with your card, or try again in ")
        clock.on(seconds=seconds)
        code = person.totp.at(clock.time)
        assert local.step(challenged(local, person), "code", method="totp", code=code).status_code == 200

    def test_of_enrolment_codes_for_anybody_and_nobody_alike(self, fresh: Bench, local: Local):
        person, answers = fresh.person(), []
        for name in (person.username, "nobody-here"):
            body = {"username": name, "enrolment_code": "AAAA-BBBB"}
            answers.append([local.call("POST", "/api/keys/registration", json=body) for _ in range(11)][-1])
        assert [told(answer) for answer in answers] == [55, 55]
        assert without_id(answers[0]) == without_id(answers[1])

    def test_where_waiting_does_not_help_no_time_is_told(self, fresh: Bench, local: Local):
        person, ticket = fresh.person(), local.begin()
        answers = [local.step(ticket, "password", username=person.username, password="wrong") for _ in range(6)]
        last = answers[-1]
        assert (last.status_code, "retry-after" in last.headers) == (429, False)
        assert "retry_after" not in last.json()["error"]
        assert last.json()["error"]["next_step"] == "Start the sign-in again."


class TestPages:
    def test_a_form_says_when_and_so_does_its_header(self, fresh: Bench, local: Local):
        headers = {"accept": "text/html", "origin": "https://localhost:8443", "sec-fetch-site": "same-origin"}
        page = local.call("GET", "/first-day", headers=headers)
        cookie = "; ".join(line.partition(";")[0] for line in page.headers.get_list("set-cookie"))
        found = re.search(r'name="form_token" value="([^"]+)"', page.text)
        assert found is not None
        fields = {"form_token": found[1], "username": "somebody", "code": "AAAA-BBBB", "way": "app"}
        send = {**headers, "cookie": cookie}
        answers = [local.call("POST", "/first-day", data=fields, headers=send) for _ in range(11)]
        assert [answer.status_code for answer in answers] == [403] * 10 + [429]
        assert answers[-1].headers["retry-after"] == "55"
        assert "Wait 55 seconds, then try again." in answers[-1].text
        assert "retry-after" not in answers[0].headers


class TestMessages:
    """Their limits are settings."""

    @staticmethod
    @contextmanager
    def _local(fresh: Bench, clock: Clock, **changes: int) -> Iterator[Local]:
        fresh.trust()
        with fresh.office() as office:
            settings.write(settings.changed(office.settings, outbox=True, **changes))
        made = make_local(fresh, clock)
        try:
            yield made
        finally:
            made.close()

    @staticmethod
    def _phone(local: Local, person: Person, number: str) -> httpx.Response:
        bearer = {"authorization": f"Bearer {local.by_card(person)}"}
        begun = local.call("POST", "/api/methods/sms", json={"number": number}, headers=bearer)
        if begun.status_code == 201:
            text = local.call("GET", "/api/outbox").json()["messages"][0]["text"]
            code = re.findall(r"\b\d{6}\b", text)[0]
            done = local.call("POST", "/api/methods/sms/confirm", json={"code": code}, headers=bearer)
            assert done.status_code == 204, done.text
        return begun

    @staticmethod
    def _sent(local: Local, person: Person) -> httpx.Response:
        return local.step(challenged(local, person), "start", method="sms")

    def test_the_wait_before_the_next_one(self, fresh: Bench, clock: Clock):
        with self._local(fresh, clock) as local:
            person = fresh.person()
            self._phone(local, person, "07400 300001")
            assert self._sent(local, person).status_code == 200
            assert told(self._sent(local, person)) == 30
            clock.on(seconds=12.5)
            assert told(self._sent(local, person)) == 18, "rounded up"
            clock.on(seconds=17.5)
            assert self._sent(local, person).status_code == 200
            assert told(self._sent(local, person)) == 60

    def test_of_an_account(self, fresh: Bench, clock: Clock):
        with self._local(fresh, clock, messages_per_account=2) as local:
            person = fresh.person()
            self._phone(local, person, "07400 300002")
            assert self._sent(local, person).status_code == 200
            clock.on(minutes=20)
            answer = self._sent(local, person)
            seconds = told(answer)
            assert seconds == (60 - 27) * 60 - 5
            assert answer.json()["error"]["next_step"] == "Use another method, or try again in 33 minutes."
            other = fresh.person()
            assert self._phone(local, other, "07400 300003").status_code == 201, "others are not held up"
            clock.on(seconds=seconds)
            assert self._sent(local, person).status_code == 200

    def test_of_a_number_in_all_accounts(self, fresh: Bench, clock: Clock):
        with self._local(fresh, clock, messages_per_number=2) as local:
            people = [fresh.person() for _ in range(3)]
            answers = [self._phone(local, person, "07400 300004") for person in people]
            assert [answer.status_code for answer in answers] == [201, 201, 429]
            assert told(answers[-1]) == (60 - 7) * 60 - 5
            assert self._phone(local, people[2], "07400 300005").status_code == 201

    def test_of_the_whole_server(self, fresh: Bench, clock: Clock):
        with self._local(fresh, clock, messages_per_hour=2) as local:
            people = [fresh.person() for _ in range(3)]
            answers = [self._phone(local, person, f"07400 30001{at}") for at, person in enumerate(people)]
            assert [answer.status_code for answer in answers] == [201, 201, 429]
            clock.on(seconds=told(answers[-1]))
            assert self._phone(local, people[2], "07400 300012").status_code == 201

    def test_what_no_limit_can_be(self, fresh: Bench):
        with fresh.office() as office:
            for name in ("messages_per_account", "messages_per_number", "messages_per_hour"):
                for value in (0, -1, 1_000_001):
                    with pytest.raises(SetupError, match=name):
                        settings.changed(office.settings, **{name: value})
                assert settings.changed(office.settings, **{name: 1})


def test_spans_of_time_in_words():
    told_of = {seconds: TooMany(seconds=seconds).hint for seconds in (1, 2, 119, 120, 121, 7199, 7200, 7201)}
    assert list(told_of.values()) == [
        "Wait 1 second, then try again.",
        "Wait 2 seconds, then try again.",
        "Wait 119 seconds, then try again.",
        "Wait 2 minutes, then try again.",
        "Wait 3 minutes, then try again.",
        "Wait 120 minutes, then try again.",
        "Wait 2 hours, then try again.",
        "Wait 3 hours, then try again.",
    ]


def test_a_count_begins_again_when_that_is_said():
    at = dt.datetime(2026, 1, 2, 3, 4, 5, 999_999, tzinfo=dt.UTC)
    assert throttle.wait(Limit(kind="x", most=1), at) == 55
    assert throttle.wait(Limit(kind="x", most=1, minutes=60), at) == 56 * 60 - 5
    assert throttle.wait(Limit(kind="x", most=1), at.replace(second=0, microsecond=0)) == 60


def test_nobody_is_told_to_wait_without_being_told_how_long():
    """Each place in the server says the seconds, or that there are none."""
    for path in (Path(__file__).parents[2] / "tokenbridge" / "server").rglob("*.py"):
        tree = ast.parse(path.read_text())
        for node in ast.walk(tree):
            if isinstance(node, ast.Raise):
                assert not (isinstance(node.exc, ast.Name) and node.exc.id == "TooMany"), path
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "TooMany":
                assert "seconds" in {word.arg for word in node.keywords}, (path, node.lineno)
