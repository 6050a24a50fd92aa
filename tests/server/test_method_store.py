"""Migration of the methods' tables, down and up; codes that were sent: one winner, back-off, a crash in between."""

from __future__ import annotations

import concurrent.futures
import datetime as dt
from collections.abc import Iterator
from pathlib import Path

import pytest
from alembic import command
from alembic.config import Config
from sqlalchemy import inspect

from tests.server.conftest import now
from tokenbridge.rp.proof import Method
from tokenbridge.server.keys import new_token
from tokenbridge.server.store import accounts, phones, sent_codes
from tokenbridge.server.store.accounts import NewAccount
from tokenbridge.server.store.database import Database
from tokenbridge.server.store.phones import NewPhone
from tokenbridge.server.store.sent_codes import NewCode, Stage
from tokenbridge.server.store.upgrade import MIGRATIONS, upgrade


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    made = Database(f"sqlite:///{tmp_path / 'x.db'}")
    upgrade(made)
    yield made
    made.close()


@pytest.fixture
def owner(database: Database) -> tuple[int, int]:
    """An account and its telephone."""
    with database.write() as tx:
        account = accounts.add(tx, NewAccount(username="ada", display_name="Ada"), now()).id
        new = NewPhone(number=b"sealed", number_hash="h" * 64, text=True, whatsapp=False)
        phone = phones.add(tx, account, new, now()).id
        assert phones.of(tx, account) == []
        assert phones.confirm(tx, phone, now())
        assert not phones.confirm(tx, phone, now())
    return account, phone


def code(owner: tuple[int, int], ref: str = "r") -> NewCode:
    return NewCode(
        account_id=owner[0], phone_id=owner[1], ref=ref, method=Method.SMS, code_hash="c" * 64, reference=new_token()
    )


def test_the_migration_runs_down_and_up(database: Database):
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    with database.connection() as connection:
        config.attributes["connection"] = connection
        command.downgrade(config, "0008")
        assert "phones" not in inspect(connection).get_table_names()
        assert "algorithm" not in [column["name"] for column in inspect(connection).get_columns("totp_secrets")]
    with database.connection() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
    with database.connection() as connection:
        assert "phones" in inspect(connection).get_table_names()


def test_a_code_is_marked_by_one_of_many(database: Database, owner: tuple[int, int]):
    with database.write() as tx:
        number = sent_codes.reserve(tx, code(owner), now())
        assert sent_codes.mark(tx, number, Stage.RESERVED, Stage.SENT)

    def use(_: int) -> bool:
        with database.write() as tx:
            return sent_codes.mark(tx, number, Stage.SENT, Stage.USED)

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        assert sorted(pool.map(use, range(8))) == [False] * 7 + [True]


def test_five_tries_each(database: Database, owner: tuple[int, int]):
    with database.write() as tx:
        number = sent_codes.reserve(tx, code(owner), now())
        assert not sent_codes.count_try(tx, number, now()), "reserved but never sent: nothing to try"
        sent_codes.mark(tx, number, Stage.RESERVED, Stage.SENT)
        assert not sent_codes.count_try(tx, number, now() + sent_codes.LIFETIME), "too old"
        assert [sent_codes.count_try(tx, number, now()) for _ in range(6)] == [True] * 5 + [False]


def test_the_newest_voids_the_others_of_its_sign_in(database: Database, owner: tuple[int, int]):
    with database.write() as tx:
        first = sent_codes.reserve(tx, code(owner), now())
        other = sent_codes.reserve(tx, code(owner, "another"), now())
        second = sent_codes.reserve(tx, code(owner), now())
        assert not sent_codes.mark(tx, first, Stage.RESERVED, Stage.SENT)
        assert sent_codes.mark(tx, other, Stage.RESERVED, Stage.SENT)
        assert sent_codes.mark(tx, second, Stage.RESERVED, Stage.SENT)


def test_a_report_counts_once_and_takes_the_message_out_of_the_wait(database: Database, owner: tuple[int, int]):
    at = now()
    with database.write() as tx:
        new = code(owner)
        number = sent_codes.reserve(tx, new, at)
        assert sent_codes.free_at(tx, owner[0], at) > at
        found = [sent_codes.undelivered(tx, new.reference), sent_codes.undelivered(tx, new.reference)]
        assert found[0] is not None
        assert (found[0].id, found[1]) == (number, None)
        assert sent_codes.free_at(tx, owner[0], at) == at
        assert not sent_codes.mark(tx, number, Stage.RESERVED, Stage.SENT), "also if it comes before that is noted"
        assert not sent_codes.count_try(tx, number, at)
        used = code(owner)
        sent_codes.mark(tx, sent_codes.reserve(tx, used, at), Stage.RESERVED, Stage.USED)
        old = code(owner, "x")
        sent_codes.reserve(tx, old, at)
        sent_codes.reserve(tx, code(owner, "x"), at)
        assert [sent_codes.undelivered(tx, one.reference) for one in (used, old)] == [None, None], "used, replaced"
        assert sent_codes.undelivered(tx, "nobody's") is None


def test_waits_grow_across_sign_ins_and_used_codes_do_not_count(database: Database, owner: tuple[int, int]):
    at = now()
    with database.write() as tx:
        waits = []
        for count in range(6):
            number = sent_codes.reserve(tx, code(owner, f"r{count}"), at)
            waits.append((sent_codes.free_at(tx, owner[0], at) - at).total_seconds())
        assert waits == [30, 60, 120, 240, 480, 480]
        sent_codes.mark(tx, number, Stage.RESERVED, Stage.USED)
        assert sent_codes.free_at(tx, owner[0], at) == at + dt.timedelta(seconds=480)
        late = at + sent_codes.WINDOW
        assert sent_codes.free_at(tx, owner[0], late) == late
