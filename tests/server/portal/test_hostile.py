"""Whatever is typed, posted or kept in cookies, the portal answers with a page and never with a fault of its own."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator

import pytest

from tests.server.portal.conftest import Portal, Visitor
from tests.server.portal.test_admin import granted
from tokenbridge.server import portal as package
from tokenbridge.server.operator import people
from tokenbridge.server.portal.upload import ROOMS
from tokenbridge.server.store.roles import Role

TEXTS = (
    "",
    "\0",
    "a\0b",
    "\ud7ff\U0010ffff",
    "A" * 5000,
    "../../etc",
    "{{7*7}}",
    "<script>",
    "\r\nx: y",
    "%00",
    "-1",
    "9" * 30,
    "\u202e",
)
CREDENTIALS = (
    "[]",
    "{}",
    '{"id":1}',
    '{"id":"a","rawId":"a","type":"public-key","response":{}}',
    '{"response":[]}',
    "[" * 5000,
    '{"a":NaN}',
    "1e999",
)
FIELDS = (
    *("username", "password", "code", "credential", "name", "registration"),
    *("sign_in", "way", "current", "new", "again", "next", "last", "number"),
    *("method", "codes", "app", "report"),
)
OF_ADMINISTRATORS = ("csv", "do", "days", "sheet", "pem", "crl_urls", "seen", "confirm", "text", "go")
PARTS = {"key_id": "1", "phone_id": "1", "session_id": "1", "number": "1", "digest": "x", "name:path": "y"}
PARTS |= {"account_id": "2147483647", "action": "disable", "what": "phone-key"}
COOKIES = ("session", "visit", "sign-in", "first-day", "reset")


def routes(method: str) -> Iterator[str]:
    """The addresses of all pages, with something in the place of what varies."""
    for module in pkgutil.iter_modules(package.__path__):
        router = getattr(importlib.import_module(f"{package.__name__}.{module.name}"), "router", None)
        for route in router.routes if router is not None else ():
            if method in route.methods and route.path != "/sign-out":
                address = route.path
                for name, value in PARTS.items():
                    address = address.replace(f"{{{name}}}", value)
                yield address


def enter(portal: Portal, visitor: Visitor) -> None:
    """Be signed in, whatever was done before."""
    if visitor.get("/profile").url.path != "/profile":
        visitor.http.cookies.clear()
        visitor.sign_in(portal.bench.person())


@pytest.mark.parametrize("address", sorted(routes("POST")))
def test_forms(portal: Portal, visitor: Visitor, address: str):
    for text in TEXTS:
        enter(portal, visitor)
        answer = visitor.post(address, {**dict.fromkeys(FIELDS, text), "by": "totp"})
        assert answer.status_code < 500, text[:20]
    for credential in CREDENTIALS:
        enter(portal, visitor)
        answer = visitor.post(address, {"credential": credential, "registration": "x", "sign_in": "x"})
        assert answer.status_code < 500, credential[:20]


@pytest.mark.parametrize("address", sorted(path for path in routes("POST") if path.startswith("/admin")))
def test_forms_of_administrators(portal: Portal, visitor: Visitor, address: str):
    for text in TEXTS:
        if visitor.get("/admin/accounts").status_code != 200 or "Sign out" not in visitor.last.text:
            visitor.sign_in(granted(portal, Role.ADMINISTRATOR))
            visitor.get("/admin/accounts")
        answer = visitor.post(address, dict.fromkeys((*FIELDS[:5], *OF_ADMINISTRATORS), text))
        assert answer.status_code < 500, text[:20]
        if address in ROOMS:
            files = dict.fromkeys(("file", "certificate"), text.encode("utf-8", "surrogatepass"))
            answer = visitor.upload(address, files, dict.fromkeys(OF_ADMINISTRATORS[2:], text.replace("\ud7ff", "")))
            assert answer.status_code < 500, text[:20]


def test_addresses_of_administrators(portal: Portal, visitor: Visitor):
    visitor.sign_in(granted(portal, Role.ADMINISTRATOR))
    for address in (path for path in routes("GET") if path.startswith("/admin")):
        for text in TEXTS:
            answer = visitor.http.get(address, params=dict.fromkeys(("q", "page", "days", "done", "user"), text))
            assert answer.status_code < 500, (address, text[:20])


def test_addresses(portal: Portal, visitor: Visitor):
    enter(portal, visitor)
    for address in routes("GET"):
        for text in TEXTS:
            answer = visitor.http.get(address, params=dict.fromkeys(("next", "by", "done"), text))
            assert answer.status_code < 500, (address, text[:20])
    for number in ("0", "-1", "x", "9223372036854775807", "9" * 20):
        for address in (f"/activity/{number}", f"/self-service/keys/{number}/remove"):
            assert visitor.http.get(address).status_code == 404, address


@pytest.mark.parametrize("name", COOKIES)
def test_cookies(visitor: Visitor, name: str):
    for value in ("", "x", "A" * 900, "=" * 10, "a;b", '"q"', "%00"):
        for address in (
            "/",
            "/sign-in",
            "/sign-in/step",
            "/profile",
            "/first-day/app",
            "/password-reset/step",
            "/password-reset/new",
        ):
            answer = visitor.http.get(address, headers={"cookie": f"__Host-tokenbridge-{name}={value}"})
            assert answer.status_code < 500, (address, value)


def test_the_passkey_offer_of_one_tab_leaves_the_second_step_of_another(portal: Portal, visitor: Visitor):
    person = portal.bench.person()
    visitor.get("/sign-in")
    step = visitor.send("/sign-in", {"username": person.username, "password": person.password})
    visitor.get("/sign-in")
    assert visitor.post("/sign-in/key-options", accept="application/json").status_code == 200
    visitor.last = step
    assert visitor.send("/sign-in/step", {"code": person.code(), "by": "totp"}).url.path == "/signed-in"


def test_a_form_of_a_session_that_has_ended_leads_to_the_sign_in(portal: Portal, visitor: Visitor):
    person = portal.bench.person(enrol=False)
    visitor.sign_in(person)
    visitor.get("/self-service/password")
    with portal.bench.office() as office:
        people.revoke_sessions(office, person.username)
    answer = visitor.post("/self-service/password", {"current": "x", "new": "y" * 9, "again": "y" * 9})
    assert (answer.status_code, answer.headers["location"]) == (303, "/sign-in")
