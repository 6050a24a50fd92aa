"""Only a challenge of the right form is signed, only for what the site takes, and nothing else can be."""

from __future__ import annotations

import hashlib

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from tokenbridge.card import authentication
from tokenbridge.card.sign_in import Ask, Terms
from tokenbridge.errors import NoUsableCertificate, OriginRefused
from tokenbridge.rig.piv_crypto import Algorithm
from tokenbridge.wire.apdu import INS

from .conftest import NONCE, NOW, ORIGIN, Bench, DirectLink, private_key


def test_digest_is_that_of_the_two_digests() -> None:
    for name in ("sha256", "sha384"):
        parts = hashlib.new(name, ORIGIN.encode()).digest() + hashlib.new(name, NONCE.encode()).digest()
        assert authentication.challenge_digest(name, ORIGIN, NONCE) == hashlib.new(name, parts).digest()


def test_what_is_moved_from_origin_to_nonce_changes_the_digest() -> None:
    one = authentication.challenge_digest("sha256", ORIGIN + "a", "b" * 44)
    other = authentication.challenge_digest("sha256", ORIGIN, "a" + "b" * 44)
    assert one != other


BOUNDS = {
    "no origin": ("", NONCE),
    "origin too long": ("https://" + "a" * 248, NONCE),
    "no nonce": (ORIGIN, ""),
    "nonce too short": (ORIGIN, "a" * 43),
    "nonce too long": (ORIGIN, "a" * 129),
}


@pytest.mark.parametrize(("origin", "nonce"), BOUNDS.values(), ids=BOUNDS.keys())
def test_challenges_out_of_bounds_are_not_signed(bench: Bench, origin: str, nonce: str) -> None:
    link = DirectLink(bench.card())
    snapshot = bench.inspect(link)
    with pytest.raises(OriginRefused):
        bench.authorize(link, snapshot, ask=bench.ask(origin=origin, nonce=nonce))
    assert not [apdu for apdu in link.sent if apdu[1] == INS.GENERAL_AUTHENTICATE]


@pytest.mark.parametrize(("origin", "nonce"), [("h", "a" * 44), ("https://" + "a" * 247, "a" * 128)])
def test_bounds_themselves_are_good(bench: Bench, origin: str, nonce: str) -> None:
    link = DirectLink(bench.card())
    assert bench.authorize(link, bench.inspect(link), ask=bench.ask(origin=origin, nonce=nonce))


@pytest.mark.parametrize("algorithms", [(), ("RS256",), ("ES384", "PS256"), ("es256",)])
def test_a_site_that_does_not_take_the_cards_signatures(bench: Bench, algorithms: tuple[str, ...]) -> None:
    link = DirectLink(bench.card(Algorithm.P256))
    snapshot = bench.inspect(link)
    ask = Ask(origin=ORIGIN, nonce=NONCE, terms=Terms(issuers=(), algorithms=algorithms, now=NOW))
    with pytest.raises(NoUsableCertificate) as caught:
        bench.authorize(link, snapshot, ask=ask)
    assert "ES256" in caught.value.message
    assert not [apdu for apdu in link.sent if apdu[1] == INS.GENERAL_AUTHENTICATE]


@pytest.mark.parametrize("algorithm", [Algorithm.RSA2048, Algorithm.RSA3072])
def test_pkcs1_block_is_what_the_public_key_sees(algorithm: Algorithm) -> None:
    key = private_key(algorithm)
    assert isinstance(key, rsa.RSAPrivateKey)
    block = authentication.pkcs1_block(hashlib.sha256(b"m").digest(), key.key_size // 8)
    assert len(block) == key.key_size // 8
    assert block.startswith(b"\0\1\xff\xff")
    numbers = key.private_numbers()
    raised = pow(int.from_bytes(block, "big"), numbers.d, numbers.public_numbers.n)
    key.public_key().verify(raised.to_bytes(len(block), "big"), b"m", padding.PKCS1v15(), hashes.SHA256())
