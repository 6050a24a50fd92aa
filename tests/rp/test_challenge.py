"""Challenges: shape, lifetime, and no randomness or clock of their own."""

from __future__ import annotations

from base64 import b64decode
from datetime import UTC, datetime, timedelta

import pytest

from tokenbridge.errors import Rejected, RejectReason
from tokenbridge.rp.challenge import Challenge, check, new_challenge

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)


def challenge() -> Challenge:
    return new_challenge(random=bytes(range(32)), origin="https://localhost:8443", now=NOW)


def test_the_nonce_is_44_characters_of_base64() -> None:
    got = challenge()
    assert len(got.nonce) == 44
    assert b64decode(got.nonce, validate=True) == bytes(range(32))
    assert got.expires_at - got.issued_at == timedelta(minutes=5)


@pytest.mark.parametrize("seconds", [0, 1, 299.999])
def test_is_good_for_five_minutes(seconds: float) -> None:
    check(challenge(), NOW + timedelta(seconds=seconds))


@pytest.mark.parametrize("seconds", [300, 301, 86400, -1])
def test_is_refused_afterwards_and_before_it_was_issued(seconds: float) -> None:
    with pytest.raises(Rejected) as caught:
        check(challenge(), NOW + timedelta(seconds=seconds))
    assert caught.value.reason is RejectReason.CHALLENGE_EXPIRED


@pytest.mark.parametrize("length", [0, 31, 33])
def test_takes_exactly_32_random_bytes(length: int) -> None:
    with pytest.raises(ValueError, match="32"):
        new_challenge(random=bytes(length), origin="https://localhost", now=NOW)


def test_takes_no_naive_time() -> None:
    with pytest.raises(ValueError, match="time zone"):
        new_challenge(random=bytes(32), origin="https://localhost", now=NOW.replace(tzinfo=None))
