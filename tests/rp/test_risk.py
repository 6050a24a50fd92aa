"""What is unusual, row by row, and what must never be noticed."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokenbridge.rp.risk import Limits, Use, Usual, network_of, notice
from tokenbridge.rp.rules import Signal

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
HABITS = Usual(
    devices=frozenset({"d1"}),
    networks=frozenset({"n1"}),
    countries=frozenset({"GB"}),
    last=("GB", NOW - timedelta(hours=1)),
)


def use(device: str = "d1", network: str = "n1", country: str = "GB") -> Use:
    return Use(device=device, network=network, country=country, at=NOW)


@pytest.mark.parametrize(
    ("now", "signals"),
    [
        (use(), set()),
        (use(device="d2"), {Signal.NEW_DEVICE}),
        (use(device=""), {Signal.NEW_DEVICE}),
        (use(network="n2"), {Signal.NEW_NETWORK}),
        (use(network=""), {Signal.NEW_NETWORK}),
        (use(country=""), set()),
        (use(country="FR"), {Signal.NEW_COUNTRY, Signal.IMPOSSIBLE_TRAVEL}),
    ],
)
def test_what_is_noticed(now: Use, signals: set[Signal]) -> None:
    assert notice(HABITS, now, Limits()) == signals


def test_a_first_use_is_not_unusual() -> None:
    assert notice(Usual(), use(), Limits()) == frozenset()


def test_travel_takes_its_time() -> None:
    abroad = Usual(countries=frozenset({"GB", "FR"}), last=("FR", NOW - timedelta(hours=3)))
    assert notice(abroad, use(), Limits()) == frozenset()
    just = Usual(countries=frozenset({"GB", "FR"}), last=("FR", NOW - timedelta(hours=2, minutes=59)))
    assert notice(just, use(), Limits()) == {Signal.IMPOSSIBLE_TRAVEL}


def test_failures() -> None:
    assert notice(Usual(failures=9), use(), Limits()) == frozenset()
    assert notice(Usual(failures=10), use(), Limits()) == {Signal.MANY_FAILURES}


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("192.0.2.77", "192.0.2.0/24"),
        ("::ffff:192.0.2.77", "192.0.2.0/24"),
        ("2001:db8:1:2::3", "2001:db8:1::/48"),
        ("", ""),
        ("hospital.example", ""),
    ],
)
def test_networks(address: str, network: str) -> None:
    assert network_of(address) == network


@given(st.text(max_size=40))
def test_no_address_is_too_odd(address: str) -> None:
    assert network_of(address) == "" or "/" in network_of(address)
