"""The smartcard on the page: handed over to the bridge, whose part a card made of software plays here."""

from __future__ import annotations

import re
from html import unescape
from urllib.parse import parse_qs, urlsplit

import httpx

from tests.server.conftest import Person
from tests.server.portal.conftest import SESSION, Portal, Visitor
from tokenbridge.server.operator import authorities


def ref_on(page: httpx.Response) -> str:
    """What the page's link holds."""
    found = re.search(r'href="(tokenbridge://[^"]+)"', page.text)
    assert found is not None, page.text
    query = parse_qs(urlsplit(unescape(found[1])).query)
    assert query["site"] == [f"{page.url.scheme}://{page.url.netloc.decode()}"]
    return query["id"][0]


def bridge(portal: Portal, ref: str, person: Person) -> httpx.Response:
    """What the bridge does with it."""
    asked = portal.server.http.get(f"/api/hand-over/{ref}").json()
    token = person.card.token(asked["nonce"], origin=portal.origin)
    return portal.server.http.post(f"/api/hand-over/{ref}/card", json={"token": token})


def staff(portal: Portal) -> Person:
    with portal.bench.office() as office:
        known = authorities.listed(office)
    if not known:
        portal.bench.trust()
    return portal.bench.person()


def begin(visitor: Visitor, username: str = "", path: str = "/sign-in") -> str:
    visitor.get(path)
    page = visitor.post("/sign-in/card", {"username": username})
    assert page.status_code == 200
    return ref_on(page)


def test_from_the_page_to_the_bridge_and_back(portal: Portal, visitor: Visitor) -> None:
    person = staff(portal)
    ref = begin(visitor, person.username, "/sign-in?next=/sessions")
    asked = portal.server.http.get(f"/api/hand-over/{ref}").json()
    assert asked["account"] == person.username
    onward = bridge(portal, ref, person).json()["continue"]
    page = visitor.get(onward.removeprefix(portal.origin))
    assert (page.status_code, page.url.path) == (200, "/sessions")
    said = visitor.get("/signed-in")
    assert "card signature, PIN enforced by the issuer; no text message or app code needed" in said.text
    again = portal.visitor()
    with again.http:
        assert again.get(onward.removeprefix(portal.origin)).status_code == 404


def test_a_link_that_somebody_else_sent_signs_neither_in(portal: Portal) -> None:
    """The sender began; the victim's bridge did it, and opened the victim's browser."""
    person, sender, victim = staff(portal), portal.visitor(), portal.visitor()
    with sender.http, victim.http:
        ref = begin(sender)
        victim.get("/sign-in")
        onward = bridge(portal, ref, person).json()["continue"].removeprefix(portal.origin)
        refused = victim.get(onward)
        assert refused.status_code == 404
        assert "begun in another browser" in refused.text
        assert SESSION not in victim.http.cookies
        assert sender.get("/profile").url.path == "/sign-in"
        assert SESSION not in sender.http.cookies


def test_the_page_needs_its_form_and_says_what_the_bridge_is_asked(portal: Portal, visitor: Visitor) -> None:
    assert visitor.http.post("/sign-in/card", headers={"origin": portal.origin}).status_code in {400, 403}
    visitor.get("/sign-in")
    page = visitor.post("/sign-in/card", {"username": "x" * 200})
    assert page.status_code == 400
    page = visitor.post("/sign-in/card", {"username": "{{7919*7907}}<script>"})
    assert "62615533" not in page.text
    assert visitor.get("/sign-in/card/nonsense").status_code == 404
