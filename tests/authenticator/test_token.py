"""The token's own rules, each by itself: commands check several of them at once."""

from __future__ import annotations

import pytest
from fido2.ctap2.pin import PinProtocol as HostProtocol
from fido2.ctap2.pin import PinProtocolV1, PinProtocolV2

from tokenbridge.authenticator.profile import PinProtocol, Profile
from tokenbridge.authenticator.token import CEREMONIES, Permission, PinUvAuthToken

from .conftest import RP_HASH, Counting

ALL = CEREMONIES | Permission.LARGE_BLOB_WRITE
MESSAGE = b"message"
HOSTS: dict[PinProtocol, HostProtocol] = {PinProtocol.ONE: PinProtocolV1(), PinProtocol.TWO: PinProtocolV2()}


@pytest.fixture
def token() -> PinUvAuthToken:
    return PinUvAuthToken(Profile(), Counting())


@pytest.mark.parametrize("protocol", list(PinProtocol))
def test_it_verifies_by_its_own_protocol_only(token: PinUvAuthToken, protocol: PinProtocol) -> None:
    other = PinProtocol.TWO if protocol is PinProtocol.ONE else PinProtocol.ONE
    value = token.begin(protocol, ALL, None, user_present=False, now=0)
    assert not token.verifies(other, MESSAGE, HOSTS[other].authenticate(value, MESSAGE), 1)
    assert not token.verifies(protocol, b"another", HOSTS[protocol].authenticate(value, MESSAGE), 1)
    assert token.verifies(protocol, MESSAGE, HOSTS[protocol].authenticate(value, MESSAGE), 1)


def test_spent_it_writes_large_blobs_and_nothing_else(token: PinUvAuthToken) -> None:
    token.begin(PinProtocol.TWO, ALL, "example.org", user_present=True, now=0)
    assert token.user_verified()
    assert token.user_present(1)
    token.spend()
    assert not token.user_verified()
    assert not token.user_present(1)
    assert [token.permits(permission) for permission in (*CEREMONIES, Permission.LARGE_BLOB_WRITE)] == [
        False,
        False,
        True,
    ]


def test_the_site_it_is_for(token: PinUvAuthToken) -> None:
    assert not token.fits("example.org")
    assert not token.fits_hash(RP_HASH)
    token.begin(PinProtocol.TWO, ALL, None, user_present=False, now=0)
    assert token.fits("other.org")
    token.bind("example.org")
    token.bind("other.org")
    assert (token.rp_id, token.fits("other.org"), token.fits_hash(RP_HASH)) == ("example.org", False, True)


def test_it_does_nothing_when_it_was_reset(token: PinUvAuthToken) -> None:
    value = token.begin(PinProtocol.TWO, ALL, None, user_present=True, now=0)
    token.reset()
    token.bind("example.org")
    token.spend()
    assert token.rp_id is None
    assert not token.permits(ALL)
    assert not token.user_present(0)
    assert not token.verifies(PinProtocol.TWO, MESSAGE, HOSTS[PinProtocol.TWO].authenticate(value, MESSAGE), 0)
