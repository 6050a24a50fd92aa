"""What keeps others out of people's pages: headers, cookies, forms, hosts, redirects, names that are templates."""

from __future__ import annotations

import re

import pytest
from pytest_mock import MockerFixture

from tests.server.conftest import PASSWORD
from tests.server.portal.conftest import SESSION, Portal, Visitor
from tokenbridge.server.portal.visit import local_path

PUBLIC = ("/sign-in", "/first-day", "/signed-out")
OWN = (
    "/profile", "/profile/me", "/self-service", "/self-service/mfa", "/self-service/mfa/done", "/self-service/app",
    "/self-service/app/scan", "/self-service/app/remove", "/self-service/keys", "/self-service/keys/add",
    "/self-service/default-method", "/self-service/lost", "/self-service/lost/phone-key-card",
    "/self-service/recovery-codes", "/self-service/password", "/sessions", "/activity", "/reported", "/signed-in",
)  # fmt: skip


def cookies_of(answer) -> dict[str, str]:
    return {line.partition("=")[0]: line for line in answer.headers.get_list("set-cookie")}


class TestHeaders:
    def test_every_page_is_strict(self, portal: Portal, visitor: Visitor):
        visitor.sign_in(portal.bench.person())
        for path in (
            *OWN,
            "/first-day",
            "/lost",
            "/lost/phone",
            "/lost/card/nothing-left",
            "/password-reset",
            "/no/such/page",
        ):
            answer = visitor.get(path)
            policy = answer.headers["content-security-policy"]
            nonce = re.search(r"script-src 'nonce-([A-Za-z0-9_-]{20,})'", policy)
            assert nonce, path
            assert f'nonce="{nonce[1]}"' in answer.text
            assert "unsafe" not in policy
            assert "default-src 'none'" in policy
            assert "frame-ancestors 'none'" in policy
            assert answer.headers["x-frame-options"] == "DENY"
            assert answer.headers["cache-control"] == "no-store"
            assert answer.headers.get_list("content-security-policy") == [policy]
            assert not re.search(r"<script(?![^>]*\bsrc=)|\sstyle=|\son[a-z]+=|javascript:", answer.text), path

    def test_a_nonce_is_used_once(self, visitor: Visitor):
        seen = {visitor.get("/sign-in").headers["content-security-policy"] for _ in range(5)}
        assert len(seen) == 5

    def test_the_api_keeps_its_own(self, portal: Portal):
        answer = portal.server.http.get("/api/session")
        assert answer.headers["content-security-policy"] == "default-src 'none'; frame-ancestors 'none'"
        assert answer.headers["referrer-policy"] == "no-referrer"
        assert answer.json()["error"]["code"] == "no-session"
        assert portal.server.http.get("/api/nothing").json()["error"]["code"] == "not-found"

    def test_pages_are_not_in_the_api_description(self, portal: Portal):
        paths = portal.server.http.get("/openapi.json").json()["paths"]
        assert all(path.startswith(("/api/", "/healthz")) for path in paths)

    def test_static_files_are_kept_for_good_and_small(self, visitor: Visitor):
        page = visitor.get("/sign-in")
        found = set(re.findall(r'(?:href|src)="(/static/[^"]+)"', page.text))
        assert len(found) == 4
        weight = len(page.content)
        for address in found:
            answer = visitor.http.get(address, headers={"accept-encoding": "identity"})
            assert answer.headers["cache-control"] == "public, max-age=31536000, immutable"
            assert answer.headers["x-content-type-options"] == "nosniff"
            assert visitor.http.get(address).headers["content-encoding"] == "gzip"
            assert not re.search(rb"url\(\s*[\"']?(https?:)?//", answer.content)
            weight += len(answer.content)
        assert weight + 60_000 < 500_000, "with the script that portal.js imports"
        assert visitor.http.get("/static/0000000000000000/portal.js").status_code == 404
        assert visitor.http.get(f"{next(iter(found))}/../../../../keys.json").status_code == 404


class TestCookies:
    def test_they_are_bound_to_the_host_and_out_of_reach(self, portal: Portal, visitor: Visitor):
        person = portal.bench.person()
        first = visitor.get("/sign-in")
        step = visitor.post("/sign-in", {"username": person.username, "password": PASSWORD})
        visitor.get("/sign-in/step?by=totp")
        last = visitor.post("/sign-in/step", {"code": person.code()})
        lines = [line for answer in (first, step, last) for line in cookies_of(answer).values()]
        assert any(line.startswith(SESSION) for line in lines)
        for line in lines:
            assert line.startswith("__Host-"), line
            assert {"Secure", "HttpOnly", "Path=/", "SameSite=lax"} <= set(line.split("; ")), line
            assert "Domain" not in line

    def test_signing_in_makes_a_new_session_whatever_there_was(self, portal: Portal, visitor: Visitor):
        visitor.http.cookies.set(SESSION, "planted-by-somebody-else")
        person = portal.bench.person()
        visitor.get("/sign-in")
        visitor.send("/sign-in", {"username": person.username, "password": PASSWORD})
        visitor.get("/sign-in/step?by=totp")
        answer = visitor.post("/sign-in/step", {"code": person.code()})
        token = cookies_of(answer)[SESSION].partition("=")[2].partition(";")[0]
        assert "planted" not in token
        assert len(token) > 40
        planted = portal.visitor()
        with planted.http:
            planted.http.cookies.set(SESSION, "planted-by-somebody-else")
            assert planted.get("/profile").url.path == "/sign-in"

    def test_a_second_sign_in_ends_the_first_session(self, portal: Portal, visitor: Visitor):
        name = portal.newcomer()
        visitor.sign_in_by_password(name)
        before = visitor.http.cookies[SESSION]
        visitor.get("/sign-in?next=/self-service")
        visitor.send("/sign-in", {"username": name, "password": PASSWORD})
        assert visitor.http.cookies[SESSION] != before
        assert portal.server.session(before).status_code == 401
        assert portal.server.session(visitor.http.cookies[SESSION]).status_code == 200


class TestForms:
    @pytest.mark.parametrize(
        ("headers", "status"),
        [
            ({}, 303),
            ({"origin": "https://evil.example"}, 403),
            ({"origin": "null"}, 403),
            ({"origin": ""}, 403),
            ({"sec-fetch-site": "cross-site"}, 403),
            ({"sec-fetch-site": "same-site"}, 403),
        ],
    )
    def test_only_from_pages_of_ours(self, portal: Portal, visitor: Visitor, headers: dict[str, str], status: int):
        visitor.sign_in_by_password(portal.newcomer(mfa=False))
        visitor.get("/self-service/mfa")
        assert visitor.post("/self-service/mfa", **headers).status_code == status
        assert ("MFA enabled" in visitor.get("/self-service/mfa/done").text) is (status == 303)

    def test_not_without_the_origin(self, portal: Portal, visitor: Visitor):
        visitor.get("/sign-in")
        answer = visitor.http.post("/sign-in", data={**visitor.hidden(), "username": "a", "password": "b"})
        assert answer.status_code == 403
        assert "another site" in answer.text

    def test_not_without_a_token_or_with_a_forged_one(self, portal: Portal, visitor: Visitor):
        visitor.sign_in_by_password(portal.newcomer(mfa=False))
        for token in ("", "0" * 64, "x", "\u00e9"):
            answer = visitor.post("/self-service/mfa", {"form_token": token})
            assert (answer.status_code, "form-stale" in answer.text) == (403, True)

    def test_not_with_somebody_elses_token(self, portal: Portal, visitor: Visitor):
        thief = portal.visitor()
        with thief.http:
            thief.sign_in_by_password(portal.newcomer(mfa=False))
            thief.get("/self-service/mfa")
            stolen = thief.hidden()
        visitor.sign_in_by_password(portal.newcomer(mfa=False))
        assert visitor.post("/self-service/mfa", stolen).status_code == 403

    def test_not_with_the_token_of_before_the_sign_in(self, portal: Portal, visitor: Visitor):
        visitor.get("/sign-in")
        before = visitor.hidden()
        visitor.sign_in_by_password(portal.newcomer(mfa=False))
        assert visitor.post("/self-service/mfa", before).status_code == 403

    def test_programs_get_no_pages(self, portal: Portal):
        answer = portal.server.http.get("/profile")
        assert (answer.status_code, answer.json()["error"]["code"]) == (401, "no-session")
        assert portal.server.http.get("/nowhere").json()["error"]["code"] == "not-found"

    def test_nobody_is_signed_in_by_somebody_elses_form(self, portal: Portal, visitor: Visitor):
        other = portal.visitor()
        with other.http:
            other.get("/sign-in")
            theirs = other.hidden()
        fields = {**theirs, "username": portal.newcomer(), "password": PASSWORD}
        headers = {"origin": portal.origin, "sec-fetch-site": "same-origin"}
        assert visitor.http.post("/sign-in", data=fields, headers=headers).status_code == 403, "without a cookie"
        visitor.get("/sign-in")
        answer = visitor.post("/sign-in", fields)
        assert (answer.status_code, SESSION in cookies_of(answer)) == (403, False), "with one's own"

    @pytest.mark.parametrize(
        ("content", "kind", "status"),
        [
            (b"{}", "application/json", 400),
            (b"form_token=a&form_token=b", "application/x-www-form-urlencoded", 400),
            (b"a=%ff", "application/x-www-form-urlencoded", 400),
            (b"&".join(b"f%d=1" % n for n in range(40)), "application/x-www-form-urlencoded", 400),
            (b"a=" + b"x" * 20_000, "application/x-www-form-urlencoded", 413),
            (b"username=a", "multipart/form-data; boundary=x", 400),
        ],
    )
    def test_bodies_are_bounded(self, visitor: Visitor, content: bytes, kind: str, status: int):
        visitor.get("/sign-in")
        headers = {"origin": visitor.origin, "content-type": kind}
        answer = visitor.http.post("/sign-in", content=content, headers=headers)
        assert answer.status_code == status
        assert "<h1>" in answer.text


class TestAddresses:
    @pytest.mark.parametrize("host", ["evil.example", "localhost", "localhost:1", ""])
    def test_only_this_host(self, portal: Portal, host: str):
        answer = portal.server.http.get("/sign-in", headers={"host": host})
        assert answer.status_code in (400, 403)
        assert "evil.example" not in answer.text

    @pytest.mark.parametrize(
        "onward",
        ["//evil.example", "https://evil.example", "/\\evil.example", "/%2f/evil.example", "/ok/../..//evil.example",
         "/\t/evil.example", "javascript:alert(1)", "/sessions?x=1", "/" + "a" * 200, "/a\r\nset-cookie: x=1"],
    )  # fmt: skip
    def test_nobody_is_sent_away(self, portal: Portal, visitor: Visitor, onward: str):
        assert local_path(onward) == ""
        name = portal.newcomer(mfa=False)
        visitor.get("/sign-in")
        answer = visitor.post("/sign-in", {"username": name, "password": PASSWORD, "next": onward})
        assert answer.headers["location"] == "/signed-in"

    def test_back_to_where_one_was(self, portal: Portal, visitor: Visitor):
        assert visitor.get("/sessions").url.query == b"next=/sessions"
        answer = visitor.send("/sign-in", {"username": portal.newcomer(mfa=False), "password": PASSWORD})
        assert answer.url.path == "/sessions"

    def test_faults_are_pages_with_code_and_next_step(self, portal: Portal, visitor: Visitor):
        for method, path, status in (("GET", "/nowhere", 404), ("DELETE", "/sign-in", 405), ("POST", "/profile", 405)):
            answer = visitor.http.request(method, path)
            assert answer.status_code == status, path
            assert "Error code:" in answer.text
            assert answer.headers["x-request-id"] in answer.text

    def test_what_nobody_foresaw_is_a_page_without_its_cause(self, visitor: Visitor, mocker: MockerFixture):
        mocker.patch("tokenbridge.server.portal.profile_pages.see_other", side_effect=RuntimeError("the cause"))
        answer = visitor.http.get("/")
        assert answer.status_code == 500
        assert "Error code: internal" in answer.text
        assert answer.headers["x-request-id"] in answer.text
        assert "the cause" not in answer.text
        assert "script-src 'nonce-" in answer.headers["content-security-policy"]


class TestNames:
    def test_names_are_never_templates_or_markup(self, portal: Portal, visitor: Visitor):
        evil = "{{7*7}}<script>alert(1)</script>{% raw %}'\"&"
        visitor.sign_in_by_password(portal.newcomer(mfa=False, display_name=evil))
        for path in ("/profile", "/profile/me", "/self-service"):
            text = visitor.get(path).text
            assert "{{7*7}}&lt;script&gt;" in text
            assert "<script>alert" not in text

    def test_what_was_typed_comes_back_as_text(self, visitor: Visitor):
        visitor.get("/sign-in")
        answer = visitor.send("/sign-in", {"username": '"><script>x</script>{{7*7}}', "password": "wrong password"})
        assert "<script>x" not in answer.text
        assert "{{7*7}}" in answer.text


class TestEnumeration:
    def test_a_name_that_exists_and_one_that_does_not_look_the_same(self, portal: Portal):
        texts = []
        for name in (portal.newcomer(), "nobody-of-this-name"):
            visitor = portal.visitor()
            with visitor.http:
                answer = visitor.sign_in_by_password(name, "wrong password")
            assert answer.status_code == 403
            texts.append(_plain(answer.text.replace(name, "NAME")))
        assert texts[0] == texts[1]

    def test_enrolment_codes_as_well(self, portal: Portal):
        texts = []
        for name in (portal.newcomer(), "nobody-of-that-name"):
            visitor = portal.visitor()
            with visitor.http:
                visitor.get("/first-day")
                fields = {"username": name, "code": "0000-0000-0000-0000-0000-0000", "way": "app"}
                answer = visitor.send("/first-day", fields)
            assert answer.status_code == 403
            texts.append(_plain(answer.text.replace(name, "NAME")))
        assert texts[0] == texts[1]

    def test_own_pages_are_for_members_only(self, visitor: Visitor):
        for path in OWN:
            assert visitor.http.get(path).headers["location"].startswith("/sign-in?next="), path

    def test_events_and_sessions_of_others_are_not_there(self, portal: Portal, visitor: Visitor):
        other = portal.visitor()
        with other.http:
            other.sign_in_by_password(portal.newcomer(mfa=False))
            number = re.search(r"/activity/(\d+)", other.get("/activity").text)
            assert number is not None
            visitor.sign_in_by_password(portal.newcomer(mfa=False))
            assert visitor.get(f"/activity/{number[1]}").status_code == 404
            visitor.get("/sessions")
            for session in range(1, 40):
                visitor.post(f"/sessions/{session}/end")
            assert other.get("/sessions").status_code == 200


def _plain(text: str) -> str:
    return re.sub(r"[0-9a-f]{64}|nonce=\"[^\"]*\"", "", text)
