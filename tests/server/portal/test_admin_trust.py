"""Trust anchors on pages: added from files, changed, removed, and who would be locked out."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterator
from html import unescape

import pytest
from cryptography.hazmat.primitives import serialization
from sqlalchemy import select

from tests.server.conftest import DER, now
from tests.server.portal.conftest import Portal, Visitor
from tests.server.portal.test_admin import granted, site_admin  # noqa: F401
from tokenbridge.rig.pki import RigPki
from tokenbridge.rp.certificate import Certificate
from tokenbridge.server.operator import authorities, people
from tokenbridge.server.store import accounts, anchors, audit
from tokenbridge.server.store.anchors import Anchor
from tokenbridge.server.store.audit import Entry
from tokenbridge.server.store.roles import Role
from tokenbridge.server.store.schema import SessionRow

PEM = serialization.Encoding.PEM


def events(portal: Portal, event: str) -> list[Entry]:
    with portal.bench.office() as office, office.database.read() as tx:
        return audit.entries(tx, search=audit.Search(event=event))


@pytest.fixture
def anchor(portal: Portal) -> Iterator[int]:
    """The bench's authority, trusted; returns its number."""
    portal.bench.distrust()
    with portal.bench.office() as office:
        root = portal.bench.pki.root.certificate.public_bytes(DER)
        below = (portal.bench.pki.issuing.certificate.public_bytes(DER),)
        rule = {"hardware": True, "pin_enforced": True, "crl_files": (str(portal.bench.crl),)}
        authorities.add(office, Anchor(name="here", certificate=root, intermediates=below, **rule))
        with office.database.read() as tx:
            yield next(number for number, found in anchors.numbered(tx).items() if found.name == "here")
        if any(found.name == "here" for found in authorities.listed(office)):
            authorities.remove(office, "here")


def listed(portal: Portal) -> dict[str, Anchor]:
    with portal.bench.office() as office:
        return {found.name: found for found in authorities.listed(office)}


class TestAddingAnAuthority:
    @pytest.mark.parametrize("encoding", [DER, PEM])
    def test_it_is_shown_then_trusted_and_on_record(
        self,
        portal: Portal,
        site_admin: Visitor,  # noqa: F811
        encoding: serialization.Encoding,
    ):
        pki = RigPki.create(now=now())
        files = {"certificate": pki.root.certificate.public_bytes(encoding)}
        files["below"] = pki.issuing.certificate.public_bytes(encoding)
        site_admin.get("/admin/trust/add")
        fields = {"name": "new <one>", "hardware": "yes", "check_revocation": "yes", "map_nhs_uid": "yes"}
        page = site_admin.upload("/admin/trust/add", files, {**fields, "crl_urls": "http://pki.example/ca.crl"})
        assert page.status_code == 200
        assert "Vouches for hardware" in page.text
        assert "known by their NHS user id" in page.text
        assert "new &lt;one&gt;" in page.text
        assert pki.root.certificate.fingerprint(pki.root.certificate.signature_hash_algorithm).hex() in page.text
        assert "new <one>" not in listed(portal)
        site_admin.last = page
        held = {
            name: unescape(text)
            for name, text in re.findall(r'<textarea name="(\w+)"[^>]*>\n(.*?)</textarea>', page.text, re.S)
        }
        done = site_admin.post("/admin/trust/add", held)
        assert done.headers["location"] == "/admin/trust?done=trust-added"
        found = listed(portal)["new <one>"]
        assert (found.hardware, found.pin_enforced, found.map_nhs_uid) == (True, False, True)
        assert found.crl_urls == ("http://pki.example/ca.crl",)
        assert len(found.intermediates) == 1
        last = events(portal, "trust-added")[-1]
        assert last.detail["by"].startswith("person")
        assert last.detail["rule"]["hardware"] is True
        with portal.bench.office() as office:
            authorities.remove(office, "new <one>")

    @pytest.mark.parametrize(
        ("data", "told"),
        [
            (b"", "No file was chosen"),
            (b"\0" * 1000, "can&#39;t be read"),
            (b"-----BEGIN CERTIFICATE-----\nx\n-----END CERTIFICATE-----\n", ""),
            (b"-----BEGIN RSA PRIVATE KEY-----\nMTIz\n-----END RSA PRIVATE KEY-----\n", "no certificate in it"),
            (b"x" * (300 << 10), "too large"),
            (b"\x30\x84\xff\xff\xff\xff", "can&#39;t be read"),
            ("-----BEGIN CERTIFICATE-----\nÿ\n-----END".encode("latin-1"), ""),
        ],
    )
    def test_what_is_no_certificate(self, portal: Portal, site_admin: Visitor, data: bytes, told: str):  # noqa: F811
        site_admin.get("/admin/trust/add")
        before = listed(portal)
        for go in ("", "yes"):
            page = site_admin.upload("/admin/trust/add", {"certificate": data}, {"name": "x", "go": go})
            assert page.status_code == 400
            assert told in page.text
        assert listed(portal) == before

    def test_a_card_s_certificate_is_no_authority(self, portal: Portal, site_admin: Visitor):  # noqa: F811
        site_admin.get("/admin/trust/add")
        page = site_admin.upload("/admin/trust/add", {"certificate": portal.bench.card().der}, {"name": "x"})
        assert page.status_code == 400
        assert "is not a CA" in page.text

    def test_an_expired_authority_is_refused(self, site_admin: Visitor):  # noqa: F811
        old = RigPki.create(now=now() - dt.timedelta(days=365 * 40)).root.certificate
        site_admin.get("/admin/trust/add")
        page = site_admin.upload("/admin/trust/add", {"certificate": old.public_bytes(DER)}, {"name": "x"})
        assert page.status_code == 400
        assert "valid today" in page.text

    @pytest.mark.parametrize(
        "wrong",
        [
            {"name": ""},
            {"name": "a\0b"},
            {"name": "a\nb"},
            {"name": "x" * 129},
            {"name": "here"},
            {"crl_urls": "file:///etc/passwd"},
            {"crl_urls": "http://"},
            {"crl_urls": "http://[x"},
            {"ocsp_urls": "\n".join(f"http://o{n}.example/" for n in range(9))},
            {"policy_oids": "1.2.x"},
            {"policy_oids": "9" * 5000},
        ],
    )
    def test_words_that_can_not_be_right(self, portal: Portal, site_admin: Visitor, anchor: int, wrong: dict[str, str]):  # noqa: F811
        certificate = RigPki.create(now=now()).root.certificate.public_bytes(DER)
        site_admin.get("/admin/trust/add")
        for go in ("", "yes"):
            fields = {"name": "fine", "go": go, **wrong}
            assert site_admin.upload("/admin/trust/add", {"certificate": certificate}, fields).status_code == 400
        assert set(listed(portal)) == {"here"}


class TestChangingAnAuthority:
    def test_another_rule_is_shown_then_holds_and_files_stay(self, portal: Portal, site_admin: Visitor, anchor: int):  # noqa: F811
        site_admin.get(f"/admin/trust/{anchor}")
        fields = {"hardware": "yes", "check_revocation": "yes", "map_email": "yes"}
        shown = site_admin.send(f"/admin/trust/{anchor}", fields)
        assert "Vouches for hardware and the PIN" in shown.text
        assert "known by their e-mail" in shown.text
        assert listed(portal)["here"].pin_enforced
        assert site_admin.post(f"/admin/trust/{anchor}", fields).status_code == 303
        found = listed(portal)["here"]
        assert (found.pin_enforced, found.map_email, found.crl_files) == (False, True, (str(portal.bench.crl),))
        assert "Vouches for hardware<" in site_admin.get("/admin/trust").text
        last = events(portal, "trust-changed")[-1].detail
        assert (last["before"], last["after"]) == (
            {"pin_enforced": True, "map_email": False},
            {"pin_enforced": False, "map_email": True},
        )

    def test_of_two_who_change_it_the_second_is_told(self, portal: Portal, site_admin: Visitor, anchor: int):  # noqa: F811
        site_admin.get(f"/admin/trust/{anchor}")
        first = site_admin.send(f"/admin/trust/{anchor}", {"hardware": "yes"})
        assert site_admin.post(f"/admin/trust/{anchor}").status_code == 303
        site_admin.last = first
        again = site_admin.post(f"/admin/trust/{anchor}", {"map_upn": "yes"})
        assert again.status_code == 409
        assert "Somebody has changed this authority" in again.text
        assert not listed(portal)["here"].map_upn
        assert site_admin.post(f"/admin/trust/{anchor}/remove").status_code == 409
        assert "here" in listed(portal)

    def test_one_that_is_not_there(self, site_admin: Visitor):  # noqa: F811
        for path in ("/admin/trust/999999", "/admin/trust/999999/remove", "/admin/trust/0", "/admin/trust/x"):
            assert site_admin.get(path).status_code == 404, path
            site_admin.get("/admin/trust")
            assert site_admin.post(path, {"seen": "x"}).status_code == 404, path

    def test_removing_says_who_is_locked_out(self, portal: Portal, site_admin: Visitor, anchor: int):  # noqa: F811
        card_only, both = portal.bench.person(), portal.bench.person()
        portal.bench.sql(f"UPDATE accounts SET password_hash = NULL WHERE username = '{card_only.username}'")
        page = site_admin.get(f"/admin/trust/{anchor}/remove")
        assert f"<li>{card_only.username}</li>" in page.text
        assert f"<li>{both.username}</li>" not in page.text
        assert "accounts have cards that this authority vouches for" in page.text
        assert site_admin.post(f"/admin/trust/{anchor}/remove").status_code == 303
        assert listed(portal) == {}
        last = events(portal, "trust-removed")[-1].detail
        assert last["locked_out"] >= 1
        assert last["cards_of"] >= 2
        assert last["rule"]["hardware"] is True

    def test_who_would_lock_himself_out_has_to_say_so(self, portal: Portal, visitor: Visitor, anchor: int):
        person = granted(portal, Role.ADMINISTRATOR)
        visitor.sign_in(person)
        with portal.bench.office() as office:
            people.enrol(office, person.username, Certificate.parse(person.card.der), "", unchecked=True)
            with office.database.write() as tx:
                account = accounts.get(tx, person.username)
                account.password_hash = None
                for row in tx.scalars(select(SessionRow).where(SessionRow.account_id == account.id)):
                    row.assurance = {**row.assurance, "aal": 3}  # as if the card had been shown
        path = f"/admin/trust/{anchor}/remove"
        assert "Yours is among them" in visitor.get(path).text
        for typed in ("", "yes", "I lock"):
            page = visitor.send(path, {"confirm": typed})
            assert "type: I lock myself out" in page.text, typed
        assert "here" in listed(portal)
        assert visitor.post(path, {"confirm": "i lock myself out "}).status_code == 303
        assert listed(portal) == {}
