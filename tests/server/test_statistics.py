"""Sign-ins counted: what the trail of a real server says, and what may not be counted."""

from __future__ import annotations

import datetime as dt
import json

import pytest

from tests.server.conftest import Bench, now, serving
from tests.server.test_cli import Cli
from tokenbridge.server.statistics import count
from tokenbridge.server.store.audit import Entry


@pytest.fixture
def cli(fresh: Bench) -> Cli:
    return Cli(fresh.data)


def entry(at: str, event: str, **detail: object) -> Entry:
    return Entry(seq=1, at=at, event=event, account="", sign_in="", request="", detail=detail, hash="")


def test_suppressed_against_shown_by_method_level_and_cause(fresh: Bench, cli: Cli) -> None:
    fresh.trust()
    person, other = fresh.person(), fresh.person(enrol=False)
    with serving(fresh.data) as server:
        for _ in range(3):
            ticket = server.begin()
            assert server.card(ticket, person.card.token(ticket["nonce"])).json()["decision"] == "allow"
        ticket = server.begin()
        server.password(ticket, person.username)
        assert server.code(ticket, person.code()).json()["decision"] == "allow"
        assert server.password(server.begin(), person.username, "wrong password").status_code == 403
        ticket = server.begin()
        assert server.card(ticket, other.card.token(ticket["nonce"])).status_code == 403
    found = json.loads(cli("report", "--json", "--days", "1"))
    assert found["totals"] == {"signed_in": 4, "suppressed": 3, "shown": 1, "failed": 2}
    assert found["by_method"] == {"card": 3, "password+totp": 1}
    assert found["by_level"] == {"2": 1, "3": 3}
    assert found["suppressed_methods"] == {"totp": 3}
    assert found["causes"]["password: wrong password"] == 1
    assert found["without_a_phone"] == [other.username]
    text = cli("report")
    assert "Sign-ins: 4. Failed: 2." in text
    assert "Challenges suppressed" in text
    assert f"{other.username}" in text


def test_nothing_to_count(cli: Cli) -> None:
    found = json.loads(cli("report", "--json", "--days", "7"))
    assert found["totals"] == {"signed_in": 0, "suppressed": 0, "shown": 0, "failed": 0}
    assert [day["day"] for day in found["days"]][-1] == now().date().isoformat()
    assert len(found["days"]) == 7
    assert "Nobody depends on a phone alone." in cli("report")


def test_days_are_whole_and_others_are_left_out() -> None:
    trail = [
        entry("2026-05-31T23:59:59.999999+00:00", "signed-in", methods=["card"]),
        entry("2026-06-01T00:00:00.000000+00:00", "signed-in", methods=["card"], suppressed=["sms", "totp"]),
        entry("2026-06-02T23:59:59.999999+00:00", "signed-in", methods=["password", "sms"], assurance={"aal": 2}),
        entry("2026-06-02T10:00:00.000000+00:00", "denied", reasons=["assurance-too-low"]),
        entry("2026-06-03T00:00:00.000000+00:00", "refused", detail="x"),
        entry("2026-06-02T10:00:00.000000+00:00", "session-ended"),
    ]
    found = count(trail, dt.date(2026, 6, 1), dt.date(2026, 6, 2))
    assert [(day.signed_in, day.suppressed, day.shown, day.failed) for day in found.days] == [
        (1, 1, 0, 0),
        (1, 0, 1, 1),
    ]
    assert found.causes == {"policy: assurance-too-low": 1}
    assert found.suppressed_methods == {"sms": 1, "totp": 1}


def test_the_trail_can_be_searched(fresh: Bench, cli: Cli) -> None:
    cli("user", "add", "alice", "--no-password")
    cli("user", "add", "bob", "--no-password")
    cli("group", "add", "100%", "alice")
    today, tomorrow = now().date(), now().date() + dt.timedelta(days=1)

    def events(*words: str) -> list[str]:
        return [json.loads(line)["event"] for line in cli("audit", "--json", *words).splitlines()]

    assert events("--event", "user-added") == ["user-added", "user-added"]
    assert events("--user", "ALICE") == ["user-added", "group-joined"]
    assert events("--text", "100%") == ["group-joined"]
    assert events("--text", "100_") == []
    assert len(events("--since", str(today), "--until", str(today))) == 3
    assert events("--since", str(tomorrow)) == []
    assert events("--until", str(today - dt.timedelta(days=1))) == []
