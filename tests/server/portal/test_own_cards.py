"""People add their own smartcards: a good card of nobody else's, by the session that began it, and once."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import httpx
import pytest

from tests.server.conftest import Databases, Person, SoftCard
from tests.server.portal.conftest import Portal, Visitor, portal_at
from tests.server.portal.test_card_pages import bridge, ref_on
from tokenbridge.rig.pki import Variant
from tokenbridge.rp.certificate import Certificate
from tokenbridge.server.operator import people
from tokenbridge.server.self_service.own_cards import MOST_CARDS
from tokenbridge.server.store import accounts, cards

ADD = "/self-service/cards/add"


@pytest.fixture(scope="module")
def portal(tmp_path_factory: pytest.TempPathFactory, databases: Databases) -> Iterator[Portal]:
    """One whose issuer may say whose card it is."""
    with portal_at(tmp_path_factory.mktemp("own-cards") / "data", database=databases.new()) as made:
        made.bench.trust(map_nhs_uid=True)
        yield made


def holder(card: SoftCard) -> Person:
    """Whoever has the card in a reader."""
    return Person(username="", card=card, totp=None)  # type: ignore[arg-type]  # it has no part here


def signed_in(portal: Portal, visitor: Visitor, **facts: str) -> str:
    name = portal.newcomer(**facts)
    visitor.sign_in_by_password(name)
    return name


def begin(visitor: Visitor) -> str:
    """What the link holds."""
    visitor.get(ADD)
    page = visitor.post(ADD)
    assert page.status_code == 200, page.text
    return ref_on(page)


def shown(portal: Portal, visitor: Visitor, card: SoftCard) -> str:
    """Where the browser goes on when the bridge has shown the card."""
    answer = bridge(portal, begin(visitor), holder(card))
    assert answer.status_code == 200, answer.text
    told = answer.json()
    assert "session" not in told
    return str(told["continue"]).removeprefix(portal.origin)


def sign_in_by_card(portal: Portal, visitor: Visitor, person: Person) -> None:
    visitor.get("/sign-in")
    ref = ref_on(visitor.post("/sign-in/card", {"username": ""}))
    visitor.get(str(bridge(portal, ref, person).json()["continue"]).removeprefix(portal.origin))


def owned(portal: Portal, username: str) -> list[str]:
    with portal.bench.office() as office, office.database.read() as tx:
        return [row.fingerprint for row, _ in cards.listed(tx, accounts.get(tx, username).id)]


def recorded(portal: Portal, event: str) -> int:
    return int(portal.bench.sql(f"SELECT count(*) FROM audit WHERE event = '{event}'")[0][0])


def test_a_card_that_is_added_signs_in_and_the_first_one_brings_recovery_codes(
    portal: Portal, visitor: Visitor
) -> None:
    card, name = portal.bench.card(), signed_in(portal, visitor)
    ref = begin(visitor)
    asked = portal.server.http.get(f"/api/hand-over/{ref}").json()
    assert (asked["purpose"], asked["account"]) == ("add-card", name)
    onward = str(bridge(portal, ref, holder(card)).json()["continue"]).removeprefix(portal.origin)
    page = visitor.get(onward)
    assert "Add this smartcard?" in page.text
    added = visitor.post(onward, {"name": "my badge"})
    assert (added.status_code, "Your recovery codes" in added.text) == (200, True)
    assert "my badge" in visitor.get("/self-service/keys").text
    assert visitor.get(onward).status_code == 404
    assert "Card added under Self-Service" in visitor.get("/activity").text
    again = portal.visitor()
    with again.http:
        again.get("/sign-in")
        ref = ref_on(again.post("/sign-in/card", {"username": ""}))
        told = bridge(portal, ref, holder(card)).json()
        assert (told["decision"], told["account"]["username"]) == ("allow", name)


def test_a_link_that_was_sent_to_somebody_adds_their_card_to_no_account(portal: Portal, visitor: Visitor) -> None:
    """The sender has an account; the victim agreed at the bridge, and the victim's browser was opened."""
    victim, sender = portal.visitor(), signed_in(portal, visitor)
    with victim.http:
        victims = signed_in(portal, victim)
        onward = shown(portal, visitor, portal.bench.card())
        refused = victim.get(onward)
        assert (refused.status_code, "begun in another browser" in refused.text) == (404, True)
        victim.get(ADD)
        assert victim.post(onward).status_code == 404
    assert owned(portal, sender) == owned(portal, victims) == []


def test_another_session_of_the_same_person_can_not_add_it_either(portal: Portal, visitor: Visitor) -> None:
    name = signed_in(portal, visitor)
    other = portal.visitor()
    with other.http:
        other.sign_in_by_password(name)
        assert other.get(shown(portal, visitor, portal.bench.card())).status_code == 404


def test_a_card_that_is_enrolled_for_somebody_else_is_refused_on_record_and_waits_no_more(
    portal: Portal, visitor: Visitor
) -> None:
    name, owner, before = signed_in(portal, visitor), portal.bench.person(), recorded(portal, "card-refused")
    onward = shown(portal, visitor, owner.card)
    refused = visitor.get(onward)
    assert (refused.status_code, "belongs to somebody else" in refused.text) == (409, True)
    assert visitor.get(onward).status_code == 404
    assert (owned(portal, name), recorded(portal, "card-refused")) == ([], before + 1)


def test_what_the_issuer_says_to_be_somebody_elses_is_refused_with_or_without_an_account_of_theirs(
    portal: Portal, visitor: Visitor
) -> None:
    mine = "000555000001"
    me = portal.bench.person(enrol=False, nhs_uid=mine, card=portal.bench.card(mine))
    portal.bench.person(enrol=False, nhs_uid="000555000002")
    sign_in_by_card(portal, visitor, me)
    for uid in ("000555000002", "000555000003"):
        assert visitor.get(shown(portal, visitor, portal.bench.card(uid))).status_code == 409
    onward = shown(portal, visitor, portal.bench.card(mine))
    visitor.get(onward)
    assert visitor.post(onward).status_code == 200
    assert len(owned(portal, me.username)) == 1


def test_a_card_that_became_somebody_elses_meanwhile_is_refused_at_the_last_step(
    portal: Portal, visitor: Visitor
) -> None:
    name, card = signed_in(portal, visitor), portal.bench.card()
    onward = shown(portal, visitor, card)
    visitor.get(onward)
    portal.bench.person(card=card)
    assert visitor.post(onward).status_code == 409
    assert owned(portal, name) == []


def test_of_two_requests_for_one_card_one_adds_it(portal: Portal, visitor: Visitor) -> None:
    name = signed_in(portal, visitor)
    onward = shown(portal, visitor, portal.bench.card())
    visitor.get(onward)
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda _: visitor.post(onward).status_code, range(4)))
    assert answers.count(200) == 1
    assert set(answers) <= {200, 403, 404}
    assert len(owned(portal, name)) == 1


@pytest.mark.parametrize("variant", [Variant.EXPIRED, Variant.UNKNOWN_ISSUER])
def test_a_card_that_could_not_sign_in_can_not_be_added(portal: Portal, visitor: Visitor, variant: Variant) -> None:
    signed_in(portal, visitor)
    answer = bridge(portal, begin(visitor), holder(portal.bench.card(variant=variant)))
    assert answer.status_code == 403
    assert "continue" not in answer.json()


def test_a_signature_for_another_origin_or_nonce_adds_nothing(portal: Portal, visitor: Visitor) -> None:
    signed_in(portal, visitor)
    card, send = portal.bench.card(), partial(_send, portal)
    ref = begin(visitor)
    nonce = portal.server.http.get(f"/api/hand-over/{ref}").json()["nonce"]
    assert send(ref, card.token(nonce, origin="https://evil.example")).status_code == 403
    assert send(ref, card.token(nonce, origin=portal.origin)).status_code == 409
    ref = begin(visitor)
    assert send(ref, card.token("A" * 44, origin=portal.origin)).status_code == 403


def _send(portal: Portal, ref: str, token: object) -> httpx.Response:
    return portal.server.http.post(f"/api/hand-over/{ref}/card", json={"token": token})


def test_while_revocation_is_in_doubt_nothing_is_added(portal: Portal, visitor: Visitor) -> None:
    signed_in(portal, visitor)
    kept = portal.bench.crl.read_bytes()
    ref = begin(visitor)
    portal.bench.crl.write_bytes(b"no list")
    try:
        answer = bridge(portal, ref, holder(portal.bench.card()))
    finally:
        portal.bench.crl.write_bytes(kept)
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "undecided")


def test_a_sign_in_is_no_card_to_add_and_a_card_to_add_is_no_sign_in(portal: Portal, visitor: Visitor) -> None:
    signed_in(portal, visitor)
    onward = shown(portal, visitor, portal.bench.card())
    code = onward.rpartition("/")[2]
    assert visitor.get(f"/sign-in/card/{code}").status_code == 404
    visitor.get("/sign-in")
    ref = ref_on(visitor.post("/sign-in/card", {"username": ""}))
    told = bridge(portal, ref, portal.bench.person()).json()
    assert visitor.get(f"{ADD.removesuffix('add')}{told['continue'].rpartition('/')[2]}").status_code == 404
    assert visitor.get(onward).status_code == 200


def test_who_is_signed_in_weaker_than_the_account_can_be_adds_no_card(portal: Portal, visitor: Visitor) -> None:
    """Who has a card already adds another one after a sign-in with it, not with password and app."""
    visitor.sign_in(portal.bench.person())
    page = visitor.get(ADD)
    assert "(AAL3) first" in page.text
    visitor.get("/self-service")
    assert visitor.post(ADD).status_code in {303, 403}


def test_nobody_signed_in_no_form_and_too_many_cards(portal: Portal, visitor: Visitor) -> None:
    assert visitor.get(ADD).url.path == "/sign-in"
    name = signed_in(portal, visitor)
    onward = shown(portal, visitor, portal.bench.card())
    assert visitor.http.post(onward, headers={"origin": portal.origin}).status_code in {400, 403}
    visitor.get(onward)
    assert visitor.post(onward, {"name": "x" * 65}).status_code == 400
    assert visitor.post(onward, {"name": "a\x00b"}).status_code == 400
    with portal.bench.office() as office:
        for _ in range(MOST_CARDS):
            people.enrol(office, name, Certificate.parse(portal.bench.card().der), "", unchecked=True)
    assert visitor.post(onward).status_code in {303, 403, 409}
    assert len(owned(portal, name)) == MOST_CARDS
