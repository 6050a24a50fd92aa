"""`tokenbridge demo --keep`: what the administrator does on pages, and what the others notice of it."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from tests.browsing import chromium

from .demo_kept import Kept
from .demo_people import Person, administrator, newcomer

pytestmark = [pytest.mark.pcscd, pytest.mark.foreign]


@pytest.fixture(scope="module")
def browser(kept: Kept) -> Iterator[Browser]:
    with chromium(kept.directory / "server") as started:
        yield started


@pytest.fixture(scope="module")
def codes(kept: Kept) -> list[str]:
    """The administrator's that are printed last, each for one sign-in."""
    return re.findall(r"(?:[0-9A-Z]{4}-){5}[0-9A-Z]{4}", kept.output.partition("each once:")[2])


@pytest.fixture
def boss(kept: Kept, browser: Browser, codes: list[str]) -> Iterator[Person]:
    """The administrator, signed in, at Administration."""
    made = administrator(kept, browser)
    made.uses_recovery_code(codes.pop(0))
    made.signed_in_by("password and recovery code")
    made.open("/profile")
    made.follow("Administration")
    made.sees("Dashboard")
    yield made
    made.leave()


def test_the_printed_app_key_lets_the_administrator_in(kept: Kept, browser: Browser) -> None:
    person = administrator(kept, browser)
    person.signs_in()
    person.signed_in_by("password and authenticator-app code")
    person.leave()


def test_a_changed_policy_holds_at_the_next_sign_in_and_is_put_back(boss: Person, browser: Browser) -> None:
    other = newcomer(boss.kept, browser, "paula")
    codes = other.begins()
    other.signs_out()
    boss.follow("Policy")
    boss.picture("admin-policy")
    boss.follow("Edit the policy")
    text = boss.page.get_by_label("Policy file (TOML)")
    text.fill(text.input_value() + boss.kept.printed(r"\n +(aal = 3)\n") + "\n")
    boss.picture("admin-policy-edit")
    boss.press("Check")
    boss.sees("Apply this policy?")
    boss.picture("admin-policy-check")
    confirms(boss)
    boss.press("Apply")
    boss.reads("The policy is in force.")
    other.types_password()
    expect(other.page.get_by_role("heading", level=1)).not_to_have_text("You are signed in")
    other.reads("AAL3")
    other.picture("policy-too-strict")
    boss.follow("Policy")
    boss.page.get_by_role("link", name=re.compile("^Put back")).first.click()
    boss.press("Check")
    boss.press("Apply")
    boss.reads("The policy is in force.")
    other.uses_recovery_code(codes[0])
    other.signed_in_by("password and recovery code")
    other.leave()


def confirms(boss: Person) -> None:
    """Whoever would lock themselves out is told what to type, and types it."""
    label = boss.page.locator("label").filter(has_text="To do it all the same, type: ").inner_text().strip()
    boss.fill(label, label.partition("type: ")[2])


def test_people_come_from_a_list_and_begin_with_a_one_time_code(boss: Person, browser: Browser, tmp_path: Path) -> None:
    boss.follow("Import")
    boss.picture("admin-import")
    lines = boss.kept.printed(r"\n +(username,display_name,email\n +\S.*)\n").splitlines()
    boss.fill("Or CSV text", "\n".join(line.strip() for line in lines))
    boss.press("Show what would happen")
    boss.sees("Check the import")
    boss.reads("1 would be added")
    boss.page.get_by_label("Make a one-time enrolment code for each new account").check()
    boss.picture("admin-import-check")
    boss.press("Import")
    boss.sees("Imported")
    boss.picture("admin-imported")
    with boss.page.expect_download() as saved:
        boss.page.get_by_role("button", name=re.compile("^Save the codes as CSV")).click()
    saved.value.save_as(tmp_path / "codes.csv")
    row = next(csv.DictReader(io.StringIO((tmp_path / "codes.csv").read_text("utf-8-sig"))))
    nina = Person(boss.kept, browser, "nina")
    begins_with(nina, next(value for value in row.values() if value.count("-") == 5))
    nina.leave()


def begins_with(person: Person, code: str) -> None:
    """The first day, or a new beginning: an authenticator app by a one-time code."""
    person.open("/sign-in")
    person.follow("Set up your account with a one-time code")
    person.fill("User name", person.name)
    person.fill("One-time code", code)
    person.picture("first-day")
    person.press("Continue")
    person.sets_an_app_up()
    person.sees("Your recovery codes")
    person.picture("first-day-done")


def test_the_help_desk_resets_what_was_lost(boss: Person, browser: Browser) -> None:
    person = newcomer(boss.kept, browser, "hugo")
    codes = person.begins()
    boss.follow("Accounts")
    boss.picture("admin-accounts")
    boss.fill("User name, name or e-mail holds", "hugo")
    boss.press("Search")
    boss.follow("Hugo (hugo)")
    boss.picture("admin-account")
    boss.follow("Reset what was lost")
    boss.page.get_by_label("Authenticator app").check()
    boss.page.get_by_label("Recovery codes").check()
    boss.picture("admin-reset")
    boss.press("Reset the account")
    boss.sees("The account is reset")
    boss.picture("admin-reset-done")
    code = boss.page.locator("#enrolment-code").inner_text()
    person.open("/profile")
    person.sees("Sign in")
    begins_with(person, code)
    person.uses_recovery_code(codes[0])
    expect(person.page.get_by_role("alert")).to_contain_text("There is a problem")
    person.signs_in()
    person.signed_in_by("password and authenticator-app code")
    person.leave()


def test_the_dashboard_and_the_audit_trail_know_what_happened(boss: Person, tmp_path: Path) -> None:
    """The demo itself has signed in by card and key, and by password and code."""
    boss.picture("admin-dashboard")
    totals = {
        row.locator("dt").inner_text(): int(row.locator("dd").inner_text())
        for row in boss.page.locator(".portal-totals > div").all()
    }
    assert totals["Challenges suppressed"] >= 3
    assert totals["Challenges shown"] >= 2
    boss.follow("Audit trail")
    boss.picture("admin-audit")
    boss.fill("User name", "ada")
    boss.fill("Event", "signed-in")
    boss.press("Search")
    expect(boss.page.locator(".portal-events > li").first).to_contain_text("Signed in, ada")
    boss.picture("admin-audit-found")
    with boss.page.expect_download() as saved:
        boss.press("Save all that fit as JSON lines")
    saved.value.save_as(tmp_path / "audit.jsonl")
    rows = [json.loads(line) for line in (tmp_path / "audit.jsonl").read_text().splitlines()]
    assert {(row["event"], row["account"]) for row in rows} == {("signed-in", "ada")}
    assert any("no text message or app code needed" in json.dumps(row) for row in rows)


@pytest.mark.parametrize("page", ["Trust", "Key models"])
def test_what_else_there_is_to_look_at(boss: Person, page: str) -> None:
    boss.follow(page)
    expect(boss.page.get_by_role("heading", level=1)).not_to_have_text(re.compile("Sorry|Sign in"))
    boss.picture(f"admin-{page.lower().replace(' ', '-')}")
