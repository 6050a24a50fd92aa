"""The smartcard on the page: handed over to the bridge, whose part a card made of software plays here."""

from __future__ import annotations

import re
from collections.abc import Iterator
from html import unescape
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest

from tests.server.conftest import Databases, Person
from tests.server.portal.conftest import SESSION, Portal, Visitor, portal_at
from tokenbridge.errors import SetupError
from tokenbridge.server import settings


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


@pytest.fixture(scope="module")
def with_door(tmp_path_factory: pytest.TempPathFactory, databases: Databases) -> Iterator[Portal]:
    data = tmp_path_factory.mktemp("with-door") / "data"
    with portal_at(data, database=databases.new(), bridge_door=29173) as made:
        yield made


def test_without_a_door_no_page_may_reach_beyond_its_own_site(visitor: Visitor):
    visitor.get("/sign-in")
    page = visitor.post("/sign-in/card", {"username": ""})
    assert "connect-src 'self';" in page.headers["content-security-policy"]
    assert "data-door=" not in page.text


def test_only_the_card_page_may_reach_the_door_and_only_the_door(with_door: Portal):
    visitor = with_door.visitor()
    with visitor.http:
        first = visitor.get("/sign-in")
        page = visitor.post("/sign-in/card", {"username": '"><b>ada'})
    assert "connect-src 'self';" in first.headers["content-security-policy"]
    assert "connect-src 'self' http://127.0.0.1:29173/hand-over;" in page.headers["content-security-policy"]
    assert 'data-door="http://127.0.0.1:29173/hand-over"' in page.text
    assert unescape(page.text).count("tokenbridge://hand-over?site=") == 2
    assert "<b>ada" not in page.text


@pytest.mark.parametrize("port", [-1, 1, 80, 1023, 65536])
def test_a_door_is_at_a_port_that_users_may_open(port: int) -> None:
    with pytest.raises(SetupError, match="bridge_door"):
        settings.check(settings.Settings(bridge_door=port))
