"""The policy on pages: checked, applied by one of several, put back; nobody is locked out by mistake."""

from __future__ import annotations

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
from sqlalchemy import event
from sqlalchemy.orm import Session

from tests.patience import SECONDS
from tests.server.portal.conftest import SELF_ENROL, Portal, Visitor
from tests.server.portal.test_admin import granted, site_admin  # noqa: F401
from tokenbridge.server.policy_place import PolicyPlace
from tokenbridge.server.store import audit
from tokenbridge.server.store.audit import Entry
from tokenbridge.server.store.roles import Role

PEM = serialization.Encoding.PEM
CARDS_ONLY = '[[rule]]\nname = "cards only"\naal = 3\n'


def events(portal: Portal, event: str) -> list[Entry]:
    with portal.bench.office() as office, office.database.read() as tx:
        return audit.entries(tx, search=audit.Search(event=event))


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
            ready.wait(SECONDS)
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
