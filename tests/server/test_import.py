"""People from a CSV file: all of it or nothing."""

from __future__ import annotations

import csv
import datetime as dt
import io
import json
from pathlib import Path

import pytest

from tests.server.conftest import Bench, now
from tests.server.test_cli import Cli
from tokenbridge.errors import BadRequest
from tokenbridge.server.administration import people_rows, spreadsheet
from tokenbridge.server.operator import office, people
from tokenbridge.server.store import code_sheets
from tokenbridge.server.store.accounts import NewAccount

STAFF = """username,display_name,email,nhs_uid,groups
alice,Alice Archer,Alice@Example.org,555000000123,nurses; ward 7
bob,"Baker, Bob",,,
"""


@pytest.fixture
def cli(fresh: Bench) -> Cli:
    return Cli(fresh.data)


def write(tmp_path: Path, text: str | bytes) -> str:
    path = tmp_path / "staff.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return str(path)


def test_people_are_added_and_the_same_file_again_changes_nothing(cli: Cli, tmp_path: Path) -> None:
    file = write(tmp_path, STAFF)
    would = json.loads(cli("user", "import", file, "--dry-run", "--json"))
    assert (would["added"], would["dry_run"]) == (["alice", "bob"], True)
    assert json.loads(cli("user", "list", "--json")) == []
    assert "Added 2, changed 0, 0 were up to date." in cli("user", "import", file)
    assert "Added 0, changed 0, 2 were up to date." in cli("user", "import", file)
    people = {one["username"]: one for one in json.loads(cli("user", "list", "--json"))}
    assert people["bob"]["display_name"] == "Baker, Bob"
    assert people["alice"]["email"] == "alice@example.org"
    assert {one["name"] for one in json.loads(cli("group", "list", "--json"))} == {"nurses", "ward 7"}


def test_what_is_new_in_a_file_is_changed_and_an_empty_cell_is_not(cli: Cli, tmp_path: Path) -> None:
    cli("user", "import", write(tmp_path, STAFF))
    again = "\ufeffusername,display_name,email\r\nALICE,Alice Baker,\r\n"
    assert json.loads(cli("user", "import", write(tmp_path, again), "--json"))["changed"] == ["alice"]
    people = {one["username"]: one for one in json.loads(cli("user", "list", "--json"))}
    assert (people["alice"]["display_name"], people["alice"]["email"]) == ("Alice Baker", "alice@example.org")


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("", "no column username"),
        ("name\nalice", "unknown columns name"),
        ("username,username\na,b", "stands there twice"),
        ("username,email\nalice", "line 2 has more or fewer cells"),
        ("username\nalice,x", "line 2 has more or fewer cells"),
        ("username\nalice\nno spaces please\n", "line 3: 'no spaces please' can't be a user name"),
        ("username,nhs_uid\nalice,12", "line 2: An NHS user id has exactly 12 digits"),
        ("username,email\nalice,a@x\nbob,a@x\n", "line 3: email a@x belongs to alice"),
        ("username,groups\nalice,\x07", "line 2: '\\\\x07' can't be the name of a group"),
        ('username\n"alice', "unexpected end of data"),
        (b"username\n\xff\n", "is not UTF-8"),
        ("username\n" + "x" * 200, "line 2:"),
    ],
)
def test_a_bad_line_is_named_and_nothing_is_imported(cli: Cli, tmp_path: Path, text: str | bytes, fault: str) -> None:
    with pytest.raises(BadRequest, match=fault):
        cli("user", "import", write(tmp_path, text))
    assert json.loads(cli("user", "list", "--json")) == []
    assert cli("audit", "--json") == ""


def test_many_faults_are_cut_short(cli: Cli, tmp_path: Path) -> None:
    with pytest.raises(BadRequest, match="and 10 more"):
        cli("user", "import", write(tmp_path, "username\n" + "- -\n" * 30))


def test_a_file_that_is_too_large(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(people_rows, "MAX_ROWS", 1)
    with pytest.raises(BadRequest, match="more than 1 lines"):
        cli("user", "import", write(tmp_path, STAFF))
    monkeypatch.setattr(people_rows, "MAX_BYTES", 20)
    with pytest.raises(BadRequest, match="larger than"):
        cli("user", "import", write(tmp_path, STAFF))


def test_sheets_of_codes_do_not_outlive_the_rotation_of_keys(fresh: Bench) -> None:
    with fresh.office() as opened:
        account = people.add(opened, NewAccount(username="alice", display_name="A"), None)
        with opened.database.write() as tx:
            code_sheets.add(tx, account.id, 1, b"sealed", (now(), now() + dt.timedelta(hours=1)))
            assert len(code_sheets.waiting(tx, account.id, now())) == 1
        office.rotate_keys(opened)
        with opened.database.read() as tx:
            assert code_sheets.waiting(tx, account.id, now()) == []


@pytest.mark.parametrize("cell", ["=1+1", "+1", "-1", "@SUM(A1)", "\tx", "\rx"])
def test_no_cell_of_a_spreadsheet_begins_a_formula(cell: str) -> None:
    rows = list(csv.reader(io.StringIO(spreadsheet.written(("a", "b"), [("x", cell)]).decode("utf-8-sig"), newline="")))
    assert rows == [["a", "b"], ["x", f"'{cell}"]]
