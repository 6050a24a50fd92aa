"""The administration pages in Chromium: both widths, accessibility, and a reset from search to code."""

from __future__ import annotations

import datetime as dt
import json
import random
import re

import pytest
from playwright.sync_api import expect

from tests.metadata_maker import Service, entry
from tests.server.conftest import DER, now
from tests.server.portal.conftest import Portal
from tests.server.portal.test_browser import Window, browser, window  # noqa: F401 - fixtures
from tokenbridge.server.operator import admins
from tokenbridge.server.store import audit
from tokenbridge.server.store.audit import Event
from tokenbridge.server.store.roles import Role

# As in test_browser: what the browser sees does not depend on the database.
pytestmark = [
    pytest.mark.foreign,
    pytest.mark.parametrize("databases", ["sqlite"], indirect=True, scope="session"),
]

CAUSES = ("password: wrong password", "card: revoked by its issuer", "code: the code is wrong")


def history(portal: Portal, username: str, days: int) -> None:
    """Sign-ins of the past, as the server writes them down."""
    chance = random.Random(7)
    with portal.bench.office() as office, office.database.write() as tx:
        for back in range(days, 0, -1):
            at = now() - dt.timedelta(days=back)
            for _ in range(chance.randint(2, 9)):
                detail = {"methods": ["card"], "suppressed": ["totp"], "assurance": {"aal": 3}}
                audit.append(tx, at, Event(event="signed-in", account=username, detail=detail), office.ring)
            for _ in range(chance.randint(1, 5)):
                detail = {"methods": ["password", "totp"], "suppressed": [], "assurance": {"aal": 2}}
                audit.append(tx, at, Event(event="signed-in", account=username, detail=detail), office.ring)
            failed = {"detail": chance.choice(CAUSES)}
            audit.append(tx, at, Event(event="refused", account=username, detail=failed), office.ring)


def signed_in(window: Window, organisation: str | None = None) -> None:  # noqa: F811
    person = window.portal.bench.person(enrol=False)
    with window.portal.bench.office() as office:
        admins.grant(office, person.username, Role.ADMINISTRATOR, organisation)
    window.sign_in(person.username)
    window.fill("Code of your authenticator app", person.code())
    window.press("Continue")


def test_the_dashboard(window: Window):  # noqa: F811
    # An organisation of its own: what the dashboard counted for others is remembered for a minute.
    history(window.portal, window.portal.newcomer(organisation="Plotted"), 29)
    window.portal.bench.person(enrol=False, organisation="Plotted")
    signed_in(window, "Plotted")
    window.follow("Profile")
    window.follow("Administration")
    expect(window.page.locator("h1")).to_have_text("Dashboard")
    window.look("admin-dashboard")
    window.page.get_by_text("Challenges as a table").click()
    expect(
        window.page.get_by_role("table", name="Challenges suppressed and shown, and failures, by day")
    ).to_be_visible()
    window.look("admin-dashboard-table")
    window.follow("7 days")
    expect(window.page.locator("main")).to_contain_text("The last 7 days")
    window.follow("90 days")
    window.look("admin-dashboard-90")


def test_from_search_to_a_reset(window: Window):  # noqa: F811
    helped = window.portal.bench.person(enrol=False, organisation="Ward 7")
    signed_in(window)
    window.open("/admin/accounts")
    window.look("admin-accounts")
    window.fill("User name, name or e-mail holds", helped.username)
    window.press("Search")
    window.follow(f"A Person ({helped.username})")
    window.look("admin-account")
    window.page.get_by_role("link", name="Change groups").click()
    window.fill("Name of the group", "nurses")
    window.press("Put into the group")
    window.look("admin-groups")
    window.follow(helped.username)
    window.page.get_by_role("link", name="Change organisation").click()
    window.look("admin-organisation")
    window.follow(helped.username)
    window.follow("Disable")
    window.look("admin-disable")
    window.follow("Leave it as it is")
    window.follow("Reset what was lost")
    window.page.get_by_label("Authenticator app").check()
    window.look("admin-reset")
    window.press("Reset the account")
    expect(window.page.locator("#enrolment-code")).to_have_text(re.compile(r"\w{4}"))
    window.look("admin-code")
    window.follow("I have passed it on")
    expect(window.page.locator("main")).to_contain_text("account-reset")


def test_adding_importing_and_the_trail(window: Window):  # noqa: F811
    signed_in(window)
    mark = f"{now():%H%M%S%f}"
    window.open("/admin/accounts/add")
    window.fill("User name", f"ada{mark}")
    window.fill("Name as shown", "Ada Added")
    window.look("admin-add")
    window.press("Add the account")
    expect(window.page.locator("main")).to_contain_text("The account is made")
    window.open("/admin/import")
    window.look("admin-import")
    window.fill("Or CSV text", "username,colour\nx,red")
    window.press("Show what would happen")
    window.look("admin-import-wrong")
    window.fill("Or CSV text", f"username,display_name\nivy{mark},Ivy Import\nada{mark},Ada Again")
    window.press("Show what would happen")
    window.look("admin-import-check")
    window.press("Import")
    window.look("admin-imported")
    window.open("/admin/audit")
    window.fill("Detail holds", "person")
    window.press("Search")
    window.look("admin-audit")
    with window.page.expect_download() as saved:
        window.press("Save all that fit as JSON lines")
    rows = [json.loads(line) for line in saved.value.path().read_text().splitlines()]
    assert {"user-added", "user-changed"} <= {row["event"] for row in rows}


def choose(window: Window, label: str, name: str, data: bytes) -> None:  # noqa: F811
    file = {"name": name, "mimeType": "application/octet-stream", "buffer": data}
    window.page.get_by_label(label, exact=True).set_input_files(file)


def test_an_import_from_a_file_with_codes(window: Window):  # noqa: F811
    signed_in(window)
    mark = f"{now():%H%M%S%f}"
    window.open("/admin/import")
    choose(window, "CSV file (UTF-8)", "staff.csv", f"username\nno blanks\n{mark}\n- -\n".encode())
    window.press("Show what would happen")
    expect(window.page.locator("main")).to_contain_text("2 lines are wrong")
    window.look("admin-import-faults")
    choose(window, "CSV file (UTF-8)", "staff.csv", f"username,display_name\nfil{mark},=1+1\n".encode())
    window.press("Show what would happen")
    window.page.get_by_label("Make a one-time enrolment code").check()
    window.look("admin-import-check-codes")
    with window.page.expect_download() as listed:
        window.press("Save this list as CSV")
    assert "added" in listed.value.path().read_text()
    window.press("Import")
    window.look("admin-imported-codes")
    with window.page.expect_download() as saved:
        window.page.get_by_role("button", name="Save the codes as CSV").click()
    text = saved.value.path().read_text("utf-8-sig")
    assert f"fil{mark}" in text
    assert "'=1+1" in text
    window.open("/admin/import")
    expect(window.page.get_by_role("button", name="Save the codes as CSV")).to_have_count(0)


def test_a_file_that_is_too_large_is_told_and_the_page_stays_usable(window: Window):  # noqa: F811
    signed_in(window)
    window.open("/admin/import")
    choose(window, "CSV file (UTF-8)", "staff.csv", b"username\n" + b"x" * (8 << 20))
    window.press("Show what would happen")
    expect(window.page.locator("h1")).to_have_text("That is too large")
    window.look("admin-too-large")


def test_an_authority_from_file_to_removal(window: Window):  # noqa: F811
    window.portal.bench.distrust()
    signed_in(window)
    window.open("/admin/trust")
    window.look("admin-trust")
    window.follow("Add an authority")
    window.look("admin-trust-add")
    window.fill("Name", "browser")
    choose(window, "Certificate of the authority", "ca.pem", b"no certificate")
    window.press("Show what this means")
    window.look("admin-trust-add-wrong")
    choose(window, "Certificate of the authority", "ca.crt", window.portal.bench.pki.root.certificate.public_bytes(DER))
    window.page.get_by_label("Its keys live in hardware").check()
    window.press("Show what this means")
    window.look("admin-trust-check")
    window.press("Trust this authority")
    expect(window.page.locator("main")).to_contain_text("The authority is trusted from now on")
    window.look("admin-trust-one")
    window.page.get_by_role("link", name="Change the rule of browser").click()
    window.look("admin-trust-rule")
    window.page.get_by_label("The account with the e-mail address").check()
    window.press("Show what this means")
    window.look("admin-trust-change")
    window.press("Change the rule")
    expect(window.page.locator("main")).to_contain_text("The rule of the authority is changed")
    window.page.get_by_role("link", name="Remove browser").click()
    window.look("admin-trust-remove")
    window.press("Remove the authority")
    expect(window.page.locator("main")).to_contain_text("is not trusted any more")


def test_models_and_metadata(window: Window):  # noqa: F811
    service = Service()
    signed_in(window)
    window.open("/admin/models")
    window.look("admin-models")
    choose(window, "Blob of the FIDO Metadata Service", "blob.jwt", b"a.b.c")
    window.press("Load the metadata")
    window.look("admin-models-wrong")
    window.page.get_by_text("It comes from a service of our own").click()
    window.look("admin-models-root")
    choose(window, "Blob of the FIDO Metadata Service", "blob.jwt", service.blob(entry([service.maker.der])))
    choose(window, "Root certificate of that service", "root.pem", service.maker.pem)
    window.press("Load the metadata")
    expect(window.page.locator("main")).to_contain_text("Test Key 5")
    window.look("admin-models-loaded")


def test_the_policy_from_editor_to_putting_back(window: Window):  # noqa: F811
    signed_in(window)
    before = (window.portal.bench.data / "policy.toml").read_text()
    window.open("/admin/policy")
    window.look("admin-policy")
    window.follow("Edit the policy")
    window.look("admin-policy-edit")
    window.fill("Policy file (TOML)", before + '\n[[rule]]\nname = "odd"\ncolour = 1\naal = 9\n')
    window.press("Check")
    expect(window.page.locator("main")).to_contain_text("Line 14:")
    window.look("admin-policy-faults")
    window.fill("Policy file (TOML)", '[[rule]]\nname = "cards only"\naal = 3\n')
    window.press("Check")
    expect(window.page.locator("main")).to_contain_text("Yours is among them")
    window.page.get_by_text("Who, and how").click()
    window.look("admin-policy-lock-out")
    window.press("Apply")
    expect(window.page.get_by_label(re.compile("To do it all the same"))).to_be_visible()
    assert (window.portal.bench.data / "policy.toml").read_text() == before
    window.fill("Policy file (TOML)", before + "# mended\n")
    window.press("Check again")
    window.look("admin-policy-check")
    window.press("Apply")
    expect(window.page.locator("main")).to_contain_text("The policy is in force")
    assert (window.portal.bench.data / "policy.toml").read_text() == before + "# mended\n"
    window.look("admin-policy-applied")
    window.page.get_by_role("link", name="Put back").first.click()
    window.look("admin-policy-put-back")
    window.press("Check")
    window.press("Apply")
    expect(window.page.locator("main")).to_contain_text("The policy is in force")
    assert (window.portal.bench.data / "policy.toml").read_text() == before
