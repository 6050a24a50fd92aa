"""When old rows are cleared away: at once, then now and then, more often in a flood, whatever the clock does."""

from __future__ import annotations

import datetime as dt

from sqlalchemy import update

from tests.server.conftest import Bench, now, serving
from tokenbridge.server import keys
from tokenbridge.server.broom import EVERY, MOST, Broom
from tokenbridge.server.store import sign_ins
from tokenbridge.server.store.schema import SignIn

SECOND = dt.timedelta(seconds=1)


def test_the_first_is_due_and_then_one_after_a_while():
    broom, at = Broom(), now()
    assert broom.is_due(at)
    assert not any(broom.is_due(at + number * SECOND) for number in range(10))
    assert broom.is_due(at + EVERY)
    assert not broom.is_due(at + EVERY + SECOND)


def test_in_a_flood_one_of_many_is_due():
    broom, at = Broom(), now()
    assert [broom.is_due(at) for _ in range(3 * MOST + 1)].count(True) == 4


def test_a_clock_that_is_set_back_makes_it_due():
    broom, at = Broom(), now()
    assert broom.is_due(at)
    assert broom.is_due(at - SECOND)


def test_what_ended_long_ago_goes_with_a_later_beginning(fresh: Bench):
    with serving(fresh.data) as server:
        old = keys.hash_token(server.begin()["transaction"])
        with fresh.office() as opened, opened.database.write() as tx:
            tx.execute(update(SignIn).values(expires_at=now() - sign_ins.KEEP - SECOND))
        for _ in range(MOST):
            server.begin()
    kept = {row[0] for row in fresh.sql("SELECT token_hash FROM sign_ins")}
    assert len(kept) == MOST
    assert old not in kept
