"""The virtual PIV card driven by yubikit's PivSession, by extended APDUs; no reader in between.

Yubikit always sends extended APDUs to a card that says version 4 or later, so the short profile is not for it.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from yubikit.core import TRANSPORT
from yubikit.core.smartcard import SmartCardConnection
from yubikit.piv import (
    KEY_TYPE,
    MANAGEMENT_KEY_TYPE,
    OBJECT_ID,
    PIN_POLICY,
    SLOT,
    InvalidPinError,
    PivSession,
)

from tokenbridge.rig.card_state import DEFAULT_MANAGEMENT_KEY, CardProfile
from tokenbridge.rig.virtual_card import VirtualCard

pytestmark = pytest.mark.foreign


class Direct(SmartCardConnection):
    """Yubikit's connection, straight to a card."""

    def __init__(self, card: VirtualCard) -> None:
        self.card = card
        card.reset()

    @property
    def transport(self) -> TRANSPORT:
        return TRANSPORT.USB

    def send_and_receive(self, apdu: bytes) -> tuple[bytes, int]:
        answer = self.card.transmit(bytes(apdu))
        return answer[:-2], int.from_bytes(answer[-2:], "big")

    def close(self) -> None:
        self.card.reset()


@pytest.fixture
def card() -> VirtualCard:
    return VirtualCard.create(profile=CardProfile(extended_length=True))


@pytest.fixture
def session(card: VirtualCard) -> Iterator[PivSession]:
    with Direct(card) as connection:
        piv = PivSession(connection)
        piv.authenticate(DEFAULT_MANAGEMENT_KEY)
        yield piv


@pytest.mark.parametrize("kind", [KEY_TYPE.RSA2048, KEY_TYPE.ECCP256, KEY_TYPE.ECCP384])
def test_generate_and_sign(session: PivSession, kind: KEY_TYPE) -> None:
    public = session.generate_key(SLOT.AUTHENTICATION, kind)
    session.verify_pin("123456")
    signature = session.sign(SLOT.AUTHENTICATION, kind, b"message", hashes.SHA256(), padding.PKCS1v15())
    if isinstance(public, rsa.RSAPublicKey):
        public.verify(signature, b"message", padding.PKCS1v15(), hashes.SHA256())
    else:
        assert isinstance(public, ec.EllipticCurvePublicKey)
        public.verify(signature, b"message", ec.ECDSA(hashes.SHA256()))
    metadata = session.get_slot_metadata(SLOT.AUTHENTICATION)
    assert metadata.generated
    assert metadata.public_key == public
    assert metadata.pin_policy is PIN_POLICY.ONCE


def test_import_and_agree_on_a_key(session: PivSession) -> None:
    mine, theirs = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    session.put_key(SLOT.KEY_MANAGEMENT, mine, PIN_POLICY.ONCE)
    session.verify_pin("123456")
    shared = session.calculate_secret(SLOT.KEY_MANAGEMENT, theirs.public_key())
    assert shared == mine.exchange(ec.ECDH(), theirs.public_key())


def test_decrypt(session: PivSession) -> None:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    session.put_key(SLOT.KEY_MANAGEMENT, key)
    session.verify_pin("123456")
    sealed = key.public_key().encrypt(b"secret", padding.PKCS1v15())
    assert session.decrypt(SLOT.KEY_MANAGEMENT, sealed, padding.PKCS1v15()) == b"secret"


def test_pins(session: PivSession, card: VirtualCard) -> None:
    with pytest.raises(InvalidPinError) as caught:
        session.verify_pin("999999")
    assert caught.value.attempts_remaining == 2
    assert session.get_pin_metadata().attempts_remaining == 2
    session.change_pin("123456", "111111")
    session.unblock_pin("12345678", "222222")
    session.change_puk("12345678", "87654321")
    session.verify_pin("222222")
    assert card.tries_left() == 3


def test_management_key_and_large_object(session: PivSession, card: VirtualCard) -> None:
    session.set_management_key(MANAGEMENT_KEY_TYPE.AES256, bytes(range(32)))
    with Direct(card) as connection:
        again = PivSession(connection)
        assert again.management_key_type is MANAGEMENT_KEY_TYPE.AES256
        again.authenticate(bytes(range(32)))
        again.put_object(OBJECT_ID.PRINTED, b"x" * 3000)
        again.verify_pin("123456")
        assert again.get_object(OBJECT_ID.PRINTED) == b"x" * 3000
