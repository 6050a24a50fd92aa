"""Setting things up and taking them back: what the services behind the pages accept, refuse and write down."""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor

import pyotp

from tests.server.conftest import PASSWORD, Bench, now, serving
from tests.server.portal.conftest import Portal, Visitor
from tokenbridge.rig.ports import free_port
from tokenbridge.server import settings
from tokenbridge.server.operator import people, security_keys
from tokenbridge.server.store import audit


def events(portal: Portal, username: str) -> list[str]:
    with portal.bench.office() as office, office.database.read() as tx:
        return [entry.event for entry in audit.entries(tx, account=username)]


def app_of(text: str) -> pyotp.TOTP:
    found = re.search(r'id="secret">([A-Z2-7 ]+)<', text)
    assert found is not None, text
    return pyotp.TOTP(found[1].replace(" ", ""))


def with_app(portal: Portal, visitor: Visitor, name: str) -> pyotp.TOTP:
    """Set an app up in a session by password."""
    visitor.sign_in_by_password(name)
    app = app_of(visitor.get("/self-service/app/scan").text)
    done = visitor.send("/self-service/app/scan", {"code": app.at(now())})
    assert done.text.count("<li>") > 10
    return app


class TestAuthenticator:
    def test_a_code_of_the_set_up_counts_once(self, portal: Portal, visitor: Visitor):
        name = portal.newcomer()
        app = with_app(portal, visitor, name)
        assert "method-added" in events(portal, name)
        spent = app.at(now())
        other = portal.visitor()
        with other.http:
            assert other.sign_in_by_password(name).url.path == "/sign-in/step"
            other.get("/sign-in/step?by=totp")
            assert other.send("/sign-in/step", {"code": spent}).status_code == 403

    def test_a_set_up_is_its_owners(self, portal: Portal, visitor: Visitor):
        thief = portal.visitor()
        with thief.http:
            thief.sign_in_by_password(portal.newcomer())
            app = app_of(thief.get("/self-service/app/scan").text)
        victim = portal.newcomer()
        visitor.sign_in_by_password(victim)
        mine = app_of(visitor.get("/self-service/app/scan").text)
        answer = visitor.post("/self-service/app/scan", {"code": app.at(now())})
        assert answer.status_code == 403
        assert app_of(answer.text).secret == mine.secret, "the page goes on with the same set-up"
        assert "method-added" not in events(portal, victim)

    def test_what_another_session_began_is_neither_shown_nor_confirmed(self, portal: Portal, visitor: Visitor):
        name = portal.newcomer()
        visitor.sign_in_by_password(name)
        app = app_of(visitor.get("/self-service/app/scan").text)
        other = portal.visitor()
        with other.http:
            other.sign_in_by_password(name)
            other.get("/self-service/app")
            for code in ("000000", app.at(now())):
                answer = other.post("/self-service/app/scan", {"code": code})
                assert answer.status_code == 409
                assert 'id="secret"' not in answer.text
        assert "recovery codes" in visitor.send("/self-service/app/scan", {"code": app.at(now())}).text

    def test_loading_the_page_anew_goes_on_with_what_was_begun(self, portal: Portal, visitor: Visitor):
        name = portal.newcomer()
        visitor.sign_in_by_password(name)
        secrets = {app_of(visitor.get("/self-service/app/scan").text).secret for _ in range(3)}
        assert len(secrets) == 1
        assert events(portal, name).count("method-begun") == 1

    def test_five_wrong_codes_end_a_set_up(self, portal: Portal, visitor: Visitor):
        visitor.sign_in_by_password(portal.newcomer())
        app = app_of(visitor.get("/self-service/app/scan").text)
        wrong = next(code for code in ("000000", "111111") if not app.verify(code, for_time=now(), valid_window=3))
        answers = [visitor.post("/self-service/app/scan", {"code": wrong}) for _ in range(5)]
        assert ['id="secret"' in answer.text for answer in answers] == [True] * 4 + [False]
        assert visitor.post("/self-service/app/scan", {"code": app.at(now())}).status_code == 409

    def test_an_enrolment_code_is_used_up(self, portal: Portal, visitor: Visitor):
        name = portal.newcomer()
        with portal.bench.office() as office:
            code = security_keys.new_enrolment_code(office, name, 24).code
        visitor.get("/first-day")
        page = visitor.send("/first-day", {"username": name, "code": code, "way": "app"})
        app = app_of(page.text)
        assert code not in str(dict(visitor.http.cookies)), "the cookie is encrypted"
        wrong = visitor.post("/first-day/app", {"code": "000000"})
        assert wrong.status_code == 403
        assert "recovery codes" in visitor.send("/first-day/app", {"code": app.at(now())}).text
        visitor.get("/first-day")
        assert visitor.post("/first-day/app", {"code": app.at(now())}).status_code == 409
        assert visitor.post("/first-day", {"username": name, "code": code, "way": "app"}).status_code == 403

    def test_what_was_begun_by_code_is_no_set_up_of_a_session(self, portal: Portal, visitor: Visitor):
        name = portal.newcomer()
        with portal.bench.office() as office:
            code = security_keys.new_enrolment_code(office, name, 24).code
        visitor.get("/first-day")
        app = app_of(visitor.send("/first-day", {"username": name, "code": code, "way": "app"}).text)
        other = portal.visitor()
        with other.http:
            other.sign_in_by_password(name)
            other.get("/self-service/app")
            answer = other.post("/self-service/app/scan", {"code": app.at(now())})
            assert answer.status_code == 409
            assert 'id="secret"' not in answer.text
        assert "recovery codes" in visitor.send("/first-day/app", {"code": app.at(now())}).text


class TestStepUp:
    def test_a_session_by_password_changes_nothing_once_there_is_more(self, portal: Portal, visitor: Visitor):
        name = portal.newcomer()
        with_app(portal, visitor, name)
        for path in (
            "/self-service/app/scan",
            "/self-service/app/remove",
            "/self-service/recovery-codes",
            "/self-service/password",
            "/self-service/keys/add",
            "/self-service/phone/add",
            "/self-service/mfa",
        ):
            answer = visitor.get(path)
            assert answer.status_code == 403, path
            assert "Sign in again for this" in answer.text
            assert f'href="/sign-in?next={path}"' in answer.text
        visitor.get("/self-service")
        for path in ("/self-service/app/remove", "/self-service/recovery-codes", "/self-service/mfa"):
            assert visitor.post(path, {"last": "yes"}).status_code == 403, path
        fields = {"current": PASSWORD, "new": "another good password", "again": "another good password"}
        assert visitor.post("/self-service/password", fields).status_code == 403
        assert "step-up-wanted" in events(portal, name)
        assert "method-removed" not in events(portal, name)

    def test_removing_the_last_factor_is_asked_twice(self, portal: Portal, visitor: Visitor):
        person = portal.bench.person(enrol=False)
        visitor.sign_in(person)
        visitor.get("/self-service/app/remove")
        assert visitor.post("/self-service/app/remove").status_code == 409
        assert visitor.post("/self-service/app/remove", {"last": "yes"}).headers["location"].endswith("app-removed")
        assert events(portal, person.username)[-1] == "method-removed"


class TestPassword:
    def test_other_sessions_end_and_the_old_one_is_wrong(self, portal: Portal, visitor: Visitor):
        person, new = portal.bench.person(enrol=False), "another good password"
        visitor.sign_in(person)
        session = portal.server.begin()
        assert portal.server.password(session, person.username).status_code == 200
        api = portal.server.code(session, person.code(1)).json()["session"]["token"]
        visitor.get("/self-service/password")
        for fields, status in (
            ({"current": "wrong password", "new": new, "again": new}, 403),
            ({"current": PASSWORD, "new": new, "again": "something else"}, 400),
            ({"current": PASSWORD, "new": "short", "again": "short"}, 400),
            ({"current": PASSWORD, "new": PASSWORD, "again": PASSWORD}, 400),
            ({"current": "", "new": new, "again": new}, 400),
        ):
            assert visitor.post("/self-service/password", fields).status_code == status, fields
        assert portal.server.session(api).status_code == 200
        good = {"current": PASSWORD, "new": new, "again": new}
        assert visitor.post("/self-service/password", good).status_code == 303
        assert portal.server.session(api).status_code == 401
        assert portal.server.password(portal.server.begin(), person.username, PASSWORD).status_code == 403
        assert portal.server.password(portal.server.begin(), person.username, new).status_code == 200

    def test_guessing_is_limited(self, portal: Portal, visitor: Visitor):
        name = portal.newcomer()
        visitor.sign_in_by_password(name)
        visitor.get("/self-service/password")
        fields = {"new": "another good password", "again": "another good password"}
        seen = {
            visitor.post("/self-service/password", {"current": f"guess {n}", **fields}).status_code for n in range(24)
        }
        assert seen == {403, 429}


class TestMfa:
    def test_enabled_once(self, portal: Portal, visitor: Visitor):
        name = portal.newcomer(mfa=False)
        visitor.sign_in_by_password(name)
        visitor.get("/self-service/mfa")
        page = visitor.send("/self-service/mfa")
        assert f"success: MFA enabled successfully for {name}<" in page.text
        visitor.get("/self-service/mfa")
        visitor.send("/self-service/mfa")
        assert events(portal, name).count("mfa-enabled") == 1

    def test_new_accounts_have_it(self, portal: Portal, visitor: Visitor):
        assert visitor.sign_in_by_password(portal.newcomer()).url.path == "/self-service/app"


class TestReport:
    def test_it_is_on_record_and_takes_sessions_and_codes_back(self, portal: Portal, visitor: Visitor):
        name = portal.newcomer(mfa=False)
        other = portal.visitor()
        with other.http:
            other.sign_in_by_password(name)
            visitor.sign_in_by_password(name)
            with portal.bench.office() as office:
                code = security_keys.new_enrolment_code(office, name, 24).code
            number = re.findall(r'href="/activity/(\d+)"', visitor.get("/activity").text)[0]
            visitor.get(f"/activity/{number}")
            assert visitor.send(f"/activity/{number}").url.path == "/reported"
            assert other.get("/profile").url.path == "/sign-in"
        assert events(portal, name)[-1] == "reported"
        visitor.get("/first-day")
        assert visitor.post("/first-day", {"username": name, "code": code, "way": "app"}).status_code == 403


def test_a_disabled_account_is_out_at_once(portal: Portal, visitor: Visitor):
    name = portal.newcomer(mfa=False)
    visitor.sign_in_by_password(name)
    with portal.bench.office() as office:
        people.set_disabled(office, name, disabled=True)
    assert visitor.get("/profile").url.path == "/sign-in"


def test_a_password_alone_is_not_enough_elsewhere(portal: Portal):
    answer = portal.server.password(portal.server.begin("cli"), portal.newcomer())
    assert answer.json()["decision"] == "deny"


def test_of_two_who_use_one_enrolment_code_one_wins(portal: Portal, visitor: Visitor):
    name = portal.newcomer()
    with portal.bench.office() as office:
        code = security_keys.new_enrolment_code(office, name, 24).code
    visitor.get("/first-day")
    app = app_of(visitor.send("/first-day", {"username": name, "code": code, "way": "app"}).text)
    typed = app.at(now())
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda _: visitor.post("/first-day/app", {"code": typed}).status_code, range(4)))
    assert sorted(answers) == [200, 403, 403, 403]
    assert events(portal, name).count("method-added") == 1


def test_an_address_without_a_name_has_no_keys(fresh: Bench):
    port = free_port()
    origin = f"https://127.0.0.1:{port}"
    with fresh.office() as office:
        settings.write(settings.changed(office.settings, origin=origin))
    person = fresh.person(enrol=False)
    with serving(fresh.data, port=port) as server:
        visitor = Portal(bench=fresh, server=server, origin=origin).visitor()
        with visitor.http:
            assert "security key" not in visitor.get("/sign-in").text
            visitor.sign_in(person)
            assert "Security keys" not in visitor.get("/self-service").text
            assert visitor.get("/self-service/keys").status_code == 409
