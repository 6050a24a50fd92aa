"""Who gets to the pages that change what holds on the server."""

from __future__ import annotations

from tests.server.portal.conftest import Portal, Visitor
from tests.server.portal.test_admin import age_sessions, granted
from tokenbridge.server.operator import admins
from tokenbridge.server.store.roles import Role

PAGES = (
    *("/admin/trust", "/admin/trust/add", "/admin/trust/1", "/admin/trust/1/remove", "/admin/models"),
    *("/admin/policy", "/admin/policy/edit", "/admin/policy/editions/1"),
)
FORMS = ("/admin/trust/1", "/admin/trust/1/remove")


class TestWhoGetsThere:
    def test_only_administrators_of_the_whole_site(self, portal: Portal, visitor: Visitor):
        for role, organisation in (
            (None, ""),
            (Role.HELPDESK, ""),
            (Role.HELPDESK, "Ward"),
            (Role.ADMINISTRATOR, "Ward"),
        ):
            person = granted(portal, role, organisation) if role else portal.bench.person(enrol=False)
            visitor.http.cookies.clear()
            visitor.sign_in(person)
            for path in PAGES:
                assert visitor.get(path).status_code == 404, (role, path)
            visitor.get("/profile")
            for path in FORMS:
                assert visitor.post(path, {"go": "yes"}).status_code == 404, (role, path)

    def test_a_password_alone_is_not_enough(self, portal: Portal, visitor: Visitor):
        name = portal.newcomer()
        with portal.bench.office() as office:
            admins.grant(office, name, Role.ADMINISTRATOR)
        visitor.sign_in_by_password(name)
        for path in PAGES:
            assert visitor.get(path).status_code == 403, path

    def test_changes_need_a_new_sign_in(self, portal: Portal, visitor: Visitor):
        person = granted(portal, Role.ADMINISTRATOR)
        visitor.sign_in(person)
        age_sessions(portal, person.username)
        visitor.get("/admin/trust")
        for path in FORMS:
            assert visitor.post(path, {"form_token": "x"}).status_code == 403
        for path in ("/admin/trust/add", "/admin/trust/1", "/admin/trust/1/remove", "/admin/policy/edit"):
            assert f'href="/sign-in?next={path}"' in visitor.get(path).text
