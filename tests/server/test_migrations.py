"""Migrations on both databases: up, down, with rows in the tables, and by several processes at once."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import inspect

from tests.patience import ended, go
from tests.server.conftest import Bench, Databases, now
from tokenbridge.errors import SetupError
from tokenbridge.server.keys import Key, KeyRing
from tokenbridge.server.operator import people
from tokenbridge.server.operator.suspensions import set_suspended
from tokenbridge.server.store import accounts, audit
from tokenbridge.server.store.database import Database
from tokenbridge.server.store.key_schema import SecurityKey
from tokenbridge.server.store.suspensions import Kind
from tokenbridge.server.store.upgrade import MIGRATIONS, downgrade, upgrade

RING = KeyRing((Key(id=bytes(8), value=bytes(32)),))
UPGRADE = (
    "import sys; from tokenbridge.server.store.database import Database;"
    "from tokenbridge.server.store.upgrade import upgrade;"
    "database = Database(sys.argv[1]); print('begin', flush=True); sys.stdin.readline(); upgrade(database)"
)


@pytest.fixture
def url(tmp_path: Path, databases: Databases) -> Iterator[str]:
    made = databases.new() or f"sqlite:///{tmp_path / 'x.db'}"
    yield made
    databases.drop(made)


@contextmanager
def opened(url: str) -> Iterator[Database]:
    database = Database(url)
    try:
        yield database
    finally:
        database.close()


def revisions() -> list[str]:
    """Oldest first."""
    script = ScriptDirectory(str(MIGRATIONS))
    return [revision.revision for revision in reversed(list(script.walk_revisions()))]


def tables(database: Database) -> set[str]:
    with database.connection() as connection:
        return set(inspect(connection).get_table_names())


def difference(database: Database) -> list[object]:
    with database.connection() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True, "compare_server_default": True})
        return list(compare_metadata(context, SecurityKey.metadata))


def functions(database: Database) -> list[str]:
    if database.is_sqlite:
        return []
    with database.connection() as connection:
        found = connection.exec_driver_sql("SELECT proname FROM pg_proc WHERE pronamespace = 'public'::regnamespace")
        return [row[0] for row in found]


def test_there_is_one_line_of_revisions():
    assert len(ScriptDirectory(str(MIGRATIONS)).get_heads()) == 1


def test_up_down_and_up_again_from_empty(url: str):
    with opened(url) as database:
        upgrade(database)
        assert difference(database) == []
        downgrade(database, "base")
        assert tables(database) == {"alembic_version"}
        assert functions(database) == []
        upgrade(database)
        assert difference(database) == []


def test_every_step_goes_down_and_up(url: str):
    steps = revisions()
    with opened(url) as database:
        upgrade(database)
        for below in reversed(["base", *steps[:-1]]):
            downgrade(database, below)
            upgrade(database)
            assert difference(database) == []
            downgrade(database, below)


def test_rows_survive_the_way_down_and_up(fresh: Bench):
    """What only newer tables hold is lost; the people, their apps and the trail are not."""
    fresh.trust()
    person = fresh.person(nhs_uid="999999999999")
    with fresh.office() as office:
        for below in reversed(revisions()[:-1]):
            downgrade(office.database, below)
        upgrade(office.database)
        with office.database.write() as tx:
            account = accounts.get(tx, person.username)
            assert account.nhs_uid == "999999999999"
            assert accounts.totp(tx, account.id) is not None
            assert len(audit.entries(tx)) == 4
            # Below 0002 there is no seal: the trail is sealed anew, as `init` does it, and is whole.
            assert audit.seal_first(tx, office.ring)
            assert audit.verify(tx, office.ring).broken_at is None


def test_below_suspensions_nothing_that_is_suspended_comes_back(fresh: Bench):
    fresh.trust()
    lost, kept = fresh.person(), fresh.person()
    with fresh.office() as office:
        for name in (lost.username, kept.username):
            assert len(people.cards_of(office, name)) == 1
        ((card, _),) = people.cards_of(office, lost.username)
        set_suspended(office, Kind.CARD, card.id, suspended=True)
        downgrade(office.database, "0015")
        upgrade(office.database)
        assert people.cards_of(office, lost.username) == []
        ((card, _),) = people.cards_of(office, kept.username)
        assert card.suspended_at is None


def test_rows_of_the_first_schema_survive_the_way_up(url: str):
    columns = "id, username, display_name, disabled, created_at"
    with opened(url) as database:
        upgrade(database)
        downgrade(database, "0001")
        with database.connection() as connection:
            false = "0" if database.is_sqlite else "false"
            row = f"1, 'alice', 'Alice', {false}, '2026-01-01 00:00:00.000000'"
            connection.exec_driver_sql(f"INSERT INTO accounts ({columns}) VALUES ({row})")
        upgrade(database)
        with database.write() as tx:
            alice = accounts.get(tx, "alice")
            assert alice.created_at.isoformat() == "2026-01-01T00:00:00+00:00"
            assert not alice.disabled
            audit.append(tx, now(), audit.Event(event="x", detail={}), RING)


def test_a_migration_that_fails_leaves_what_was_there(url: str, monkeypatch: pytest.MonkeyPatch):
    with opened(url) as database:
        with database.connection() as connection:
            connection.exec_driver_sql("CREATE TABLE recovery_codes (id INTEGER)")  # in the way of 0003
        with pytest.raises(SetupError):
            upgrade(database)
        assert tables(database) == {"recovery_codes"}
        with database.connection() as connection:
            connection.exec_driver_sql("DROP TABLE recovery_codes")
        upgrade(database)
        assert difference(database) == []


def test_no_way_down_to_what_is_not_there(url: str):
    with opened(url) as database:
        upgrade(database)
        with pytest.raises(SetupError, match="no way down"):
            downgrade(database, "9999")


def test_processes_that_start_at_once_migrate_once(url: str):
    command = [sys.executable, "-c", UPGRADE, url]
    started = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(4)
    ]
    with ended(*started):
        go(started, "begin")
        said = [process.communicate(timeout=60)[1] for process in started]
    assert [process.returncode for process in started] == [0] * 4, said
    with opened(url) as database:
        assert difference(database) == []
