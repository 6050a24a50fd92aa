"""Roles and organisations by the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.server.conftest import Bench
from tests.server.test_cli import Cli
from tokenbridge.errors import BadRequest


@pytest.fixture
def cli(fresh: Bench) -> Cli:
    made = Cli(fresh.data)
    made("user", "add", "alice", "--no-password", "--organisation", " St Elsewhere ")
    return made


def test_roles_are_given_and_taken_back_and_on_record(cli: Cli) -> None:
    given = json.loads(cli("admin", "grant", "alice", "--role", "administrator", "--json"))
    assert given == {"username": "alice", "role": "administrator", "organisation": "", "changed": True}
    assert "already administrator of the whole site" in cli("admin", "grant", "ALICE", "--role", "administrator")
    cli("admin", "grant", "alice", "--role", "helpdesk", "--organisation", "St Elsewhere")
    assert json.loads(cli("admin", "list", "--json")) == [
        {"username": "alice", "role": "administrator", "organisation": ""},
        {"username": "alice", "role": "helpdesk", "organisation": "St Elsewhere"},
    ]
    assert "no longer" in cli("admin", "revoke", "alice", "--role", "administrator")
    with pytest.raises(BadRequest, match="not administrator of the whole site"):
        cli("admin", "revoke", "alice", "--role", "administrator")
    with pytest.raises(BadRequest, match="not helpdesk of the whole site"):
        cli("admin", "revoke", "alice", "--role", "helpdesk")
    assert "St Elsewhere" in cli("admin", "list")
    events = [json.loads(line)["event"] for line in cli("audit", "--json", "--user", "alice").splitlines()]
    assert events == ["user-added", "role-granted", "role-granted", "role-revoked"]


@pytest.mark.parametrize("name", ["", "  ", "a\nb", "x" * 129])
def test_an_organisation_without_a_name_is_not_the_whole_site(cli: Cli, name: str) -> None:
    with pytest.raises(BadRequest):
        cli("admin", "grant", "alice", "--role", "administrator", "--organisation", name)
    assert json.loads(cli("admin", "list", "--json")) == []


def test_nobody_unknown_gets_a_role(cli: Cli) -> None:
    with pytest.raises(BadRequest, match="no user"):
        cli("admin", "grant", "nobody", "--role", "helpdesk")


def test_organisations_of_accounts(cli: Cli, tmp_path: Path) -> None:
    file = tmp_path / "staff.csv"
    file.write_text("username,organisation\nalice,\nbob,Theatre\n")
    cli("user", "import", str(file))
    people = {one["username"]: one["organisation"] for one in json.loads(cli("user", "list", "--json"))}
    assert people == {"alice": "St Elsewhere", "bob": "Theatre"}
    file.write_text("username,organisation\nalice,Theatre\n")
    assert "changed 1" in cli("user", "import", str(file))
