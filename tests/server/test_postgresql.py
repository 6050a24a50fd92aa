"""What can be wrong with a PostgreSQL: each says what to do, and the server comes back by itself."""

from __future__ import annotations

import socket
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from psycopg import sql
from sqlalchemy import select, text
from sqlalchemy.orm import Session

from tests.postgresql import PASSWORD, Cluster, cluster
from tests.server.conftest import Bench, make_bench, now, running, serving
from tokenbridge.errors import BadRequest, NotAllowedNow, SetupError
from tokenbridge.rig.pki import RigPki
from tokenbridge.server import settings
from tokenbridge.server.operator import office
from tokenbridge.server.store import accounts, database
from tokenbridge.server.store.accounts import NewAccount
from tokenbridge.server.store.database import Database
from tokenbridge.server.store.schema import Account
from tokenbridge.server.store.upgrade import upgrade


@pytest.fixture
def name(postgresql: Cluster) -> Iterator[str]:
    made = postgresql.create()
    yield made
    postgresql.drop(made)


@pytest.fixture
def migrated(postgresql: Cluster, name: str) -> Iterator[Database]:
    made = Database(postgresql.url(name))
    upgrade(made)
    yield made
    made.close()


def failure(url: str) -> SetupError:
    made = Database(url)
    try:
        with pytest.raises(SetupError) as caught, made.read() as tx:
            accounts.everybody(tx)
    finally:
        made.close()
    assert caught.value.hint
    return caught.value


class TestWayIn:
    def test_nothing_listens(self):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            found = failure(f"postgresql+psycopg://x@127.0.0.1:{free.getsockname()[1]}/x")
        assert "can't be reached" in found.message
        assert "Check that PostgreSQL runs" in found.hint

    def test_no_such_host(self):
        assert "can't be reached" in failure("postgresql+psycopg://x@nowhere.invalid/x").message

    @pytest.mark.parametrize(("user", "password"), [("postgres", "wrong-secret"), ("nobody-here", PASSWORD)])
    def test_wrong_password_and_wrong_user(self, postgresql: Cluster, user: str, password: str):
        found = failure(postgresql.tcp_url("postgres", password, user))
        assert "does not let this server in" in found.message
        assert password not in f"{found.message} {found.hint} {found.detail}"

    def test_no_such_database(self, postgresql: Cluster):
        found = failure(postgresql.tcp_url("missing"))
        assert "no such database" in found.message
        assert "CREATE DATABASE" in found.hint

    def test_never_set_up(self, postgresql: Cluster, name: str):
        assert "tokenbridge server init" in failure(postgresql.url(name)).hint

    def test_a_user_without_rights(self, postgresql: Cluster, name: str):
        postgresql.execute(sql.SQL("CREATE ROLE weak LOGIN PASSWORD {}").format(sql.Literal(PASSWORD)))
        made = Database(postgresql.tcp_url(name, user="weak"))
        with pytest.raises(SetupError, match="does not allow"):
            upgrade(made)
        made.close()

    def test_a_database_that_is_not_utf8(self, postgresql: Cluster):
        postgresql.execute("CREATE DATABASE latin ENCODING 'LATIN1' TEMPLATE template0")
        made = Database(postgresql.url("latin"))
        with pytest.raises(SetupError, match="LATIN1"):
            upgrade(made)
        made.close()

    @pytest.mark.parametrize("scheme", ["postgresql", "postgres", "postgresql+psycopg"])
    def test_urls_as_postgresqls_own_tools_write_them(self, postgresql: Cluster, scheme: str):
        made = Database(postgresql.tcp_url("postgres").replace("postgresql+psycopg", scheme))
        with made.read() as tx:
            assert tx.scalar(text("SELECT 1")) == 1
        made.close()

    @pytest.mark.parametrize("url", ["mysql://x/y", "postgresql+asyncpg://x/y", "oracle://x", "postgresql://h:port/x"])
    def test_other_databases_and_drivers(self, url: str):
        with pytest.raises(SetupError, match="can't be used"):
            Database(url)

    def test_without_the_driver(self, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setitem(sys.modules, "psycopg", None)
        with pytest.raises(SetupError) as caught:
            Database("postgresql+psycopg://x/y")
        assert "tokenbridge[postgres]" in caught.value.hint


def _add_and_fail(tx: Session) -> None:
    accounts.add(tx, NewAccount(username="bob", display_name=""), now())
    tx.flush()
    raise NotAllowedNow


class TestTransactions:
    def test_reading_sees_one_moment_and_changes_nothing(self, migrated: Database):
        with migrated.read() as tx:
            assert accounts.everybody(tx) == []
            with migrated.write() as other:
                accounts.add(other, NewAccount(username="alice", display_name=""), now())
            assert accounts.everybody(tx) == []
        with pytest.raises(SetupError, match="read-only"), migrated.read() as tx:
            tx.execute(text("UPDATE audit_head SET seq = 9"))

    def test_a_writer_alone_keeps_every_other_out(self, migrated: Database, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setattr(database, "BUSY_SECONDS", 0.05)
        other = Database(migrated._engine.url.render_as_string(hide_password=False))
        for way in (other.write, other.write_shared):
            with migrated.write(), pytest.raises(SetupError, match="busy"), way():
                pass
        with migrated.write_shared(), pytest.raises(SetupError, match="busy"), other.write():
            pass
        with migrated.write_shared(), other.write_shared() as tx:
            assert tx.scalar(select(Account.id)) is None
        other.close()

    def test_a_connection_that_waited_in_vain_serves_the_next(
        self, name: str, migrated: Database, postgresql: Cluster, monkeypatch: pytest.MonkeyPatch
    ):
        """BEGIN has gone out together with the lock that was not to be had."""
        monkeypatch.setattr(database, "BUSY_SECONDS", 0.05)
        other = Database(postgresql.url(name), connections=1)
        with migrated.write(), pytest.raises(SetupError, match="busy"), other.write_shared():
            pass
        with other.write_shared() as tx:
            accounts.add(tx, NewAccount(username="alice", display_name=""), now())
        with other.read() as tx:
            assert [account.username for account in accounts.everybody(tx)] == ["alice"]
        with pytest.raises(NotAllowedNow), other.write() as tx:
            _add_and_fail(tx)
        with other.read() as tx:
            assert [account.username for account in accounts.everybody(tx)] == ["alice"]
        other.close()

    def test_times_are_utc_whatever_the_database_thinks(self, migrated: Database, name: str, postgresql: Cluster):
        postgresql.execute(f"ALTER DATABASE {name} SET timezone = 'Pacific/Auckland'")
        migrated.close()
        with migrated.write() as tx:
            at = now()
            accounts.add(tx, NewAccount(username="alice", display_name=""), at)
        with migrated.read() as tx:
            assert accounts.get(tx, "alice").created_at.isoformat() == at.isoformat()

    def test_a_value_that_no_column_takes(self, migrated: Database):
        for display_name in ("x" * 257, "a\0b"):
            with pytest.raises(BadRequest, match="can't be stored"), migrated.write() as tx:
                accounts.add(tx, NewAccount(username="alice", display_name=display_name), now())

    def test_a_clash(self, migrated: Database):
        with migrated.write() as tx:
            accounts.add(tx, NewAccount(username="alice", display_name="", email="a@x.example"), now())
        with pytest.raises(NotAllowedNow), migrated.write() as tx:
            accounts.add(tx, NewAccount(username="bob", display_name="", email="a@x.example"), now())

    def test_more_threads_than_connections(self, name: str, postgresql: Cluster):
        made = Database(postgresql.url(name), connections=2)
        upgrade(made)

        def work() -> None:
            for _ in range(20):
                with made.read() as tx:
                    tx.scalar(text("SELECT 1"))

        threads = [threading.Thread(target=work) for _ in range(12)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        with postgresql.connect() as admin:
            count = admin.execute("SELECT count(*) FROM pg_stat_activity WHERE datname = %s", [name]).fetchone()
        made.close()
        assert count is not None
        assert count[0] <= 2


class TestInit:
    def test_the_first_init_sets_the_named_database_up(self, tmp_path: Path, name: str, postgresql: Cluster):
        data = tmp_path / "data"
        office.initialise(data, database=postgresql.tcp_url(name))
        assert not (data / "server.db").exists()
        # The password stands in it.
        assert (data / settings.FILE_NAME).stat().st_mode & 0o777 == 0o600
        with office.opened(data) as opened, opened.database.read() as tx:
            assert accounts.everybody(tx) == []

    def test_the_environment_goes_before_the_file(
        self, tmp_path: Path, name: str, postgresql: Cluster, monkeypatch: pytest.MonkeyPatch
    ):
        monkeypatch.setenv("TOKENBRIDGE_SERVER_DATABASE", postgresql.url(name))
        office.initialise(tmp_path / "data")
        assert "postgresql" not in (tmp_path / "data" / settings.FILE_NAME).read_text()
        made = Database(postgresql.url(name))
        with made.read() as tx:
            assert accounts.everybody(tx) == []
        made.close()


@pytest.fixture(scope="module")
def own() -> Iterator[Cluster]:
    # What was committed has to be there after "immediate", so it is written as in earnest.
    with cluster(durable=True) as started:
        yield started


class TestRestart:
    """On a cluster of its own, which is taken away while the server runs."""

    @pytest.fixture
    def bench(self, own: Cluster, tmp_path: Path, pki: RigPki) -> Bench:
        made = make_bench(tmp_path / "data", pki, database=own.url(own.create()))
        made.trust()
        return made

    @pytest.mark.parametrize("mode", ["fast", "immediate"])
    def test_the_server_comes_back_by_itself(self, own: Cluster, bench: Bench, mode: str):
        person = bench.person()
        with serving(bench.data) as server:
            ticket = server.begin()
            token = server.card(ticket, person.card.token(ticket["nonce"])).json()["session"]["token"]
            waiting = server.begin()
            own.stop(mode)
            for answer in (server.http.post("/api/sign-in", json={"client": "cli"}), server.session(token)):
                assert answer.status_code == 503
                assert "database" not in answer.text
                assert "postgres" not in answer.text.lower()
            own.start()
            assert server.session(token).status_code == 200
            # The nonce that was out before counts still, and once.
            evidence = person.card.token(waiting["nonce"])
            codes = [server.card(waiting, evidence).status_code for _ in range(2)]
        assert codes == [200, 409]

    def test_a_server_that_starts_before_its_database_says_so(self, own: Cluster, bench: Bench):
        own.stop()
        with pytest.raises(AssertionError, match="can't be reached"), running(bench.data):
            pass
        own.start()
        with running(bench.data) as server:
            assert server.http.get("/healthz").status_code == 200
