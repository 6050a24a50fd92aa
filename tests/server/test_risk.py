"""From where accounts are used: what is learned, noticed, hidden and forgotten. Real database, real country file."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from pathlib import Path

import pytest
from mmdb_writer import MMDBWriter
from netaddr import IPSet
from sqlalchemy import select

from tests.server.conftest import Bench, now
from tokenbridge.errors import SetupError
from tokenbridge.rp.risk import Limits
from tokenbridge.rp.rules import Signal
from tokenbridge.server import settings
from tokenbridge.server.countries import Countries
from tokenbridge.server.keys import KeyBook
from tokenbridge.server.risk import RiskDesk, Whereabouts
from tokenbridge.server.store import accounts, places
from tokenbridge.server.store.accounts import NewAccount
from tokenbridge.server.store.database import Database
from tokenbridge.server.store.places import Kind
from tokenbridge.server.store.schema import AccountPlace, Throttle

HOME = Whereabouts(address="81.2.69.10", device="browser-1")
ABROAD = Whereabouts(address="78.192.1.1", device="browser-1")
HOUR = dt.timedelta(hours=1)


def write_countries(path: Path, **networks: str) -> Path:
    writer = MMDBWriter(ip_version=6, ipv4_compatible=True)
    for code, network in networks.items():
        writer.insert_network(IPSet([network]), {"country": {"iso_code": code}})
    new = path.with_suffix(".new")
    writer.to_db_file(str(new))
    return new.replace(path)


@pytest.fixture
def countries(tmp_path: Path) -> Iterator[Countries]:
    found = Countries(write_countries(tmp_path / "c.mmdb", GB="81.2.69.0/24", FR="78.192.0.0/16"))
    yield found
    found.close()


@pytest.fixture
def database(fresh: Bench) -> Iterator[Database]:
    found = Database(settings.load(fresh.data).database_url)
    yield found
    found.close()


@pytest.fixture
def desk(fresh: Bench, countries: Countries) -> RiskDesk:
    return RiskDesk(keys=KeyBook(settings.load(fresh.data).key_file), countries=countries, limits=Limits())


@pytest.fixture
def ada(database: Database) -> int:
    with database.write() as tx:
        return accounts.add(tx, NewAccount(username="ada", display_name="Ada"), now()).id


def test_the_first_sign_in_is_usual_and_another_country_is_not(desk: RiskDesk, database: Database, ada: int) -> None:
    at = now()
    with database.write() as tx:
        assert desk.notice(tx, ada, HOME, at) == frozenset()
        desk.learn(tx, ada, HOME, at)
        assert desk.notice(tx, ada, HOME, at + HOUR) == frozenset()
        soon = desk.notice(tx, ada, ABROAD, at + HOUR)
        assert soon == {Signal.NEW_NETWORK, Signal.NEW_COUNTRY, Signal.IMPOSSIBLE_TRAVEL}
        later = desk.notice(tx, ada, ABROAD, at + 4 * HOUR)
        assert later == {Signal.NEW_NETWORK, Signal.NEW_COUNTRY}
        desk.learn(tx, ada, ABROAD, at + 4 * HOUR)
        assert desk.notice(tx, ada, ABROAD, at + 4 * HOUR) == frozenset()
        assert desk.notice(tx, ada, HOME, at + 5 * HOUR) == {Signal.IMPOSSIBLE_TRAVEL}


def test_the_same_network_of_another_address_is_usual_and_another_device_is_not(
    desk: RiskDesk, database: Database, ada: int
) -> None:
    with database.write() as tx:
        desk.learn(tx, ada, HOME, now())
        near = Whereabouts(address="81.2.69.200", device="browser-1")
        assert desk.notice(tx, ada, near, now()) == frozenset()
        for device in ("browser-2", ""):
            other = Whereabouts(address=HOME.address, device=device)
            assert desk.notice(tx, ada, other, now()) == {Signal.NEW_DEVICE}


def test_failures_are_noticed_and_a_success_forgets_them(desk: RiskDesk, database: Database, ada: int) -> None:
    at = now()
    with database.write() as tx:
        for _ in range(9):
            desk.failed(tx, ada, at)
        assert desk.notice(tx, ada, HOME, at) == frozenset()
        desk.failed(tx, ada, at)
        assert desk.notice(tx, ada, HOME, at) == {Signal.MANY_FAILURES}
        assert desk.notice(tx, ada, HOME, at + HOUR) == frozenset()
        desk.learn(tx, ada, HOME, at)
        assert desk.notice(tx, ada, HOME, at) == frozenset()
        assert tx.scalars(select(Throttle)).all() == []


def test_the_database_does_not_tell_where_people_work(desk: RiskDesk, database: Database, ada: int) -> None:
    with database.write() as tx:
        bob = accounts.add(tx, NewAccount(username="bob", display_name="Bob"), now()).id
        for account in (ada, bob):
            desk.learn(tx, account, HOME, now())
        rows = [row for row in tx.scalars(select(AccountPlace)) if row.kind != Kind.COUNTRY]
        assert len({row.value for row in rows}) == 4
        assert all(len(row.value) == 64 and "81.2" not in row.value for row in rows)


def test_habits_are_forgotten_and_their_number_is_bounded(desk: RiskDesk, database: Database, ada: int) -> None:
    at = now()
    with database.write() as tx:
        desk.learn(tx, ada, HOME, at)
        much_later = at + places.KEEP + HOUR
        assert desk.notice(tx, ada, ABROAD, much_later) == frozenset()
        for number in range(places.MOST + 10):
            where = Whereabouts(address=f"10.0.{number}.1", device=f"d{number}")
            desk.learn(tx, ada, where, much_later + dt.timedelta(minutes=number))
        found = places.of(tx, ada, "", much_later + HOUR).places
        assert [kind for kind, _, _ in found].count(Kind.NETWORK) == places.MOST
        assert tx.scalar(select(AccountPlace).where(AccountPlace.value == "GB")) is None


class TestCountries:
    def test_addresses(self, countries: Countries) -> None:
        assert countries.of("81.2.69.10") == "GB"
        assert countries.of("::ffff:81.2.69.10") in {"GB", ""}
        for nowhere in ("10.0.0.1", "2001:db8::1", "", "nonsense", "81.2.69.10/24"):
            assert countries.of(nowhere) == ""

    def test_without_a_file_no_address_is_anywhere(self) -> None:
        assert Countries(None).of("81.2.69.10") == ""

    def test_a_file_that_is_none(self, tmp_path: Path) -> None:
        (tmp_path / "c.mmdb").write_bytes(b"not a database")
        for path in (tmp_path / "c.mmdb", tmp_path / "none.mmdb"):
            with pytest.raises(SetupError, match="file of countries"):
                Countries(path)

    def test_a_new_file_is_followed_and_a_bad_one_is_not(self, tmp_path: Path) -> None:
        path = write_countries(tmp_path / "c.mmdb", GB="81.2.69.0/24")
        found = Countries(path)
        write_countries(path, IE="81.2.69.0/24")
        assert found.of("81.2.69.10") == "IE"
        bad = tmp_path / "bad"
        bad.write_bytes(b"not a database")
        bad.replace(path)
        assert found.of("81.2.69.10") == "IE"
        found.close()
