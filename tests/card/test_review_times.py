"""Certificates with times that DER forbids are unreadable, not a crash."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from tokenbridge.card import certificates
from tokenbridge.card.base import Fitness, Slot
from tokenbridge.rig.piv_crypto import Algorithm
from tokenbridge.rig.pki import Profile, RigPki

from .conftest import NOW, private_key

WHOLE = b"20500101000000Z"


def ending(pki: RigPki, text: bytes) -> bytes:
    """A certificate whose validity ends at the GeneralizedTime `text`; its signature is not looked at here."""
    key = private_key(Algorithm.P256).public_key()
    profile = Profile(uid="000123456789", not_before=NOW, not_after=datetime(2050, 1, 1, tzinfo=UTC))
    issued = pki.issue(key, profile, now=NOW).public_bytes(Encoding.DER)
    assert issued.count(WHOLE) == 1
    return issued.replace(WHOLE, text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (WHOLE, Fitness.FITS),
        (b"205001010000.00", Fitness.UNREADABLE),
        (b"00000101000000Z", Fitness.UNREADABLE),
        (b"20501301000000Z", Fitness.UNREADABLE),
    ],
)
def test_times(pki: RigPki, text: bytes, expected: Fitness) -> None:
    found = certificates.read(Slot.AUTHENTICATION, ending(pki, text))
    assert certificates.fitness(found, (), NOW) is expected
