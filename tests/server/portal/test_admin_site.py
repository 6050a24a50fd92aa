"""What holds on the server, changed on pages: trust anchors, metadata of keys, and the policy."""

from __future__ import annotations

import datetime as dt
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from html import unescape
from pathlib import Path

import httpx
import pytest
from cryptography.hazmat.primitives import serialization
from sqlalchemy import event, select
from sqlalchemy.orm import Session

from tests.metadata_maker import Service, entry
from tests.server.conftest import DER, now
from tests.server.portal.conftest import SELF_ENROL, Portal, Visitor
from tests.server.portal.test_admin import age_sessions, granted, helper, local_admin, site_admin  # noqa: F401
from tests.software_key import AAGUID
from tokenbridge.rig.pki import RigPki
from tokenbridge.rp.certificate import Certificate
from tokenbridge.server.operator import admins, authorities, people
from tokenbridge.server.policy_place import PolicyPlace
from tokenbridge.server.store import accounts, anchors, audit, metadata
from tokenbridge.server.store.anchors import Anchor
from tokenbridge.server.store.audit import Entry
from tokenbridge.server.store.key_schema import SecurityKey
from tokenbridge.server.store.roles import Role
from tokenbridge.server.store.schema import SessionRow

PAGES = (
    *("/admin/trust", "/admin/trust/add", "/admin/trust/1", "/admin/trust/1/remove", "/admin/models"),
    *("/admin/policy", "/admin/policy/edit", "/admin/policy/editions/1"),
)
FORMS = ("/admin/trust/1", "/admin/trust/1/remove")
PEM = serialization.Encoding.PEM
CARDS_ONLY = '[[rule]]\nname = "cards only"\naal = 3\n'


def events(portal: Portal, event: str) -> list[Entry]:
    with portal.bench.office() as office, office.database.read() as tx:
        return audit.entries(tx, search=audit.Search(event=event))


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


@pytest.fixture
def anchor(portal: Portal) -> Iterator[int]:
    """The bench's authority, trusted; returns its number."""
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


class TestModels:
    @pytest.fixture(autouse=True)
    def _clean(self, portal: Portal) -> Iterator[None]:
        yield
        portal.bench.sql("DELETE FROM key_metadata")

    def load(self, visitor: Visitor, blob: bytes, root: bytes = b"") -> httpx.Response:
        visitor.get("/admin/models")
        return visitor.upload("/admin/models", {"blob": blob, **({"root": root} if root else {})})

    def test_a_blob_is_checked_and_put_in_force(self, portal: Portal, site_admin: Visitor):  # noqa: F811
        service = Service()
        models = [
            entry([service.maker.der]),
            entry([service.maker.der], aaguid=bytes(15) + b"\1", statuses=("REVOKED",)),
        ]
        assert self.load(site_admin, service.blob(*models), service.maker.pem).status_code == 303
        page = site_admin.get("/admin/models").text
        assert "Number 7 with 2 models" in page
        assert "Certified L1" in page
        assert "Newest report: REVOKED" in page
        assert ">Unsafe<" in page
        assert "Test Key 5" not in site_admin.get("/admin/models?q=nothing-like-it").text
        last = events(portal, "metadata-loaded")[-1].detail
        assert (last["number"], last["before"], last["models"]) == (7, None, 2)
        older = self.load(site_admin, service.blob(*models, number=6), service.maker.pem)
        assert older.status_code == 400
        assert "number 7 is in force already" in older.text

    def test_keys_of_accounts_are_counted(self, portal: Portal, site_admin: Visitor):  # noqa: F811
        name = portal.newcomer()
        with portal.bench.office() as office, office.database.write() as tx:
            account = accounts.get(tx, name)
            for number in (1, 2):
                usual = {"public_key": b"x", "sign_count": 0, "aaguid": AAGUID, "name": "k", "attestation": "none"}
                flags = dict.fromkeys(("backup_eligible", "backed_up", "user_verified"), False)
                key = SecurityKey(
                    account_id=account.id, credential_id=bytes([number]), registered_at=now(), **usual, **flags
                )
                tx.add(key)
        page = site_admin.get("/admin/models").text
        assert "AAGUID 01020304-0506-0708-a1a2-a3a4a5a6a7a8. 2 keys of accounts" in page
        assert "Not in the metadata" in page
        portal.bench.sql(f"DELETE FROM accounts WHERE username = '{name}'")

    @pytest.mark.parametrize(
        "blob", [b"", b"a.b.c", b"\0" * 5000, b"." * (1 << 20), b"e30.e30.e30", "é.é.é".encode("latin-1")]
    )
    def test_what_is_no_blob_changes_nothing(self, portal: Portal, site_admin: Visitor, blob: bytes):  # noqa: F811
        assert self.load(site_admin, blob).status_code == 400
        assert self.load(site_admin, blob, b"no root").status_code == 400
        with portal.bench.office() as office, office.database.read() as tx:
            assert metadata.current(tx) is None

    def test_another_service_s_signature_does_not_count(self, site_admin: Visitor):  # noqa: F811
        service, other = Service(), Service()
        assert self.load(site_admin, service.blob(entry([service.maker.der])), other.maker.pem).status_code == 400
        assert self.load(site_admin, service.blob(entry([service.maker.der]))).status_code == 400


@pytest.fixture
def policy_file(portal: Portal) -> Iterator[Path]:
    path = portal.bench.data / "policy.toml"
    path.write_text(SELF_ENROL)
    yield path
    path.unlink(missing_ok=True)
    path.write_text(SELF_ENROL)


def propose(visitor: Visitor, text: str, do: str, **fields: str) -> httpx.Response:
    """Send the editor's form, `apply` as if this very text had been checked."""
    checked = hashlib.sha256(text.encode()).hexdigest()
    return visitor.upload("/admin/policy/edit", {}, {"text": text, "do": do, "checked": checked, **fields})


class TestPolicy:
    def test_it_is_checked_applied_and_put_back(self, portal: Portal, site_admin: Visitor, policy_file: Path):  # noqa: F811
        new = SELF_ENROL.replace("\n\n", "\n\n# mended\n")
        page = site_admin.get("/admin/policy/edit")
        assert unescape(page.text).count('name = "self-enrol"') == 1
        checked = propose(site_admin, new.replace("\n", "\r\n"), "check")
        assert "No account would be treated differently" in checked.text
        assert policy_file.read_text() == SELF_ENROL
        mode = policy_file.stat().st_mode
        site_admin.last = checked
        assert propose(site_admin, new, "apply").headers["location"] == "/admin/policy?done=policy"
        assert policy_file.read_text() == new
        assert policy_file.stat().st_mode == mode
        last = events(portal, "policy-applied")[-1].detail
        assert last["by"].startswith("person")
        assert last["before"] != last["after"]
        back = re.search(r'href="(/admin/policy/editions/\d+)"', site_admin.get("/admin/policy").text)
        assert back is not None
        held = re.search(
            r'<textarea class="[^"]*portal-editor"[^>]*>\n(.*?)</textarea>', site_admin.get(back[1]).text, re.S
        )
        assert held is not None
        assert unescape(held[1]) == SELF_ENROL
        assert propose(site_admin, unescape(held[1]), "apply").status_code == 303
        assert policy_file.read_text() == SELF_ENROL

    def test_a_text_that_was_changed_after_its_check_is_checked_again(self, site_admin: Visitor, policy_file: Path):  # noqa: F811
        site_admin.get("/admin/policy/edit")
        site_admin.last = propose(site_admin, SELF_ENROL + "# looked at\n", "check")
        page = propose(site_admin, SELF_ENROL + "# not looked at\n", "apply", checked=site_admin.hidden()["checked"])
        assert page.status_code == 200
        assert "Apply this policy?" in page.text
        assert policy_file.read_text() == SELF_ENROL

    def test_the_server_follows(self, site_admin: Visitor, policy_file: Path):  # noqa: F811
        site_admin.get("/admin/policy/edit")
        assert propose(site_admin, SELF_ENROL + '\n[[rule]]\nname = "new rule here"\n', "apply").status_code == 303
        assert "new rule here" in site_admin.get("/admin/policy").text

    def test_where_there_was_no_file_one_is_made(self, site_admin: Visitor, policy_file: Path):  # noqa: F811
        policy_file.unlink()
        assert 'name = "default"' in unescape(site_admin.get("/admin/policy/edit").text)
        assert propose(site_admin, SELF_ENROL, "apply").status_code == 303
        assert policy_file.read_text() == SELF_ENROL

    @pytest.mark.parametrize(
        ("text", "told"),
        [
            ("", "there is no [[rule]]"),
            ("x = [", "Line 1:"),
            ('[[rule]]\nname = "a"\naal = 9\n', "Line 3:"),
            ('[[rule]]\nname = "a"\ncolour = 1\n', "nobody knows the key"),
            ('[[rule]]\nname = "a\0b"\n', "not TOML"),
            ("é" * 10, "not TOML"),
            ("[" * 5000, "not TOML"),
            ("a" * (257 << 10), "longer than 256 KiB"),
            ("x=" + "1" * 100_000, ""),
            ("[[rule]]\n" * 600, "more than 500"),
        ],
    )
    def test_faults_are_named_and_nothing_is_written(
        self,
        site_admin: Visitor,  # noqa: F811
        policy_file: Path,
        text: str,
        told: str,
    ):
        for do in ("check", "apply", "save"):
            site_admin.get("/admin/policy/edit")
            answer = propose(site_admin, text, do)
            assert answer.status_code == 400, do
            assert told in unescape(answer.text), do
        assert policy_file.read_text() == SELF_ENROL

    def test_differences_are_told_by_account(self, portal: Portal, site_admin: Visitor, policy_file: Path):  # noqa: F811
        name = portal.newcomer()
        site_admin.get("/admin/policy/edit")
        page = propose(site_admin, '[[rule]]\nname = "two factors"\naal = 2\n', "check").text
        assert f"<strong>{name}</strong>" in page
        assert "allow today" in page

    def test_who_would_be_locked_out_has_to_say_so(self, portal: Portal, site_admin: Visitor, policy_file: Path):  # noqa: F811
        site_admin.get("/admin/policy/edit")
        for typed in ("", "yes", "I lock"):
            page = propose(site_admin, CARDS_ONLY, "apply", confirm=typed)
            assert "Yours is among them" in page.text
            words = re.search(r"type: ([A-Za-z ]+)", page.text)
            assert words is not None
            assert page.status_code == (400 if typed else 200)
        assert policy_file.read_text() == SELF_ENROL
        done = propose(site_admin, CARDS_ONLY, "apply", confirm=words[1])
        assert done.status_code == 303
        assert policy_file.read_text() == CARDS_ONLY
        assert events(portal, "policy-applied")[-1].detail["locked_out"] >= 1

    def test_a_policy_that_refuses_everybody_needs_other_words(self, site_admin: Visitor, policy_file: Path):  # noqa: F811
        site_admin.get("/admin/policy/edit")
        refuse = '[[rule]]\nname = "shut"\nrefuse = true\n'
        assert "type: Nobody can sign in" in propose(site_admin, refuse, "apply").text
        assert propose(site_admin, refuse, "apply", confirm="I lock myself out").status_code == 400
        assert policy_file.read_text() == SELF_ENROL

    def test_of_two_administrators_one_wins_and_the_other_is_told(self, portal: Portal, policy_file: Path):
        texts = [SELF_ENROL + f"# {number}\n" for number in range(3)]
        visitors = [portal.visitor() for _ in texts]
        for visitor in visitors:
            visitor.sign_in(granted(portal, Role.ADMINISTRATOR))
            visitor.get("/admin/policy/edit")
        found: dict[int, httpx.Response] = {}
        ready = threading.Barrier(len(texts))

        def apply(number: int) -> None:
            ready.wait(10)
            found[number] = propose(visitors[number], texts[number], "apply")

        threads = [threading.Thread(target=apply, args=(number,)) for number in range(len(texts))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for visitor in visitors:
            visitor.http.close()
        assert sorted(answer.status_code for answer in found.values()) == [303, 409, 409]
        (winner,) = [number for number, answer in found.items() if answer.status_code == 303]
        assert policy_file.read_text() == texts[winner]
        (loser, *_) = [number for number in found if number != winner]
        assert "was changed since you opened it" in found[loser].text
        assert f"# {loser}" in found[loser].text, "the text is not lost"

    def test_a_change_that_can_not_be_recorded_is_taken_back(
        self,
        portal: Portal,
        site_admin: Visitor,  # noqa: F811
        policy_file: Path,
    ):
        tried = []

        def fail(_session: Session) -> None:
            if policy_file.read_text() != SELF_ENROL:
                tried.append(policy_file.read_text())
                raise OSError("the disk is full")

        site_admin.get("/admin/policy/edit")
        seen = len(events(portal, "policy-applied"))
        event.listen(Session, "before_commit", fail)
        try:
            assert propose(site_admin, SELF_ENROL + "# x\n", "apply").status_code == 500
        finally:
            event.remove(Session, "before_commit", fail)
        assert tried[0] == SELF_ENROL + "# x\n"
        assert policy_file.read_text() == SELF_ENROL
        assert len(events(portal, "policy-applied")) == seen

    def test_where_the_file_can_not_be_written_it_is_offered_for_saving(
        self,
        site_admin: Visitor,  # noqa: F811
        policy_file: Path,
        monkeypatch: pytest.MonkeyPatch,
    ):
        monkeypatch.setattr(PolicyPlace, "hindrance", property(lambda _: "the server may not write to its directory"))
        page = site_admin.get("/admin/policy/edit")
        assert "can't be written here" in unescape(page.text)
        assert "tokenbridge policy check" in page.text
        checked = propose(site_admin, SELF_ENROL + "# x\n", "check")
        assert 'value="apply"' not in checked.text
        saved = propose(site_admin, SELF_ENROL + "# x\n", "save")
        assert saved.text == SELF_ENROL + "# x\n"
        assert "attachment" in saved.headers["content-disposition"]
        assert propose(site_admin, SELF_ENROL + "# x\n", "apply").status_code == 409
        assert policy_file.read_text() == SELF_ENROL

    def test_the_policy_that_is_there_is_not_applied_again(self, site_admin: Visitor, policy_file: Path):  # noqa: F811
        site_admin.get("/admin/policy/edit")
        assert propose(site_admin, SELF_ENROL, "apply").status_code == 409

    def test_an_edition_that_is_not_there(self, site_admin: Visitor):  # noqa: F811
        for number in ("999999", "0", "x", "9" * 20):
            assert site_admin.get(f"/admin/policy/editions/{number}").status_code == 404

    def test_a_file_that_is_broken_on_the_disk_can_be_mended_here(self, site_admin: Visitor, policy_file: Path):  # noqa: F811
        policy_file.write_bytes(b"\xff broken [[\0")
        assert "broken" in site_admin.get("/admin/policy/edit").text
        assert propose(site_admin, SELF_ENROL, "apply").status_code == 303
        assert policy_file.read_text() == SELF_ENROL


def test_what_is_recorded_holds_no_more_than_it_should(portal: Portal, site_admin: Visitor):  # noqa: F811
    told = json.dumps([entry.detail for entry in events(portal, "policy-applied")])
    assert "[[rule]]" not in told
