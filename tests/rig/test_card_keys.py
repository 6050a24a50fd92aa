"""Private keys at the card edge: rules of use, signatures, decryption, key agreement; judged by `cryptography`."""

from __future__ import annotations

import hashlib

import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed

from tokenbridge.rig.piv_crypto import RSA_BITS, Algorithm
from tokenbridge.rig.piv_objects import PinPolicy
from tokenbridge.rig.virtual_card import VirtualCard
from tokenbridge.wire import tlv

from .conftest import Host

DIGEST_INFO_SHA256 = bytes.fromhex("3031300D060960864801650304020105000420")


def pkcs1_block(message: bytes, size: int) -> bytes:
    info = DIGEST_INFO_SHA256 + hashlib.sha256(message).digest()
    return b"\x00\x01" + b"\xff" * (size - len(info) - 3) + b"\x00" + info


def response(data: bytes) -> bytes:
    found = tlv.find(data, 0x7C, 0x82)
    assert found is not None
    return found


@pytest.mark.parametrize("algorithm", sorted(RSA_BITS))
@pytest.mark.parametrize("extended", [False, True])
def test_rsa_signature(make_host, algorithm: Algorithm, extended: bool) -> None:
    host = make_host(extended=extended)
    public = host.card.generate(0x9A, algorithm)
    assert isinstance(public, rsa.RSAPublicKey)
    host.verify()
    host.card.apdus = 0
    answer = host.sign(algorithm, 0x9A, pkcs1_block(b"message", public.key_size // 8))
    public.verify(response(answer.data), b"message", padding.PKCS1v15(), hashes.SHA256())
    if extended:
        assert host.card.apdus == 1


@pytest.mark.parametrize(
    ("algorithm", "digest", "kind"),
    [(Algorithm.P256, hashlib.sha256, hashes.SHA256()), (Algorithm.P384, hashlib.sha384, hashes.SHA384())],
)
def test_ecdsa_signature(host: Host, algorithm: Algorithm, digest, kind) -> None:
    public = host.card.generate(0x9A, algorithm)
    assert isinstance(public, ec.EllipticCurvePublicKey)
    host.verify()
    signature = response(host.sign(algorithm, 0x9A, digest(b"message").digest()).data)
    public.verify(signature, b"message", ec.ECDSA(kind))


def test_short_digest_is_the_number_it_is(host: Host) -> None:
    public = host.card.generate(0x9A, Algorithm.P384)
    assert isinstance(public, ec.EllipticCurvePublicKey)
    host.verify()
    digest = hashlib.sha256(b"message").digest()
    signature = response(host.sign(Algorithm.P384, 0x9A, digest).data)
    public.verify(signature, digest, ec.ECDSA(Prehashed(hashes.SHA256())))


def test_rsa_decryption(host: Host) -> None:
    public = host.card.generate(0x9D, Algorithm.RSA2048)
    assert isinstance(public, rsa.RSAPublicKey)
    sealed = public.encrypt(b"secret", padding.PKCS1v15())
    assert host.sign(Algorithm.RSA2048, 0x9D, sealed).sw == 0x6982
    host.verify()
    block = response(host.sign(Algorithm.RSA2048, 0x9D, sealed).data)
    assert block[:2] == b"\x00\x02"
    assert block.endswith(b"\x00secret")


def test_key_agreement(host: Host) -> None:
    public = host.card.generate(0x9D, Algorithm.P256)
    assert isinstance(public, ec.EllipticCurvePublicKey)
    mine = ec.generate_private_key(ec.SECP256R1())
    point = mine.public_key().public_bytes(serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint)
    host.verify()
    answer = host.authenticate(Algorithm.P256, 0x9D, (0x82, b""), (0x85, point))
    assert response(answer.data) == mine.exchange(ec.ECDH(), public)
    bad = host.authenticate(Algorithm.P256, 0x9D, (0x82, b""), (0x85, b"\x04" + b"\x01" * 64))
    assert bad.sw == 0x6A80, "a point off the curve is refused"


def test_9a_once_for_many_signatures(host: Host) -> None:
    host.card.generate(0x9A, Algorithm.P256)
    assert host.sign(Algorithm.P256, 0x9A, bytes(32)).sw == 0x6982
    host.verify()
    assert host.sign(Algorithm.P256, 0x9A, bytes(32)).ok
    assert host.get(0x5FC102).ok
    assert host.sign(Algorithm.P256, 0x9A, bytes(32)).ok


def test_9c_wants_the_pin_each_time_and_immediately_before(host: Host) -> None:
    host.card.generate(0x9C, Algorithm.P256)
    host.verify()
    assert host.sign(Algorithm.P256, 0x9C, bytes(32)).ok
    assert host.sign(Algorithm.P256, 0x9C, bytes(32)).sw == 0x6982
    host.verify()
    host.get(0x5FC102)
    assert host.sign(Algorithm.P256, 0x9C, bytes(32)).sw == 0x6982, "something came in between"
    host.verify()
    host.card.transmit(bytes.fromhex("10DB3FFF0100"))
    assert host.sign(Algorithm.P256, 0x9C, bytes(32)).sw == 0x6982, "the beginning of a chain came in between"


def test_9e_never_wants_it(host: Host) -> None:
    host.card.generate(0x9E, Algorithm.P256)
    assert host.sign(Algorithm.P256, 0x9E, bytes(32)).ok


def test_policy_may_differ(host: Host) -> None:
    host.card.generate(0x9A, Algorithm.P256, PinPolicy.NEVER)
    assert host.sign(Algorithm.P256, 0x9A, bytes(32)).ok


@pytest.mark.parametrize(
    ("algorithm", "ref", "items", "sw"),
    [
        (Algorithm.P256, 0x9C, ((0x82, b""), (0x81, bytes(32))), 0x6A88),  # no key there
        (Algorithm.P384, 0x9A, ((0x82, b""), (0x81, bytes(48))), 0x6A86),  # another algorithm than the key's
        (Algorithm.RSA2048, 0x9E, ((0x82, b""), (0x81, b"\xff" * 256)), 0x6A80),  # not below the modulus
        (Algorithm.RSA2048, 0x9E, ((0x82, b""), (0x81, bytes(255))), 0x6A80),  # not as long as the modulus
        (Algorithm.P256, 0x9A, ((0x82, b""), (0x81, b"")), 0x6A80),  # nothing to sign
        (Algorithm.P256, 0x9A, ((0x81, bytes(32)),), 0x6A80),  # no answer asked for
    ],
)
def test_what_does_not_fit_is_refused(host: Host, algorithm: int, ref: int, items, sw: int) -> None:
    host.card.generate(0x9A, Algorithm.P256)
    host.card.generate(0x9E, Algorithm.RSA2048)
    host.verify()
    assert host.authenticate(algorithm, ref, *items).sw == sw


def test_keys_survive_in_the_file(tmp_path) -> None:
    path = tmp_path / "card.json"
    first = VirtualCard.create(path=path)
    public = first.generate(0x9E, Algorithm.P256)
    assert isinstance(public, ec.EllipticCurvePublicKey)
    host = Host(VirtualCard.load(path))
    host.select()
    signature = response(host.sign(Algorithm.P256, 0x9E, hashlib.sha256(b"x").digest()).data)
    public.verify(signature, b"x", ec.ECDSA(hashes.SHA256()))
    assert host.card.guid == first.guid
    assert host.card.state.encode() == first.state.encode()
