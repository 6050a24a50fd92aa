"""Sign-ins that are approved on a telephone, over the API: what is asked, answered, used once, declined, limited."""

from __future__ import annotations

import concurrent.futures
import datetime as dt
import threading
from collections import Counter
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
from sqlalchemy import select

from tests.server.conftest import Bench, Person, Server, now
from tokenbridge.rp.proof import Method
from tokenbridge.server.store import accounts, approvals, audit, throttle
from tokenbridge.server.store.approval_schema import Approval
from tokenbridge.server.store.approvals import Stage
from tokenbridge.server.store.phone_app_schema import PhoneApp


@dataclass(kw_only=True)
class Asking:
    """Somebody with a telephone, and the sign-in that asks for it."""

    bench: Bench
    server: Server
    person: Person
    ticket: dict[str, Any]

    @property
    def path(self) -> str:
        return f"/api/sign-in/{self.ticket['transaction']}"

    def begin(self) -> list[str]:
        self.ticket = self.server.begin()
        return self.server.password(self.ticket, self.person.username).json()["methods"]

    def start(self, method: str = "number-match") -> httpx.Response:
        return self.server.http.post(f"{self.path}/start", json={"method": method})

    def look(self) -> httpx.Response:
        return self.server.http.get(f"{self.path}/approval")

    def present(self) -> httpx.Response:
        return self.server.http.post(f"{self.path}/approval")

    def row(self) -> Approval:
        with self.bench.office() as office, office.database.read() as tx:
            account = accounts.get(tx, self.person.username)
            query = select(Approval).where(Approval.account_id == account.id).order_by(Approval.id.desc())
            found = tx.scalars(query).first()
        assert found is not None
        return found

    def say(self, stage: Stage) -> None:
        with self.bench.office() as office, office.database.write() as tx:
            assert approvals.answer(tx, self.row().id, stage, now())

    def shift(self, **change: Any) -> None:
        """Let time pass for all questions of the account."""
        with self.bench.office() as office, office.database.write() as tx:
            account = accounts.get(tx, self.person.username)
            for row in tx.scalars(select(Approval).where(Approval.account_id == account.id)):
                row.created_at -= dt.timedelta(**change)
                row.expires_at -= dt.timedelta(**change)

    def events(self) -> list[str]:
        with self.bench.office() as office, office.database.read() as tx:
            return [entry.event for entry in audit.entries(tx, account=self.person.username)]


@pytest.fixture
def asking(bench: Bench, server: Server) -> Asking:
    person = bench.person(enrol=False)
    with bench.office() as office, office.database.write() as tx:
        tx.add(
            PhoneApp(
                account_id=accounts.get(tx, person.username).id,
                thumbprint=person.username,
                public_key=b"",
                name="iPhone",
                device="Safari on iPhone",
                created_at=now(),
                confirmed_at=now(),
            )
        )
    made = Asking(bench=bench, server=server, person=person, ticket={})
    assert made.begin() == ["number-match", "totp"]
    return made


def test_an_approval_signs_in(asking: Asking):
    begun = asking.start().json()
    assert (begun["method"], begun["typed"], begun["sent_to"]) == ("number-match", False, "iPhone")
    assert len(begun["number"]) == 2
    told = asking.look().json()
    assert (told["answered"], told["number"]) == (False, begun["number"])
    asking.say(Stage.APPROVED)
    assert asking.look().json()["answered"] is True
    outcome = asking.present().json()
    assert outcome["decision"] == "allow"
    assert (outcome["assurance"]["aal"], outcome["assurance"]["amr"]) == (2, ["pwd", "otp", "mfa"])
    assert asking.events()[-2:] == ["approval-asked", "signed-in"]


def test_nothing_changes_while_nobody_has_answered(asking: Asking):
    asking.start()
    for _ in range(10):
        refused = asking.present()
        assert (refused.status_code, refused.json()["error"]["code"]) == (409, "not-answered")
    asking.say(Stage.APPROVED)
    assert asking.present().status_code == 200


def test_an_approval_is_used_once(asking: Asking):
    asking.start()
    asking.say(Stage.APPROVED)
    assert asking.present().status_code == 200
    assert asking.present().status_code == 409
    assert asking.look().status_code == 409
    assert asking.row().stage == Stage.USED


def test_one_of_many_at_once_wins(asking: Asking):
    asking.start()
    asking.say(Stage.APPROVED)
    start = threading.Barrier(6)

    def work(_: int) -> int:
        start.wait(20)
        return asking.present().status_code

    with concurrent.futures.ThreadPoolExecutor(6) as pool:
        assert Counter(pool.map(work, range(6))) == {200: 1, 409: 5}


def test_an_approval_counts_in_its_own_sign_in_only(asking: Asking):
    asking.start()
    first = asking.ticket
    asking.say(Stage.APPROVED)
    asking.begin()
    assert asking.present().status_code == 409
    asking.shift(minutes=1)
    asking.start()
    assert asking.present().json()["error"]["code"] == "not-answered"
    # One question at a time: the newer one has voided what was approved before.
    asking.ticket = first
    assert asking.present().status_code == 409


def test_declining_ends_the_sign_in(asking: Asking):
    asking.start()
    asking.say(Stage.DENIED)
    refused = asking.present()
    assert (refused.status_code, refused.json()["error"]["reason"]) == (403, "declined")
    assert asking.server.code(asking.ticket, asking.person.code()).status_code == 409
    assert "refused" in asking.events()


def test_nobody_is_asked_for_a_while_after_declining(asking: Asking):
    asking.start()
    asking.say(Stage.DENIED)
    asking.begin()
    refused = asking.start()
    assert refused.status_code == 429
    assert "in 30 minutes" in refused.json()["error"]["next_step"]
    assert asking.server.code(asking.ticket, asking.person.code()).status_code == 200
    asking.shift(minutes=31)
    asking.begin()
    assert asking.start().status_code == 200


def test_a_question_that_was_not_answered_in_time_may_be_asked_again(asking: Asking):
    asking.start()
    asking.shift(minutes=4)
    assert asking.look().json()["answered"] is True
    refused = asking.present()
    assert (refused.status_code, refused.json()["error"]["reason"]) == (403, "approval-failed")
    assert asking.present().status_code == 409
    assert asking.start().status_code == 200
    assert asking.server.code(asking.ticket, asking.person.code()).status_code == 200


def test_an_answer_that_comes_too_late_is_none(asking: Asking):
    asking.start()
    asking.shift(minutes=4)
    with asking.bench.office() as office, office.database.write() as tx:
        assert not approvals.answer(tx, asking.row().id, Stage.APPROVED, now())


def test_questions_have_to_wait_and_are_counted(asking: Asking):
    assert asking.start().status_code == 200
    assert asking.start().status_code == 429
    asking.begin()
    assert asking.start().status_code == 429
    with asking.bench.office() as office, office.database.write() as tx:
        whose = str(accounts.get(tx, asking.person.username).id)
        while throttle.allow(tx, throttle.APPROVALS, whose, now()):
            pass
    asking.shift(minutes=20)
    refused = asking.start()
    assert (refused.status_code, refused.json()["error"]["message"]) == (429, "Too many requests were sent.")


def test_without_a_telephone_nothing_is_asked(bench: Bench, server: Server):
    person = bench.person(enrol=False)
    ticket = server.begin()
    assert server.password(ticket, person.username).json()["methods"] == ["totp"]
    body = {"method": "number-match"}
    refused = server.http.post(f"/api/sign-in/{ticket['transaction']}/start", json=body)
    assert (refused.status_code, refused.json()["error"]["code"]) == (409, "method-not-offered")
    assert server.http.post(f"/api/sign-in/{ticket['transaction']}/approval").status_code == 409


def test_an_approval_takes_no_code(asking: Asking):
    asking.start()
    body = {"method": "number-match", "code": "47"}
    assert asking.server.http.post(f"{asking.path}/code", json=body).status_code == 400


def test_an_unknown_sign_in_has_no_approval(server: Server):
    assert server.http.post("/api/sign-in/x/approval").status_code == 404
    assert server.http.get("/api/sign-in/x/approval").status_code == 409


def test_questions_of_accounts_stay_apart(asking: Asking, bench: Bench):
    asking.start()
    other = bench.person(enrol=False)
    with bench.office() as office, office.database.read() as tx:
        whose = accounts.get(tx, other.username).id
        assert approvals.by_handle(tx, asking.row().handle, whose) is None
        assert approvals.open_of(tx, whose, Method.NUMBER_MATCH, now()) is None
