"""Forms with files: who may send them, how large they may be, and files that want to do harm."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import threading

import httpx
import pytest

from tests.server.conftest import now
from tests.server.portal.conftest import Portal, Visitor
from tests.server.portal.test_admin import age_sessions, facts, granted, helper, local_admin, site_admin, trail  # noqa: F401
from tokenbridge.server import middleware
from tokenbridge.server.portal.upload import ROOMS
from tokenbridge.server.store import accounts, code_sheets
from tokenbridge.server.store.roles import Role

OF_SITE = ("/admin/trust/add", "/admin/models", "/admin/policy/edit")


def mark() -> str:
    return f"up{int(now().timestamp() * 1e6)}"


def there(portal: Portal, username: str) -> bool:
    with portal.bench.office() as office, office.database.read() as tx:
        return accounts.find(tx, username) is not None


def imported(visitor: Visitor, data: bytes, **fields: str):
    visitor.get("/admin/import")
    return visitor.upload("/admin/import", {"file": data}, fields)


class TestWhoMaySend:
    @pytest.mark.parametrize("path", sorted(ROOMS))
    def test_nobody_without_a_role_and_nothing_is_read(self, portal: Portal, visitor: Visitor, path: str):
        visitor.sign_in(portal.bench.person(enrol=False))
        assert visitor.upload(path, {"file": b"x" * (3 << 20)}).status_code == 404
        assert visitor.upload(path, {}).status_code == 404

    @pytest.mark.parametrize("path", sorted(ROOMS))
    def test_the_help_desk_may_not(self, helper: Visitor, path: str):  # noqa: F811
        assert helper.upload(path, {"file": b"x"}).status_code == 404

    @pytest.mark.parametrize("path", OF_SITE)
    def test_an_administrator_of_an_organisation_may_not_govern(self, local_admin: Visitor, path: str):  # noqa: F811
        local_admin.get("/admin/accounts")
        unknown = local_admin.http.get("/admin/no-such-page").text
        refused = local_admin.upload(path, {"file": b"x"})
        assert refused.status_code == 404
        assert "Page not found" in refused.text
        assert "Page not found" in unknown

    def test_who_is_not_signed_in_is_sent_to_do_so(self, visitor: Visitor):
        visitor.get("/sign-in")
        for path in ROOMS:
            answer = visitor.upload(path, {"file": b"x" * 100_000})
            assert (answer.status_code, answer.headers["location"].partition("?")[0]) == (303, "/sign-in")

    @pytest.mark.parametrize("path", sorted(ROOMS))
    def test_an_old_session_has_to_sign_in_again(self, portal: Portal, visitor: Visitor, path: str):
        person = granted(portal, Role.ADMINISTRATOR)
        visitor.sign_in(person)
        visitor.get("/admin/accounts")
        age_sessions(portal, person.username)
        answer = visitor.upload(path, {"file": b"x"})
        assert answer.status_code == 403
        assert f'href="/sign-in?next={path}"' in answer.text

    @pytest.mark.parametrize("path", sorted(ROOMS))
    def test_the_token_and_the_origin_are_asked(self, site_admin: Visitor, path: str):  # noqa: F811
        site_admin.get("/admin/accounts")
        assert site_admin.upload(path, {"file": b"x"}, {"form_token": "x"}).status_code == 403
        origin, site_admin.origin = site_admin.origin, "https://evil.example"
        assert site_admin.upload(path, {"file": b"x"}).status_code == 403
        site_admin.origin = origin

    def test_there_is_a_limit(self, portal: Portal, site_admin: Visitor):  # noqa: F811
        site_admin.get("/admin/accounts")
        assert 429 in {site_admin.upload("/admin/models", {}).status_code for _ in range(70)}


class TestBounds:
    @pytest.mark.parametrize("path", ["/admin/trust/add", "/admin/policy/edit", "/admin/import"])
    def test_a_body_that_is_too_large(self, site_admin: Visitor, path: str):  # noqa: F811
        site_admin.get("/admin/accounts")
        answer = site_admin.upload(path, {"file": b"x" * (ROOMS[path].most + 1)})
        assert answer.status_code == 413
        assert "Send at most" in answer.text

    def test_a_body_without_a_length_is_bounded_as_it_comes(
        self,
        site_admin: Visitor,  # noqa: F811
        monkeypatch: pytest.MonkeyPatch,
    ):
        monkeypatch.setattr(middleware, "MAX_SPILL", 1 << 20)
        site_admin.get("/admin/accounts")
        sent = 0

        def endless():
            nonlocal sent
            yield b'--b\r\nContent-Disposition: form-data; name="text"\r\n\r\n'
            while sent < 64 << 20:
                sent += 1 << 16
                yield b"x" * (1 << 16)

        headers = {"origin": site_admin.origin, "content-type": "multipart/form-data; boundary=b"}
        with contextlib.suppress(httpx.TransportError):  # the server may close before it has all been sent
            assert site_admin.http.post("/admin/policy/edit", content=endless(), headers=headers).status_code == 413
        assert sent < 64 << 20

    @pytest.mark.parametrize(
        ("kind", "body"),
        [
            ("multipart/form-data", b""),
            ("multipart/form-data; boundary=", b"x"),
            ("multipart/form-data; boundary=b", b"no boundary"),
            ("multipart/form-data; boundary=b", b"--b\r\n\r\n\r\n--b--"),
            (
                "multipart/form-data; boundary=b; charset=rot13",
                b'--b\r\nContent-Disposition: form-data; name="a"\r\n\r\nx\r\n--b--\r\n',
            ),
            (
                "multipart/form-data; boundary=b",
                b'--b\r\nContent-Disposition: form-data; name="a"\r\n\r\nx\r\n' * 40 + b"--b--",
            ),
            (
                "multipart/form-data; boundary=b",
                b'--b\r\nContent-Disposition: form-data; name="a"; filename="f"\r\n\r\nx\r\n' * 5 + b"--b--",
            ),
            ("multipart/form-data; boundary=b", b"--b\r\n" + b"X: " + b"y" * 100_000 + b"\r\n\r\nx\r\n--b--\r\n"),
            ("multipart/form-data; boundary=b", b"--b\r\n" + b"X: y\r\n" * 1000 + b"\r\nx\r\n--b--\r\n"),
            ("application/json", b"{}"),
            ("text/plain", b"x"),
            ("", b"x"),
        ],
    )
    def test_what_is_no_form_is_refused(self, site_admin: Visitor, kind: str, body: bytes):  # noqa: F811
        site_admin.get("/admin/accounts")
        headers = {"origin": site_admin.origin, "content-type": kind}
        assert site_admin.http.post("/admin/import", content=body, headers=headers).status_code in (400, 403)

    def test_a_field_or_a_file_twice_is_refused(self, site_admin: Visitor):  # noqa: F811
        site_admin.get("/admin/accounts")
        token = site_admin.hidden()["form_token"].encode()
        for part in (b'name="csv"', b'name="file"; filename="f"'):
            pieces = [
                b'form-data; name="form_token"\r\n\r\n' + token,
                *([b"form-data; " + part + b"\r\n\r\nusername"] * 2),
            ]
            body = b"".join(b"--b\r\nContent-Disposition: " + piece + b"\r\n" for piece in pieces) + b"--b--\r\n"
            headers = {"origin": site_admin.origin, "content-type": "multipart/form-data; boundary=b"}
            assert site_admin.http.post("/admin/import", content=body, headers=headers).status_code == 400


class TestImport:
    @pytest.mark.parametrize(
        ("data", "told"),
        [
            (b"", "neither a file nor text"),
            ("username,display_name\nx,Zo\xeb".encode("latin-1"), "not UTF-8: line 2"),
            (b"username\n" + b"x" * (1 << 20), "field larger than field limit"),
            (b"username\n" + b"x" * 5000, "longer than 1024 characters"),
            (b"username,display_name\nx,a\0b", "can&#39;t be printed"),
            (b"username,display_name\nx,a\x1b[2Jb", "can&#39;t be printed"),
            (b'username,display_name\nx,"open', "unexpected end of data"),
            (b'username,display_name\nx,"a"b', "expected after"),
            (b"username,display_name\nx," + b"n" * 300, "longer than 256 characters"),
            (b"username,colour\nx,red", "unknown columns colour"),
            (b"\xff\xfeu\0s\0e\0r\0", "not UTF-8"),
            (b"PK\x03\x04" + b"\0" * 100, "names the columns"),
            (b"username\n" + b"x\n" * 10_001, "more than 10000 lines"),
            (b"#" * ((2 << 20) + 1), "larger than 2 MiB"),
        ],
    )
    def test_a_file_that_can_not_be_taken(self, site_admin: Visitor, data: bytes, told: str):  # noqa: F811
        answer = imported(site_admin, data)
        assert answer.status_code == 400
        assert told in answer.text

    def test_byte_order_mark_line_ends_and_quotes_are_understood(self, portal: Portal, site_admin: Visitor):  # noqa: F811
        name = mark()
        data = f'\ufeff"username","display_name"\r\n{name},"O""Neil, Zoë"\r\n'.encode()
        assert "1 would be added" in imported(site_admin, data).text
        assert not there(portal, name)
        assert "1 added" in imported(site_admin, data, do="go").text
        with portal.bench.office() as office, office.database.read() as tx:
            assert accounts.get(tx, name).display_name == 'O"Neil, Zoë'

    def test_the_same_file_again_changes_nothing(self, portal: Portal, site_admin: Visitor):  # noqa: F811
        name = mark()
        data = f"username,email,groups\n{name},{name}@example.org,nurses; ward 7\n".encode()
        imported(site_admin, data, do="go")
        assert "0 added, 0 changed, 1 were up to date" in imported(site_admin, data, do="go").text
        assert [entry.event for entry in trail(portal, name)] == ["user-added"]

    def test_one_bad_line_stops_all_and_each_is_named(self, portal: Portal, site_admin: Visitor):  # noqa: F811
        name = mark()
        answer = imported(site_admin, f"username,nhs_uid\n{name},\n- -,\nfine{name},12\n".encode(), do="go")
        assert answer.status_code == 400
        assert "2 lines are wrong" in answer.text
        assert "line 3:" in answer.text
        assert "line 4: An NHS user id has exactly 12 digits" in answer.text
        assert not there(portal, name)

    def test_identifiers_may_move_within_a_file(self, portal: Portal, site_admin: Visitor):  # noqa: F811
        first, second = mark(), mark()
        imported(site_admin, f"username,email\n{first},a{first}@x.org\n{second},b{first}@x.org\n".encode(), do="go")
        data = f"username,email\n{second},c{first}@x.org\n{first},b{first}@x.org\n".encode()
        assert "0 added, 2 changed" in imported(site_admin, data, do="go").text
        taken = imported(site_admin, f"username,email\nnew{first},b{first}@x.org\n".encode())
        assert f"belongs to {first}" in taken.text

    def test_what_each_line_would_do_can_be_saved(self, site_admin: Visitor):  # noqa: F811
        name = mark()
        saved = imported(site_admin, f"username,groups\n{name},nurses\n".encode(), do="list")
        assert "attachment" in saved.headers["content-disposition"]
        rows = list(csv.DictReader(io.StringIO(saved.content.decode("utf-8-sig"))))
        assert rows == [{"line": "2", "username": name, "what": "added", "changes": "", "new_groups": "nurses"}]

    def test_a_file_and_text_are_one_too_many(self, site_admin: Visitor):  # noqa: F811
        assert "Give one of them" in imported(site_admin, b"username\nx", csv="username\ny").text

    def test_ten_thousand_people(self, portal: Portal, visitor: Visitor):
        # A role for an organisation: other tests count the accounts of the whole site.
        visitor.sign_in(granted(portal, Role.ADMINISTRATOR, "Crowd"))
        name = mark()
        data = "username,display_name,email\n" + "".join(f"{name}-{n},P {n},{name}-{n}@x.org\n" for n in range(10_000))
        answer = imported(visitor, data.encode(), do="go", codes="yes", days="7")
        portal.bench.sql("DELETE FROM accounts WHERE organisation = 'Crowd'")
        assert "10000 added" in answer.text


class TestCodes:
    def test_codes_are_saved_once_by_who_made_them(self, portal: Portal, site_admin: Visitor):  # noqa: F811
        name, other = mark(), portal.visitor()
        page = imported(
            site_admin, f"username,display_name\n{name},=cmd|'x'!A1\n".encode(), do="go", codes="yes", days="3"
        )
        site_admin.last = page
        sheet = site_admin.hidden()["sheet"]
        with other.http:
            other.sign_in(granted(portal, Role.ADMINISTRATOR))
            other.get("/admin/import")
            assert other.post("/admin/import/codes", {"sheet": sheet}).status_code == 409
        saved = site_admin.post("/admin/import/codes", {"sheet": sheet})
        (row,) = csv.DictReader(io.StringIO(saved.content.decode("utf-8-sig")))
        assert row["display_name"] == "'=cmd|'x'!A1"
        assert site_admin.post("/admin/import/codes", {"sheet": sheet}).status_code == 409
        begin = portal.visitor()
        with begin.http:
            begin.get("/first-day")
            begun = begin.send("/first-day", {"username": name, "code": row["enrolment_code"], "way": "app"})
            assert 'id="secret"' in begun.text
        added = trail(portal, name)[0]
        assert "code_until" in added.detail
        assert row["enrolment_code"] not in json.dumps(added.detail)

    def test_of_two_who_save_at_once_one_gets_them(self, site_admin: Visitor):  # noqa: F811
        site_admin.last = imported(site_admin, f"username\n{mark()}\n".encode(), do="go", codes="yes", days="1")
        found: list[int] = []
        sheet = site_admin.hidden()

        def save() -> None:
            answer = site_admin.http.post("/admin/import/codes", data=sheet, headers={"origin": site_admin.origin})
            found.append(answer.status_code)

        threads = [threading.Thread(target=save) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(found) == [200, 409, 409, 409]

    def test_they_are_nothing_to_a_thief_of_the_database_and_not_for_ever(self, portal: Portal, site_admin: Visitor):  # noqa: F811
        site_admin.last = imported(site_admin, f"username\n{mark()}\n".encode(), do="go", codes="yes", days="1")
        sheet = site_admin.hidden()["sheet"]
        (row,) = portal.bench.sql(f"SELECT content FROM code_sheets WHERE id = {int(sheet)}")
        assert b"enrolment_code" not in bytes(row[0])
        portal.bench.sql(f"UPDATE code_sheets SET expires_at = made_at WHERE id = {int(sheet)}")
        assert site_admin.post("/admin/import/codes", {"sheet": sheet}).status_code == 409
        with portal.bench.office() as office, office.database.write() as tx:
            code_sheets.forget_all(tx)

    @pytest.mark.parametrize("days", ["0", "15", "-1", "x", "", "²"])
    def test_days_have_bounds(self, portal: Portal, site_admin: Visitor, days: str):  # noqa: F811
        name = mark()
        answer = imported(site_admin, f"username\n{name}\n".encode(), do="go", codes="yes", days=days)
        assert answer.status_code == 400
        assert not there(portal, name)

    @pytest.mark.parametrize("sheet", ["", "x", "0", "999999999", "-1", "²"])
    def test_a_sheet_that_is_not_there(self, site_admin: Visitor, sheet: str):  # noqa: F811
        site_admin.get("/admin/import")
        assert site_admin.post("/admin/import/codes", {"sheet": sheet}).status_code in (400, 409)
