"""Resetting a forgotten password: by which methods, and everything that must not work."""

from __future__ import annotations

import concurrent.futures
import datetime as dt
import re
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest
from pytest_mock import MockerFixture

from tests.server.conftest import PASSWORD, Databases, Person, now, running
from tests.server.outbox import newest_code, to_phones
from tests.server.portal.conftest import SESSION, Portal, Visitor, noticed, portal_at
from tests.server.portal.test_number_match import begin, confirm
from tests.server.portal.test_phone_pages import add_phone
from tests.server.soft_phone import SoftPhone
from tokenbridge.errors import SendFailed, SendFault
from tokenbridge.server.operator import people, security_keys
from tokenbridge.server.store import audit, sent_codes, throttle
from tokenbridge.server.store.password_reset_schema import PasswordReset

NEW = "three random words"
RESET = "__Host-tokenbridge-reset"


@pytest.fixture(scope="module")
def portal(tmp_path_factory: pytest.TempPathFactory, databases: Databases) -> Iterator[Portal]:
    """With an outbox, for messages and mails."""
    data = tmp_path_factory.mktemp("reset") / "data"
    with portal_at(data, database=databases.new(), outbox=True) as made:
        yield made


@pytest.fixture(autouse=True)
def _no_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sent_codes, "wait_after", lambda _sent: dt.timedelta())


def somebody(portal: Portal, **facts: str) -> tuple[Person, tuple[str, ...]]:
    """With an authenticator app and recovery codes."""
    person = portal.bench.person(enrol=False, **facts)
    with portal.bench.office() as office:
        return person, security_keys.new_recovery_codes(office, person.username)


def start(visitor: Visitor, username: str) -> httpx.Response:
    visitor.get("/password-reset")
    return visitor.send("/password-reset", {"username": username})


def prove(visitor: Visitor, by: str, code: str) -> httpx.Response:
    visitor.get(f"/password-reset/step?by={by}")
    return visitor.send("/password-reset/step", {"by": by, "code": code})


def choose(visitor: Visitor, new: str = NEW, again: str | None = None) -> httpx.Response:
    visitor.get("/password-reset/new")
    return visitor.send("/password-reset/new", {"new": new, "again": new if again is None else again})


def both(visitor: Visitor, person: Person, codes: tuple[str, ...]) -> httpx.Response:
    start(visitor, person.username)
    prove(visitor, "totp", person.code())
    return prove(visitor, "recovery", codes[0])


def events(portal: Portal, username: str) -> list[str]:
    with portal.bench.office() as office, office.database.read() as tx:
        return [entry.event for entry in audit.entries(tx, account=username)]


def works(portal: Portal, username: str, password: str) -> bool:
    return portal.server.password(portal.server.begin("portal"), username, password).status_code == 200


class TestTheWay:
    def test_app_and_recovery_code_set_a_new_password_and_end_all_sessions(self, portal: Portal, visitor: Visitor):
        person, codes = somebody(portal, email="reset1@example.org")
        other = portal.visitor()
        with other.http:
            other.sign_in(person)
            with portal.bench.office() as office:
                enrolment = security_keys.new_enrolment_code(office, person.username, 24).code
            start(visitor, person.username)
            assert "One more way" in prove(visitor, "totp", person.code(1)).text
            assert "Choose a new password" in prove(visitor, "recovery", codes[0]).text
            assert "not typed the same" in choose(visitor, again="something else").text
            assert "8 to 1024" in choose(visitor, "short").text
            assert choose(visitor).url.path == "/password-reset/done"
            assert SESSION not in visitor.http.cookies, "nobody is signed in by it"
            assert other.get("/profile").url.path == "/sign-in"
        assert (works(portal, person.username, NEW), works(portal, person.username, PASSWORD)) == (True, False)
        visitor.get("/first-day")
        assert visitor.post("/first-day", {"username": person.username, "code": enrolment, "way": "app"}).is_error
        with portal.bench.office() as office, office.database.read() as tx:
            found = [e for e in audit.entries(tx, account=person.username) if e.event == "password-reset"]
        assert found[0].detail["methods"] == ["totp", "recovery"]
        assert noticed(visitor, "your password was reset")
        visitor.sign_in_by_password(person.username, NEW)
        visitor.get("/sign-in/step?by=recovery")
        visitor.send("/sign-in/step", {"by": "recovery", "code": codes[1]})
        assert "Password reset with two methods" in visitor.get("/activity").text

    def test_recovery_code_and_text_message(self, portal: Portal, visitor: Visitor):
        person, codes = somebody(portal)
        add_phone(visitor, person, "07400 123461")
        visitor.http.cookies.clear()
        start(visitor, person.username)
        page = prove(visitor, "recovery", codes[0])
        assert set(re.findall(r"step\?by=([a-z-]+)", page.text)) == {"sms", "whatsapp", "voice"}
        visitor.get("/password-reset/step?by=sms")
        sent = visitor.send("/password-reset/send", {"by": "sms"})
        assert "We sent six digits by text message to" in sent.text
        done = visitor.send("/password-reset/step", {"by": "sms", "code": newest_code(visitor.http)})
        assert "Choose a new password" in done.text
        choose(visitor)
        assert works(portal, person.username, NEW)

    def test_recovery_code_and_number_matching(self, portal: Portal, visitor: Visitor):
        person, codes = somebody(portal)
        phone = phone_of(portal, visitor, person)
        visitor.http.cookies.clear()
        start(visitor, person.username)
        prove(visitor, "recovery", codes[0])
        visitor.get("/password-reset/step?by=number-match")
        page = visitor.send("/password-reset/send", {"by": "number-match"})
        number = re.search(r'id="number">(\d\d)<', page.text)
        assert number is not None
        assert "not been answered" in visitor.send("/password-reset/step", {"by": "number-match"}).text
        asked = phone.look().json()["request"]
        assert asked["client"] == "password reset"
        phone.answer(asked["approval"], "approve", number[1])
        assert "Choose a new password" in visitor.send("/password-reset/step", {"by": "number-match"}).text
        choose(visitor)
        assert works(portal, person.username, NEW)

    def test_a_message_that_does_not_go_out_is_told_and_on_record(
        self, portal: Portal, visitor: Visitor, mocker: MockerFixture
    ):
        person, codes = somebody(portal)
        add_phone(visitor, person, "07400 123464")
        visitor.http.cookies.clear()
        start(visitor, person.username)
        prove(visitor, "recovery", codes[0])
        visitor.get("/password-reset/step?by=sms")
        fault = SendFailed(SendFault.UNREACHABLE)
        mocker.patch("tokenbridge.server.senders.outbox.Outbox.send", side_effect=fault)
        assert visitor.send("/password-reset/send", {"by": "sms"}).status_code == 502
        assert "message-not-sent" in events(portal, person.username)
        assert "One more way" in visitor.last.text

    def test_who_declines_on_the_telephone_ends_it(self, portal: Portal, visitor: Visitor):
        person, codes = somebody(portal)
        phone = phone_of(portal, visitor, person)
        visitor.http.cookies.clear()
        start(visitor, person.username)
        prove(visitor, "recovery", codes[0])
        visitor.get("/password-reset/step?by=number-match")
        visitor.send("/password-reset/send", {"by": "number-match"})
        phone.answer(phone.look().json()["request"]["approval"], "deny")
        assert "password reset is over" in prove(visitor, "totp", person.code(1)).text
        assert works(portal, person.username, PASSWORD)

    def test_who_has_one_way_only_is_sent_to_the_service_desk(self, portal: Portal, visitor: Visitor):
        person = portal.bench.person(enrol=False)
        start(visitor, person.username)
        page = prove(visitor, "totp", person.code())
        assert "There is no second way" in page.text
        assert "IT service desk" in page.text
        assert visitor.get("/password-reset/new").url.path != "/password-reset/new"

    def test_a_session_without_card_or_key_is_no_first_method(self, portal: Portal, visitor: Visitor):
        person, _ = somebody(portal)
        visitor.sign_in(person)
        assert "Forgotten your current password?" in visitor.get("/self-service/password").text
        answer = visitor.post("/self-service/password/forgotten")
        assert (answer.status_code, "Sign in again" in answer.text) == (403, True)

    def test_it_can_be_switched_off(self, tmp_path: Path, databases: Databases):
        if databases.cluster is not None:
            return
        with portal_at(tmp_path / "data", database=databases.new(), password_reset=False) as portal:
            visitor = portal.visitor()
            with visitor.http:
                assert "Forgotten" not in visitor.get("/sign-in").text
                assert visitor.get("/password-reset").status_code == 404
                assert visitor.post("/password-reset", {"username": "x"}).status_code in (403, 404)


def phone_of(portal: Portal, visitor: Visitor, person: Person) -> SoftPhone:
    visitor.sign_in(person)
    phone = SoftPhone(http=portal.server.http, origin=portal.origin)
    code = begin(visitor)
    confirm(visitor, code, phone.enrol(code).json()["number"])
    return phone


class TestStrangers:
    def test_names_of_nobody_of_the_disabled_and_of_newcomers_look_the_same(self, portal: Portal):
        known, _ = somebody(portal)
        disabled, _ = somebody(portal)
        with portal.bench.office() as office:
            people.set_disabled(office, disabled.username, disabled=True)
        seen = []
        for name in (known.username, "nobody-of-this-name", disabled.username, portal.newcomer(), "\0", "a" * 128):
            visitor = portal.visitor()
            with visitor.http:
                pages = [start(visitor, name), *(prove(visitor, "recovery", "0000") for _ in range(6))]
            seen.append([(page.status_code, _plain(page.text)) for page in pages])
        assert all(pages == seen[0] for pages in seen[1:])
        assert "Too many attempts" in seen[0][-1][1]

    def test_a_disabled_account_with_right_codes_is_told_that_they_are_wrong(self, portal: Portal, visitor: Visitor):
        person, codes = somebody(portal)
        with portal.bench.office() as office:
            people.set_disabled(office, person.username, disabled=True)
        start(visitor, person.username)
        assert prove(visitor, "recovery", codes[0]).status_code == 403
        assert "One more way" not in prove(visitor, "totp", person.code()).text

    def test_names_of_nobody_take_the_same_time(self, portal: Portal):
        known, _ = somebody(portal)
        times: dict[str, list[float]] = {known.username: [], "nobody-at-all-here": []}
        with portal.bench.office() as office:
            for _ in range(12):
                for name, taken in times.items():
                    with office.database.write() as tx:
                        tx.connection().exec_driver_sql("DELETE FROM throttles")
                    visitor = portal.visitor()
                    with visitor.http:
                        start(visitor, name)
                        begun = time.perf_counter()
                        visitor.post("/password-reset/step", {"by": "totp", "code": "000000"})
                        taken.append(time.perf_counter() - begun)
        # The least of many: what else the machine does only ever adds.
        one, other = (min(taken) for taken in times.values())
        assert 0.6 < one / other < 1.6, times

    def test_nothing_is_sent_and_nobody_asked_before_the_first_method(self, portal: Portal, visitor: Visitor):
        person, _ = somebody(portal)
        add_phone(visitor, person, "07400 123462")
        before = to_phones(portal.server.http)
        visitor.http.cookies.clear()
        page = start(visitor, person.username)
        assert "sms" not in page.text
        for by in ("sms", "whatsapp", "number-match", "voice"):
            assert visitor.post("/password-reset/send", {"by": by}).status_code in (303, 409), by
        assert to_phones(portal.server.http) == before

    def test_guessing_ends_the_reset_and_never_holds_up_a_sign_in(self, portal: Portal, visitor: Visitor):
        person, codes = somebody(portal)
        for _ in range(3):
            start(visitor, person.username)
            answers = [prove(visitor, "totp", "000000").status_code for _ in range(6)]
            assert answers[-1] == 429
        assert "rate-limited" in events(portal, person.username)
        assert prove(visitor, "recovery", codes[0]).status_code == 429, "a right one is not looked at any more"
        other = portal.visitor()
        with other.http:
            assert other.sign_in(person).url.path == "/signed-in"

    def test_in_a_day_there_are_a_hundred_guesses(self, portal: Portal, visitor: Visitor):
        person, codes = somebody(portal)
        with portal.bench.office() as office, office.database.write() as tx:
            number = people.accounts.get(tx, person.username).id
            for _ in range(100):
                throttle.allow(tx, throttle.RESETS_IN_A_ROW, str(number), now())
        start(visitor, person.username)
        assert prove(visitor, "recovery", codes[0]).status_code == 429

    def test_a_flood_of_unknown_names_leaves_no_trail(self, portal: Portal, visitor: Visitor):
        with portal.bench.office() as office, office.database.read() as tx:
            before = len(audit.entries(tx))
        start(visitor, "my secret typed here")
        prove(visitor, "totp", "000000")
        with portal.bench.office() as office, office.database.read() as tx:
            assert len(audit.entries(tx)) == before


class TestReplay:
    def test_one_code_is_not_both_methods(self, portal: Portal, visitor: Visitor):
        person, codes = somebody(portal)
        start(visitor, person.username)
        prove(visitor, "recovery", codes[0])
        for by, code in (("recovery", codes[1]), ("recovery", codes[0]), ("key", "x"), ("password", PASSWORD)):
            assert "Choose a new password" not in prove(visitor, by, code).text, by
        assert choose(visitor).url.path != "/password-reset/done"
        assert works(portal, person.username, PASSWORD)

    def test_an_app_code_of_a_sign_in_is_spent_here_and_the_other_way_round(self, portal: Portal, visitor: Visitor):
        person, _ = somebody(portal)
        spent = person.code()
        other = portal.visitor()
        with other.http:
            other.sign_in(person)
        start(visitor, person.username)
        assert prove(visitor, "totp", spent).status_code == 403
        fresh = person.code(1)
        assert "One more way" in prove(visitor, "totp", fresh).text
        third = portal.visitor()
        with third.http:
            third.sign_in_by_password(person.username)
            third.get("/sign-in/step?by=totp")
            assert third.send("/sign-in/step", {"by": "totp", "code": fresh}).status_code == 403

    def test_messages_of_a_sign_in_and_of_a_reset_are_not_exchanged(self, portal: Portal, visitor: Visitor):
        person, codes = somebody(portal)
        add_phone(visitor, person, "07400 123463")
        visitor.http.cookies.clear()
        start(visitor, person.username)
        prove(visitor, "recovery", codes[0])
        visitor.get("/password-reset/step?by=sms")
        visitor.send("/password-reset/send", {"by": "sms"})
        of_reset = newest_code(visitor.http)
        other = portal.visitor()
        with other.http:
            other.sign_in_by_password(person.username)
            other.get("/sign-in/step?by=sms")
            other.send("/sign-in/send", {"by": "sms"})
            of_sign_in = newest_code(other.http)
            assert other.send("/sign-in/step", {"by": "sms", "code": of_reset}).status_code == 403
        assert prove(visitor, "sms", of_sign_in).status_code == 403
        assert "Choose a new password" in prove(visitor, "sms", of_reset).text

    def test_tokens_of_before_a_proof_and_after_the_end_are_nothing(self, portal: Portal, visitor: Visitor):
        person, codes = somebody(portal)
        start(visitor, person.username)
        stolen = [visitor.http.cookies[RESET]]
        prove(visitor, "totp", person.code())
        stolen.append(visitor.http.cookies[RESET])
        prove(visitor, "recovery", codes[0])
        stolen.append(visitor.http.cookies[RESET])
        assert choose(visitor).url.path == "/password-reset/done"
        for token in stolen:
            thief = portal.visitor()
            with thief.http:
                thief.get("/password-reset")
                thief.http.cookies.set(RESET, token, domain="localhost.local")
                answer = thief.post("/password-reset/new", {"new": "stolen words", "again": "stolen words"})
                assert answer.status_code == 409
        assert works(portal, person.username, NEW)

    @pytest.mark.parametrize("what", ["disabled", "password", "sessions", "too-late"])
    def test_what_happens_meanwhile_ends_it(self, portal: Portal, visitor: Visitor, what: str):
        person, codes = somebody(portal)
        assert "Choose a new password" in both(visitor, person, codes).text
        with portal.bench.office() as office:
            if what == "disabled":
                people.set_disabled(office, person.username, disabled=True)
                people.set_disabled(office, person.username, disabled=False)
            elif what == "password":
                people.set_password(office, person.username, "set by the desk")
            elif what == "sessions":
                people.revoke_sessions(office, person.username)
            else:
                with office.database.write() as tx:
                    for row in tx.query(PasswordReset):
                        row.expires_at = now() - dt.timedelta(seconds=1)
        answer = visitor.post("/password-reset/new", {"new": NEW, "again": NEW})
        assert answer.status_code == 409
        assert not works(portal, person.username, NEW)

    def test_of_many_at_once_one_wins(self, portal: Portal, visitor: Visitor):
        person, codes = somebody(portal)
        both(visitor, person, codes)
        visitor.get("/password-reset/new")

        def set_new(number: int) -> int:
            word = f"words of number {number}"
            return visitor.post("/password-reset/new", {"new": word, "again": word}).status_code

        with concurrent.futures.ThreadPoolExecutor(6) as pool:
            answers = list(pool.map(set_new, range(6)))
        assert sorted(answers) == [303, *[409] * 5]
        assert works(portal, person.username, f"words of number {answers.index(303)}")

    def test_of_many_processes_at_once_one_wins(self, portal: Portal, visitor: Visitor):
        person, codes = somebody(portal)
        both(visitor, person, codes)
        visitor.get("/password-reset/new")
        hidden, kept = visitor.hidden(), "; ".join(f"{c.name}={c.value}" for c in visitor.http.cookies.jar)
        headers = {"host": urlsplit(portal.origin).netloc, "origin": portal.origin, "cookie": kept}
        with running(portal.bench.data) as one, running(portal.bench.data) as two:

            def set_new(number: int) -> int:
                word = f"words of number {number}"
                sent = {**hidden, "new": word, "again": word}
                server = (one, two, portal.server)[number % 3]
                return server.http.post("/password-reset/new", data=sent, headers=headers).status_code

            with concurrent.futures.ThreadPoolExecutor(6) as pool:
                answers = list(pool.map(set_new, range(6)))
        assert sorted(answers) == [303, *[409] * 5]
        assert works(portal, person.username, f"words of number {answers.index(303)}")

    def test_of_two_first_codes_at_once_one_counts(self, portal: Portal, visitor: Visitor):
        person, codes = somebody(portal)
        start(visitor, person.username)
        visitor.get("/password-reset/step")

        def show(code: str) -> str:
            answer = visitor.post("/password-reset/step", {"by": "recovery", "code": code})
            return answer.headers.get("location", str(answer.status_code))

        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            answers = list(pool.map(show, codes[:4]))
        assert answers.count("/password-reset/step") == 1, answers

    def test_policy_bars_what_it_does_not_take(self, portal: Portal, visitor: Visitor):
        person, codes = somebody(portal)
        before = (portal.bench.data / "policy.toml").read_text()
        (portal.bench.data / "policy.toml").write_text('[[rule]]\nname = "app"\naal = 2\nfallback = ["totp"]\n')
        try:
            start(visitor, person.username)
            assert prove(visitor, "recovery", codes[0]).status_code == 403
            assert "There is no second way" in prove(visitor, "totp", person.code()).text
        finally:
            (portal.bench.data / "policy.toml").write_text(before)


def _plain(text: str) -> str:
    return re.sub(r"[0-9a-f]{64}|nonce=\"[^\"]*\"", "", text)
