"""Administration: who gets there, whose accounts, what is asked before a change, and what is on record."""

from __future__ import annotations

import datetime as dt
import json
import re
from html import unescape

import pytest
from sqlalchemy import update

from tests.server.conftest import DER, Person, now
from tests.server.portal.conftest import Portal, Visitor
from tokenbridge.server.operator import admins, authorities, people, security_keys
from tokenbridge.server.store import accounts, audit
from tokenbridge.server.store.anchors import Anchor
from tokenbridge.server.store.audit import Entry
from tokenbridge.server.store.roles import Role
from tokenbridge.server.store.schema import SessionRow

CHANGES = (
    ("disable", {}),
    ("enable", {}),
    ("end-sessions", {}),
    ("code", {}),
    ("reset", {"remove-app": "yes"}),
    ("groups", {"name": "nurses"}),
    ("organisation", {"organisation": "Elsewhere"}),
)


def number(portal: Portal, username: str) -> int:
    with portal.bench.office() as office, office.database.read() as tx:
        return accounts.get(tx, username).id


def facts(portal: Portal, username: str) -> tuple[bool, str, frozenset[str]]:
    """Disabled, organisation and methods."""
    with portal.bench.office() as office, office.database.read() as tx:
        account = accounts.get(tx, username)
        return account.disabled, account.organisation, frozenset(map(str, accounts.enrolled(tx, account.id)))


def trail(portal: Portal, username: str) -> list[Entry]:
    with portal.bench.office() as office, office.database.read() as tx:
        return audit.entries(tx, account=username)


def granted(portal: Portal, role: Role, organisation: str = "", **options: str) -> Person:
    person = portal.bench.person(enrol=False, **options)
    with portal.bench.office() as office:
        admins.grant(office, person.username, role, organisation or None)
    return person


def age_sessions(portal: Portal, username: str) -> None:
    """Half an hour has gone since the sign-in."""
    with portal.bench.office() as office, office.database.write() as tx:
        which = accounts.get(tx, username).id
        tx.execute(
            update(SessionRow).where(SessionRow.account_id == which).values(started_at=now() - dt.timedelta(minutes=30))
        )


@pytest.fixture
def site_admin(portal: Portal, visitor: Visitor) -> Visitor:
    visitor.sign_in(granted(portal, Role.ADMINISTRATOR))
    return visitor


@pytest.fixture
def local_admin(portal: Portal, visitor: Visitor) -> Visitor:
    visitor.sign_in(granted(portal, Role.ADMINISTRATOR, "Ward"))
    return visitor


@pytest.fixture
def helper(portal: Portal, visitor: Visitor) -> Visitor:
    visitor.sign_in(granted(portal, Role.HELPDESK))
    return visitor


class TestWhoGetsThere:
    def test_nobody_without_a_role(self, portal: Portal, visitor: Visitor):
        visitor.sign_in(portal.bench.person(enrol=False))
        assert "Administration" not in visitor.get("/profile").text
        for path in ("/admin", "/admin/accounts", "/admin/accounts/1", "/admin/accounts/1/reset", "/admin/audit"):
            assert visitor.get(path).status_code == 404, path
        visitor.get("/profile")
        for path in ("/admin/accounts/1/disable", "/admin/accounts/add", "/admin/import", "/admin/audit/export"):
            assert visitor.post(path).status_code == 404, path

    def test_who_is_not_signed_in_is_sent_to_do_so(self, visitor: Visitor):
        assert str(visitor.get("/admin").url).endswith("/sign-in?next=/admin")

    def test_a_password_alone_is_not_enough(self, portal: Portal, visitor: Visitor):
        name = portal.newcomer()
        with portal.bench.office() as office:
            admins.grant(office, name, Role.ADMINISTRATOR)
        visitor.sign_in_by_password(name)
        for path in ("/admin", "/admin/accounts", "/admin/audit"):
            answer = visitor.get(path)
            assert answer.status_code == 403, path
            assert "Sign in again for this" in answer.text

    def test_a_role_that_is_taken_back_ends_at_once(self, portal: Portal, visitor: Visitor):
        person = granted(portal, Role.ADMINISTRATOR)
        visitor.sign_in(person)
        assert visitor.get("/admin").status_code == 200
        with portal.bench.office() as office:
            admins.revoke(office, person.username, Role.ADMINISTRATOR)
        assert visitor.get("/admin").status_code == 404

    def test_the_help_desk_finds_and_resets_and_does_nothing_else(self, portal: Portal, helper: Visitor):
        which = number(portal, portal.newcomer())
        assert helper.get("/admin").url.path == "/admin/accounts"
        assert helper.get(f"/admin/accounts/{which}").status_code == 200
        assert helper.get(f"/admin/accounts/{which}/reset").status_code == 200
        for path in ("/admin/audit", "/admin/import", "/admin/accounts/add", "/admin/trust", "/admin/policy"):
            assert helper.get(path).status_code == 404, path
        for action, fields in CHANGES:
            if action != "reset":
                path = f"/admin/accounts/{which}/{action}"
                assert helper.get(path).status_code == 404, action
                helper.get("/admin/accounts")
                assert helper.post(path, fields).status_code == 404, action


class TestOrganisations:
    @pytest.mark.parametrize("role", [Role.ADMINISTRATOR, Role.HELPDESK])
    def test_others_do_not_exist(self, portal: Portal, visitor: Visitor, role: Role):
        visitor.sign_in(granted(portal, role, "Ward"))
        other, none = portal.newcomer(organisation="Theatre"), portal.newcomer()
        before = [facts(portal, name) for name in (other, none)]
        pages = []
        for which in (number(portal, other), number(portal, none), 2**31 - 1):
            page = visitor.get(f"/admin/accounts/{which}")
            assert page.status_code == 404
            pages.append(re.sub(r"nonce=\"[^\"]*\"|<code>[^<]*</code>|[0-9a-f]{16}", "", page.text))
            for action, fields in CHANGES:
                path = f"/admin/accounts/{which}/{action}"
                assert visitor.get(path).status_code == 404, path
                visitor.get("/admin/accounts")
                assert visitor.post(path, fields).status_code == 404, path
        assert len(set(pages)) == 1, "the same answer, whether there is such an account or not"
        assert [facts(portal, name) for name in (other, none)] == before
        for name in (other, none):
            assert "No account fits" in visitor.get(f"/admin/accounts?q={name}").text

    def test_their_own_are_theirs(self, portal: Portal, local_admin: Visitor):
        name = portal.newcomer(organisation="Ward")
        which = number(portal, name)
        assert name in local_admin.get(f"/admin/accounts?q={name}").text
        local_admin.get(f"/admin/accounts/{which}/disable")
        assert local_admin.post(f"/admin/accounts/{which}/disable").status_code == 303
        assert facts(portal, name)[0]
        local_admin.get(f"/admin/accounts/{which}/organisation")
        assert local_admin.post(f"/admin/accounts/{which}/organisation", {"organisation": ""}).status_code == 400
        assert facts(portal, name)[1] == "Ward"

    def test_who_administers_is_out_of_their_reach(self, portal: Portal, local_admin: Visitor):
        boss = granted(portal, Role.ADMINISTRATOR, organisation="")
        portal.bench.sql(f"UPDATE accounts SET organisation = 'Ward' WHERE username = '{boss.username}'")
        which = number(portal, boss.username)
        assert "only an administrator of the whole site" in local_admin.get(f"/admin/accounts/{which}").text
        local_admin.get("/admin/accounts")
        for action, fields in CHANGES:
            assert local_admin.post(f"/admin/accounts/{which}/{action}", fields).status_code == 409, action
        assert facts(portal, boss.username) == (False, "Ward", frozenset({"totp"}))

    def test_a_file_stays_within_them(self, portal: Portal, local_admin: Visitor):
        other = portal.newcomer(organisation="Theatre", email=f"t{now().timestamp()}@example.org")
        mail = facts(portal, other)
        new = f"new{now().timestamp()}"
        local_admin.get("/admin/import")
        for text in (
            f"username,display_name\n{other},Mine Now",
            f"username,organisation\n{new},Theatre",
        ):
            answer = local_admin.post("/admin/import", {"csv": text, "do": "go"})
            assert answer.status_code == 400, text
            assert "Nothing was imported" in answer.text
        assert facts(portal, other) == mail
        assert local_admin.post("/admin/import", {"csv": f"username\n{new}", "do": "go"}).status_code == 200
        assert facts(portal, new)[1] == "Ward"

    def test_the_audit_trail_is_that_of_their_accounts(self, portal: Portal, local_admin: Visitor):
        mine, other = portal.newcomer(organisation="Ward"), portal.newcomer(organisation="Theatre")
        local_admin.get("/admin/audit")
        saved = local_admin.post("/admin/audit/export")
        names = {json.loads(line)["account"] for line in saved.text.splitlines()}
        assert mine in names
        assert other not in names
        assert "" not in names
        assert f"Account made, {other}" not in local_admin.get("/admin/audit").text
        assert "Nothing fits" in local_admin.get(f"/admin/audit?user={other}").text

    def test_the_dashboard_is_that_of_their_accounts(self, portal: Portal, local_admin: Visitor):
        far = portal.bench.person(enrol=False, organisation="Theatre")
        near = portal.bench.person(enrol=False, organisation="Dashing")
        person = granted(portal, Role.ADMINISTRATOR, "Dashing")
        other = portal.visitor()
        with other.http:
            other.sign_in(near)
            other.sign_in(person)
            text = other.get("/admin?days=7").text
        assert f"({near.username})" in text
        assert f"({far.username})" not in text
        assert re.search(r"<dt>Sign-ins</dt><dd>1</dd>", text), "the administrator belongs to no organisation"


class TestStepUp:
    def test_every_change_needs_a_new_sign_in(self, portal: Portal, visitor: Visitor):
        person = granted(portal, Role.ADMINISTRATOR)
        name = portal.newcomer()
        which = number(portal, name)
        visitor.sign_in(person)
        age_sessions(portal, person.username)
        assert visitor.get(f"/admin/accounts/{which}").status_code == 200
        before = facts(portal, name)
        for action, fields in CHANGES:
            path = f"/admin/accounts/{which}/{action}"
            asked = visitor.get(path)
            assert asked.status_code == 403, action
            assert f'href="/sign-in?next={path}"' in asked.text
            visitor.get("/admin/accounts")
            assert visitor.post(path, fields).status_code == 403, action
        for path, fields in (
            ("/admin/accounts/add", {"username": "x"}),
            ("/admin/import", {"csv": "username\nx", "do": "go"}),
            ("/admin/audit/export", {}),
        ):
            assert visitor.post(path, fields).status_code == 403, path
        assert facts(portal, name) == before
        assert "step-up-wanted" in [entry.event for entry in trail(portal, person.username)]

    def test_forms_need_their_token(self, portal: Portal, site_admin: Visitor):
        name = portal.newcomer()
        path = f"/admin/accounts/{number(portal, name)}/disable"
        site_admin.get(path)
        assert site_admin.post(path, {"form_token": "x"}).status_code == 403
        assert site_admin.post(path, origin="https://evil.example").status_code == 403
        assert not facts(portal, name)[0]


class TestHelpDesk:
    def test_a_reset_takes_away_what_is_chosen_and_begins_anew(self, portal: Portal, helper: Visitor):
        helped = portal.bench.person()
        owner = portal.visitor()
        with owner.http:
            owner.sign_in(helped)
            which = number(portal, helped.username)
            page = helper.get(f"/admin/accounts/{which}/reset").text
            assert "remove-app" in page
            assert "remove-cards" in page
            assert "remove-keys" not in page
            done = helper.post(f"/admin/accounts/{which}/reset", {"remove-app": "yes"})
            assert done.status_code == 200
            assert facts(portal, helped.username)[2] == {"card"}
            assert owner.get("/profile").url.path == "/sign-in", "all sessions have ended"
        code = re.search(r'id="enrolment-code">([^<]+)<', done.text)
        assert code is not None
        newcomer = portal.visitor()
        with newcomer.http:
            newcomer.get("/first-day")
            begun = newcomer.send("/first-day", {"username": helped.username, "code": unescape(code[1]), "way": "app"})
            assert 'id="secret"' in begun.text
        last = trail(portal, helped.username)[-1]
        assert last.event == "account-reset"
        page = helper.get(f"/admin/accounts/{number(portal, last.account)}").text
        assert ">Reset by the help desk<" in page, "in the words of the owner's own recent activity"
        assert ">account-reset<" in page
        assert last.detail["by"].startswith("person")
        assert last.detail["removed"] == {"app": 1}
        assert last.detail["sessions_ended"] == 1
        assert code[1] not in json.dumps(last.detail)

    def test_everything_can_be_taken_away(self, portal: Portal, helper: Visitor):
        helped = portal.bench.person()
        with portal.bench.office() as office:
            security_keys.new_recovery_codes(office, helped.username)
        which = number(portal, helped.username)
        helper.get(f"/admin/accounts/{which}/reset")
        kinds = ("app", "phones", "recovery", "keys", "cards", "app-passwords")
        assert (
            helper.post(f"/admin/accounts/{which}/reset", {f"remove-{kind}": "yes" for kind in kinds}).status_code
            == 200
        )
        assert facts(portal, helped.username)[2] == frozenset()
        removed = trail(portal, helped.username)[-1].detail["removed"]
        assert removed == {"app": 1, "phones": 0, "recovery": 10, "keys": 0, "cards": 1, "app-passwords": 0}

    def test_nobody_resets_himself_or_an_administrator(self, portal: Portal, visitor: Visitor):
        person, boss = granted(portal, Role.HELPDESK), granted(portal, Role.ADMINISTRATOR)
        visitor.sign_in(person)
        for username in (person.username, boss.username):
            which = number(portal, username)
            assert visitor.get(f"/admin/accounts/{which}/reset").status_code == 409
            visitor.get("/admin/accounts")
            assert visitor.post(f"/admin/accounts/{which}/reset", {"remove-app": "yes"}).status_code == 409
            assert facts(portal, username)[2] == {"totp"}


class TestAccounts:
    def test_each_change_does_what_it_says_and_is_on_record(self, portal: Portal, site_admin: Visitor):
        helped = portal.bench.person(enrol=False)
        name, which = helped.username, number(portal, helped.username)
        for action, fields in CHANGES:
            site_admin.get(f"/admin/accounts/{which}/{action}")
            answer = site_admin.post(f"/admin/accounts/{which}/{action}", fields)
            assert answer.status_code in (200, 303), action
        events = [entry.event for entry in trail(portal, name) if "by" in entry.detail]
        assert events == [
            "user-disabled",
            "user-enabled",
            "sessions-revoked",
            "enrolment-code-made",
            "account-reset",
            "group-joined",
            "organisation-set",
        ]
        page = site_admin.get(f"/admin/accounts/{which}").text
        assert "nurses" in page
        assert "Elsewhere" in page
        site_admin.get(f"/admin/accounts/{which}/groups")
        site_admin.post(f"/admin/accounts/{which}/groups", {"name": "nurses", "leave": "yes"})
        assert "nurses" not in site_admin.get(f"/admin/accounts/{which}/groups").text

    def test_a_disabled_account_gets_no_code(self, portal: Portal, site_admin: Visitor):
        name = portal.newcomer()
        with portal.bench.office() as office:
            people.set_disabled(office, name, disabled=True)
        which = number(portal, name)
        site_admin.get(f"/admin/accounts/{which}/code")
        assert site_admin.post(f"/admin/accounts/{which}/code").status_code == 400

    def test_adding(self, portal: Portal, site_admin: Visitor):
        name = f"added{now().timestamp()}"
        site_admin.get("/admin/accounts/add")
        fields = {"username": name, "display_name": "<b>Ada</b>", "organisation": "Ward"}
        done = site_admin.send("/admin/accounts/add", fields)
        assert "The account is made" in done.text
        assert "&lt;b&gt;Ada&lt;/b&gt;" in done.text
        site_admin.get("/admin/accounts/add")
        again = site_admin.post("/admin/accounts/add", fields)
        assert again.status_code == 400
        assert "There is a user" in again.text
        assert site_admin.post("/admin/accounts/add", {"username": "no blanks"}).status_code == 400
        assert [entry.event for entry in trail(portal, name)] == ["user-added"]

    def test_an_import_shows_first_what_it_would_do(self, portal: Portal, site_admin: Visitor):
        name, there = f"import{now().timestamp()}", portal.newcomer()
        text = f"username,display_name,groups\n{name},Ivy Import,nurses\n{there},Changed Name,\n"
        site_admin.get("/admin/import")
        check = site_admin.send("/admin/import", {"csv": text})
        assert "1 would be added, 1 changed" in check.text
        with portal.bench.office() as office, office.database.read() as tx:
            assert accounts.find(tx, name) is None
        held = re.search(r"<textarea[^>]*>\n?(.*?)</textarea>", check.text, re.S)
        assert held is not None
        assert "1 added, 1 changed" in site_admin.send("/admin/import", {"csv": unescape(held[1]), "do": "go"}).text
        assert [entry.event for entry in trail(portal, name)] == ["user-added"]
        assert trail(portal, there)[-1].event == "user-changed"

    def test_pages_of_accounts(self, portal: Portal, site_admin: Visitor):
        mark = f"crowd{int(now().timestamp())}"
        site_admin.get("/admin/import")
        text = "username\n" + "\n".join(f"{mark}-{n:02}" for n in range(30))
        site_admin.post("/admin/import", {"csv": text, "do": "go"})
        first = site_admin.get(f"/admin/accounts?q={mark}").text
        assert first.count(f"({mark}-") == 25
        following = site_admin.get(f"/admin/accounts?q={mark}&page=1").text
        assert following.count(f"({mark}-") == 5
        assert "No account fits" in site_admin.get("/admin/accounts?q=%25_%25").text
        for page in ("-1", "x", "99999999999", "²"):
            assert site_admin.get(f"/admin/accounts?q={mark}&page={page}").status_code == 200, page


class TestAudit:
    def test_searching_and_saving(self, portal: Portal, site_admin: Visitor):
        name, today = portal.newcomer(), now().date().isoformat()
        page = site_admin.get(f"/admin/audit?user={name}&since={today}&until={today}").text
        assert f"Account made, {name}" in page
        assert ">user-added<" in page, "as the search calls it"
        assert "Nothing fits" in site_admin.get(f"/admin/audit?user={name}&until=2020-01-01").text
        assert site_admin.get("/admin/audit?since=yesterday").status_code == 400
        site_admin.get(f"/admin/audit?user={name}")
        saved = site_admin.post("/admin/audit/export")
        assert saved.headers["content-type"] == "application/x-ndjson"
        rows = [json.loads(line) for line in saved.text.splitlines()]
        assert [row["event"] for row in rows] == ["user-added"]
        exported = site_admin.get("/admin/audit?event=audit-exported").text
        assert name in exported

    def test_the_log_has_what_administrators_do(
        self, portal: Portal, site_admin: Visitor, caplog: pytest.LogCaptureFixture
    ):
        caplog.set_level("INFO", "tokenbridge.audit")
        name = portal.newcomer()
        site_admin.get("/profile")
        assert site_admin.post(f"/admin/accounts/{number(portal, name)}/end-sessions").status_code == 303
        lines = [json.loads(record.message) for record in caplog.records if record.name == "tokenbridge.audit"]
        assert ("sessions-revoked", name) in [(line["event"], line["account"]) for line in lines]

    def test_a_long_trail_comes_whole_and_in_order(self, portal: Portal, site_admin: Visitor):
        with portal.bench.office() as office:
            for part in range(3):
                with office.database.write() as tx:
                    for row in range(500):
                        office.record(tx, "long-trail", "", part=part, row=row)
        site_admin.get("/admin/audit?event=long-trail")
        rows = [json.loads(line) for line in site_admin.post("/admin/audit/export").text.splitlines()]
        assert [(row["detail"]["part"], row["detail"]["row"]) for row in rows] == [
            (part, row) for part in range(3) for row in range(500)
        ]


class TestDashboard:
    def test_plots_are_tables_too(self, portal: Portal, site_admin: Visitor):
        page = site_admin.get("/admin?days=7")
        assert "default-src 'none'" in page.headers["content-security-policy"]
        assert page.text.count("<table") >= 3
        assert "Password and authenticator-app code" in page.text
        assert " style=" not in page.text
        for days in ("0", "7; DROP", "1000", ""):
            assert "The last 30 days" in site_admin.get(f"/admin?days={days}").text


class TestStanding:
    def test_trust_keys_and_policy_are_told_in_words(self, portal: Portal, site_admin: Visitor):
        site_admin.get("/admin")
        assert "/admin/trust" in site_admin.get("/admin").text
        assert "No maker has to vouch for the model" in site_admin.get("/admin/models").text
        policy = site_admin.get("/admin/policy").text
        assert "self-enrol" in policy
        assert "clients: portal; groups: @unenrolled" in policy
        assert "Requires AAL2" in policy

    def test_an_authority_is_listed_with_its_rule(self, portal: Portal, site_admin: Visitor):
        portal.bench.distrust()
        root = portal.bench.pki.root.certificate.public_bytes(DER)
        anchor = Anchor(name="listed <here>", certificate=root, hardware=True, check_revocation=False)
        with portal.bench.office() as office:
            authorities.add(office, anchor)
            text = site_admin.get("/admin/trust").text
            authorities.remove(office, anchor.name)
        assert "listed &lt;here&gt;" in text
        assert "Vouches for hardware<" in text
        assert "Revocation is not checked" in text

    def test_they_are_not_for_local_administrators(self, portal: Portal, local_admin: Visitor):
        assert "/admin/trust" not in local_admin.get("/admin").text
        for path in ("/admin/trust", "/admin/models", "/admin/policy"):
            assert local_admin.get(path).status_code == 404, path
