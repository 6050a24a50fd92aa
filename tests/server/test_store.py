"""The database: migrations against models, and many writers at once."""

from __future__ import annotations

import concurrent.futures
import datetime as dt
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import func, select

from tests.server.conftest import Databases, now
from tokenbridge.errors import NotAllowedNow, SetupError
from tokenbridge.rp.assurance import NOTHING
from tokenbridge.rp.challenge import new_challenge
from tokenbridge.rp.rules import Lifetimes
from tokenbridge.server import login
from tokenbridge.server.keys import Key, KeyRing
from tokenbridge.server.store import accounts, audit, sessions, sign_ins, throttle
from tokenbridge.server.store.accounts import NewAccount
from tokenbridge.server.store.database import Database
from tokenbridge.server.store.schema import SessionRow
from tokenbridge.server.store.sign_ins import NewSignIn
from tokenbridge.server.store.upgrade import upgrade

RING = KeyRing((Key(id=bytes(8), value=bytes(32)),))


@pytest.fixture
def database(tmp_path: Path, databases: Databases) -> Iterator[Database]:
    url = databases.new() or f"sqlite:///{tmp_path / 'x.db'}"
    made = Database(url)
    upgrade(made)
    with made.write() as tx:
        assert audit.seal_first(tx, RING)
    yield made
    made.close()
    databases.drop(url)


def test_upgrade_twice_changes_nothing(database: Database):
    with database.write() as tx:
        audit.append(tx, now(), audit.Event(event="x", detail={}), RING)
    upgrade(database)
    with database.read() as tx:
        assert audit.verify(tx, RING).rows == 1


def test_database_of_a_newer_version_is_left_alone(database: Database):
    with database.connection() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(SetupError, match="newer"):
        upgrade(database)


@pytest.mark.parametrize("url", ["nonsense", "sqlite:////nowhere/at/all/x.db", "oracle://x"])
def test_unusable_database_is_a_setup_error(url: str):
    def use() -> None:
        with Database(url).read() as tx:
            accounts.everybody(tx)

    with pytest.raises(SetupError):
        use()


def test_many_writers_make_one_chain(database: Database):
    def write(number: int) -> None:
        for count in range(10):
            with database.write() as tx:
                audit.append(tx, now(), audit.Event(event="x", account=f"writer{number}", detail={"n": count}), RING)

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        list(pool.map(write, range(8)))
    with database.read() as tx:
        assert audit.verify(tx, RING) == audit.Verdict(rows=80)
        mine = audit.entries(tx, account="writer3")
    assert [entry.detail["n"] for entry in mine] == list(range(10))


def test_a_transaction_moves_once_from_one_version(database: Database):
    with database.write() as tx:
        challenge = new_challenge(random=bytes(32), origin="https://x", now=now())
        sign_ins.add(tx, "ref", NewSignIn(client="cli", challenge=challenge))
    with database.read() as tx:
        pending = sign_ins.find(tx, "ref")
    assert pending is not None
    assert pending.challenge == challenge
    with database.write() as tx:
        sign_ins.change(tx, pending, login.Judging())
    with pytest.raises(NotAllowedNow), database.write() as tx:
        sign_ins.change(tx, pending, login.Cancelled())
    with database.read() as tx:
        after = sign_ins.find(tx, "ref")
    assert after is not None
    assert after.state == login.Judging()


def test_a_time_step_is_spent_once_and_never_backwards(database: Database):
    with database.write() as tx:
        account = accounts.add(tx, NewAccount(username="alice", display_name=""), now())
        accounts.set_totp(tx, account.id, b"sealed", now())
    spent = []
    for step in (100, 100, 99, 101):
        with database.write() as tx:
            spent.append(accounts.spend_step(tx, account.id, step))
    assert spent == [True, False, False, True]


def test_identifiers_belong_to_one_account(database: Database):
    with database.write() as tx:
        accounts.add(tx, NewAccount(username="alice", display_name="", email="A@x.example"), now())
    with pytest.raises(NotAllowedNow), database.write() as tx:
        accounts.add(tx, NewAccount(username="bob", display_name="", email="a@X.example"), now())


def test_throttle_counts_per_name_and_minute(database: Database):
    start = dt.datetime(2026, 1, 1, 12, 0, 30, tzinfo=dt.UTC)

    def attempts(name: str, at: dt.datetime, count: int) -> list[bool]:
        with database.write() as tx:
            return [throttle.allow(tx, throttle.PASSWORDS, name, at) for _ in range(count)]

    assert attempts("alice", start, 12) == [True] * 10 + [False] * 2
    assert attempts("bob", start, 1) == [True]
    assert attempts("alice", start + dt.timedelta(seconds=30), 1) == [True]


STRANGER = KeyRing((Key(id=bytes(8), value=bytes([1]) * 32),))


def test_a_trail_written_without_the_key_file_shows(database: Database):
    """Who has the database can make rows whose hashes fit; the seal they can not, nor does time heal it."""
    with database.write() as tx:
        audit.append(tx, now(), audit.Event(event="true", detail={}), RING)
    with database.write() as tx:
        audit.append(tx, now(), audit.Event(event="forged", detail={}), STRANGER)
    for _ in range(2):
        with database.read() as tx:
            verdict = audit.verify(tx, RING)
        assert verdict.broken_at == verdict.rows
        assert "key file" in verdict.what
        with database.write() as tx:
            audit.append(tx, now(), audit.Event(event="true again", detail={}), RING)


def test_a_trail_is_sealed_once_and_then_by_the_newest_key(database: Database):
    renewed = RING.rotated()
    with database.write() as tx:
        assert not audit.seal_first(tx, STRANGER)
        audit.append(tx, now(), audit.Event(event="x", detail={}), renewed)
    with database.read() as tx:
        assert audit.verify(tx, renewed).broken_at is None
        assert audit.verify(tx, RING).broken_at is not None  # as after the old key was given up


def test_a_clock_that_was_wrong_for_a_moment_keeps_nobody_out(database: Database):
    start = dt.datetime(2026, 1, 1, 12, 0, 30, tzinfo=dt.UTC)
    for at in (start + dt.timedelta(days=3650), start):
        with database.write() as tx:
            assert all(throttle.allow(tx, throttle.PASSWORDS, "alice", at) for _ in range(10))
    with database.write() as tx:
        assert not throttle.allow(tx, throttle.PASSWORDS, "alice", start)


def test_a_flood_of_beginnings_pushes_out_the_oldest(database: Database, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sign_ins, "KEEP_AT_MOST", 10)
    for number in range(25):
        with database.write() as tx:
            sign_ins.purge(tx, now())
            challenge = new_challenge(random=number.to_bytes(32, "big"), origin="https://x", now=now())
            sign_ins.add(tx, f"ref{number}", NewSignIn(client="cli", challenge=challenge))
    with database.read() as tx:
        there = [number for number in range(25) if sign_ins.find(tx, f"ref{number}") is not None]
    assert there == list(range(14, 25))


def test_sessions_are_forgotten_a_day_after_their_end(database: Database):
    lifetimes = Lifetimes(idle=dt.timedelta(minutes=15), overall=dt.timedelta(hours=12))
    with database.write() as tx:
        account = accounts.add(tx, NewAccount(username="alice", display_name=""), now())
        new = sessions.NewSession(token_hash="t", account_id=account.id, sign_in_ref="ref", assurance=NOTHING)
        end = sessions.add(tx, new, now(), lifetimes)
    left = []
    for at in (end + sessions.KEEP, end + sessions.KEEP + dt.timedelta(seconds=1)):
        with database.write() as tx:
            sessions.purge(tx, at)
            left.append(tx.scalar(select(func.count()).select_from(SessionRow)))
    assert left == [1, 0]
