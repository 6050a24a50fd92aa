"""App passwords: made by people, checked by programs, for one program each; and what must not be let in by them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.server.app_bench import MAIL, Desk, app_desk
from tests.server.conftest import Databases, copied
from tests.server.test_policy_cli import put
from tokenbridge.errors import BadRequest
from tokenbridge.rig.pki import RigPki


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory, pki: RigPki, _pattern: Path, databases: Databases) -> Iterator[Desk]:
    place = tmp_path_factory.mktemp("apps") / "data"
    with copied(_pattern, place, databases) as data, app_desk(data, pki) as made:
        yield made


def test_made_once_used_by_its_program_and_revoked(desk: Desk) -> None:
    made = desk.made()
    assert len(made["password"]) == 29
    good = desk.check(made["password"])
    assert (good.status_code, good.json()["username"]) == (200, desk.person.username)
    assert desk.check(made["password"].lower().replace("-", " ")).status_code == 200
    listed = desk.server.http.get("/api/app-passwords", headers={"Authorization": f"Bearer {desk.token}"}).json()
    (mine,) = [one for one in listed["app_passwords"] if one["id"] == made["id"]]
    assert (mine["name"], mine["client"], mine["last_used"] is not None) == ("Outlook", "mail", True)
    assert made["password"] not in json.dumps(listed)
    headers = {"Authorization": f"Bearer {desk.token}"}
    gone = desk.server.http.delete(f"/api/app-passwords/{made['id']}", headers=headers)
    assert gone.status_code == 204
    assert desk.server.http.delete(f"/api/app-passwords/{made['id']}", headers=headers).status_code == 404
    assert desk.check(made["password"]).status_code == 403
    assert [event for event in desk.events() if event.startswith("app-password")] == [
        "app-password-made",
        "app-password-used",
        "app-password-revoked",
    ]


def test_it_is_good_for_its_program_and_its_person_only(desk: Desk) -> None:
    made = desk.made()
    other = json.loads(desk.cli("app-client", "add", "wiki", "--json"))["secret"]
    somebody = desk.bench.person().username
    wrong = [
        desk.check(made["password"], client="wiki", secret=other),
        desk.check(made["password"], username=somebody),
        desk.check(made["password"], username="nobody"),
        desk.check(made["password"], username="\x00"),
        desk.check(desk.person.password),
        desk.check("0" * 24),
    ]
    assert {answer.status_code for answer in wrong} == {403}
    assert len({(answer.json()["error"]["code"], answer.json()["error"]["message"]) for answer in wrong}) == 1
    unknown = [
        desk.check(made["password"], secret="wrong"),
        desk.check(made["password"], client="nobody"),
        desk.check(made["password"], client="\x00"),
    ]
    assert {answer.status_code for answer in unknown} == {401}
    assert {answer.headers["www-authenticate"] for answer in unknown} == {"Basic"}


@pytest.mark.parametrize("given", [None, "Basic", "Basic !", "Basic bWFpbA==", "Bearer x", "Basic " + "A" * 5000])
def test_an_authorization_that_is_none(desk: Desk, given: str | None) -> None:
    headers = {} if given is None else {"Authorization": given}
    body = {"username": "x", "password": "y"}
    assert desk.server.http.post("/api/app-password/check", json=body, headers=headers).status_code == 401


@dataclass(frozen=True)
class Refusal:
    """What a policy says to an app password that is right."""

    policy: str
    message: str
    next_step: str
    reason: str


TOO_WEAK = "Use this service in a browser, where a second step can be asked for"
ASK = "Ask your IT service desk."
REFUSALS = {
    "two factors": Refusal(
        '[[rule]]\nname = "two factors"\n',
        "app password counts as one factor (AAL1), and rule 'two factors' requires two factors (AAL2).",
        TOO_WEAK,
        "assurance-too-low",
    ),
    "a method that the person lacks": Refusal(
        '[[rule]]\nname = "voice"\nfallback = ["voice"]\n',
        "app password counts as one factor (AAL1), and rule 'voice' requires two factors (AAL2).",
        TOO_WEAK,
        "assurance-too-low",
    ),
    "closed": Refusal(
        '[[rule]]\nname = "closed"\nrefuse = true\nmessage = "Mail is closed on Sundays."\n',
        "mail is closed on Sundays.",
        ASK,
        "rule-refuses",
    ),
    "no rule": Refusal(
        '[[rule]]\nname = "wiki"\nclients = ["wiki"]\n',
        "no rule of the policy covers the client 'mail'.",
        ASK,
        "no-rule",
    ),
    "enrolment overdue": Refusal(
        '[[rule]]\nname = "mail"\naal = 1\nenrol = { any_of = ["key"], grace_days = 0 }\n',
        "this account had to set up security key by",
        "Set it up on the self-service pages",
        "enrolment-overdue",
    ),
}


@pytest.fixture
def refusal(desk: Desk, request: pytest.FixtureRequest) -> Iterator[Refusal]:
    found = REFUSALS[request.param]
    put(desk.bench.data, found.policy)
    yield found
    put(desk.bench.data, MAIL)


@pytest.mark.parametrize("refusal", REFUSALS, indirect=True)
def test_policy_decides_and_offers_no_second_step(desk: Desk, refusal: Refusal) -> None:
    made = desk.made(f"Outlook {refusal.reason}")
    before = len(desk.denied())
    answers = [desk.check(made["password"]) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [403, 403]
    error = answers[0].json()["error"]
    assert (error["code"], error["retry"]) == ("policy-refuses", "never")
    assert error["message"].startswith(
        f"The app password is right, but the policy does not let it in: {refusal.message}"
    )
    assert error["next_step"].startswith(refusal.next_step)
    assert made["refused"]["message"].startswith(f"As things are now, the policy does not let it in: {refusal.message}")
    assert made["refused"]["next_step"] == error["next_step"]
    assert "One more step" not in answers[0].text
    (entry,) = desk.denied()[before:]
    told = entry["detail"]
    assert (told["client"], told["name"], told["decision"]) == ("mail", f"Outlook {refusal.reason}", "deny")
    assert (told["sentence"], told["reasons"][0]) == (error["message"], refusal.reason)
    assert entry["request"] == error["request_id"]
    assert desk.check("0" * 24).json()["error"]["code"] == "rejected"


def test_a_rule_may_say_where_the_program_is(desk: Desk) -> None:
    made = desk.made()
    assert made["refused"] is None
    try:
        for networks, status in (('"127.0.0.0/8", "::1/128"', 200), ('"10.0.0.0/8"', 403)):
            put(desk.bench.data, MAIL.replace("aal = 1", f"networks = [{networks}]\naal = 1"))
            assert desk.check(made["password"]).status_code == status
            assert desk.made()["refused"] is None, "wherever the program is, it is not refused everywhere"
    finally:
        put(desk.bench.data, MAIL)


def test_it_opens_again_with_the_policy(desk: Desk) -> None:
    made = desk.made()
    put(desk.bench.data, REFUSALS["two factors"].policy)
    assert desk.check(made["password"]).status_code == 403
    put(desk.bench.data, MAIL)
    assert desk.check(made["password"]).status_code == 200


def test_a_disabled_account_and_a_guesser(desk: Desk) -> None:
    person = desk.bench.person()
    token = desk.sign_in(person)
    made = desk.make(token=token).json()
    desk.cli("user", "disable", person.username)
    assert desk.check(made["password"], username=person.username).status_code == 403
    answers = [desk.check("1" * 24, username=person.username).status_code for _ in range(31)]
    assert answers[0] == 403
    assert answers[-1] == 429
    assert desk.check(desk.made()["password"]).status_code == 200


def test_a_weak_session_makes_none(desk: Desk) -> None:
    person = desk.bench.person()
    ticket = desk.server.begin()
    desk.server.password(ticket, person.username)
    weak = desk.server.code(ticket, person.code()).json()["session"]["token"]
    answer = desk.make(token=weak)
    assert (answer.status_code, answer.json()["error"]["code"]) == (403, "step-up")
    assert desk.make(token="nonsense").status_code == 401
    assert desk.make(client="nobody").status_code == 400
    assert desk.make(name="\x07").status_code == 400


def test_what_an_operator_does(desk: Desk) -> None:
    with pytest.raises(BadRequest, match="already"):
        desk.cli("app-client", "add", "mail")
    with pytest.raises(BadRequest, match="can't be a client"):
        desk.cli("app-client", "add", "two words")
    made = desk.made("Thunderbird")
    listed = json.loads(desk.cli("app-password", "list", desk.person.username, "--json"))
    assert "Thunderbird" in [one["name"] for one in listed]
    assert "Thunderbird" in desk.cli("app-password", "list", desk.person.username)
    assert "Revoked: 1." in desk.cli("app-password", "revoke", desk.person.username, str(made["id"]))
    with pytest.raises(BadRequest, match="has no app password"):
        desk.cli("app-password", "revoke", desk.person.username, str(made["id"]))
    desk.made("Another")
    assert json.loads(desk.cli("app-password", "revoke", desk.person.username, "--all", "--json"))["revoked"] >= 1
    assert json.loads(desk.cli("app-password", "list", desk.person.username, "--json")) == []
    old, desk.secret = desk.secret, json.loads(desk.cli("app-client", "renew", "mail", "--json"))["secret"]
    made = desk.made("After")
    assert desk.check(made["password"]).status_code == 200
    assert desk.check(made["password"], secret=old).status_code == 401
    gone = json.loads(desk.cli("app-client", "add", "gone", "--json"))["secret"]
    assert "Removed gone." in desk.cli("app-client", "remove", "gone")
    assert desk.check(made["password"], client="gone", secret=gone).status_code == 401
    assert "mail" in desk.cli("app-client", "list")


def test_a_stolen_database_holds_no_app_password(desk: Desk, databases: Databases) -> None:
    made = desk.made()
    stored = databases.stolen(desk.bench.data)
    assert desk.person.username.encode() in stored
    for secret in (made["password"], made["password"].replace("-", ""), desk.secret):
        assert secret.encode() not in stored
