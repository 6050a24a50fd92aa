"""Data objects, the management key, key generation and vendor provisioning at the card edge."""

from __future__ import annotations

import gzip

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from tokenbridge.rig import piv_crypto, piv_objects
from tokenbridge.rig.card_state import DEFAULT_MANAGEMENT_KEY
from tokenbridge.rig.piv_crypto import Algorithm
from tokenbridge.rig.piv_objects import PinRef, Tag
from tokenbridge.rig.piv_vendor import VendorINS
from tokenbridge.wire import tlv
from tokenbridge.wire.apdu import INS, Command, Response

from .conftest import PIV, Host


def test_select_answers_the_property_template_at_once(make_host) -> None:
    host = make_host(selected=False)
    raw = host.card.transmit(Command(0, INS.SELECT, 4, 0, PIV, 256).short())
    answer = Response.parse(raw)
    assert answer.sw == 0x9000, "never 61xx: yubico-piv-tool gives up on it"
    assert tlv.find(answer.data, 0x61, 0x4F) == piv_objects.AID[5:]
    assert tlv.find(answer.data, 0x61, 0x79, 0x4F) == piv_objects.AID[:5]


@pytest.mark.parametrize("length", [5, 9, 11])
def test_select_by_any_beginning(make_host, length: int) -> None:
    host = make_host(selected=False)
    assert host.send(INS.SELECT, 4, 0, piv_objects.AID[:length]).ok


@pytest.mark.parametrize("aid", [b"", piv_objects.AID[:4], piv_objects.AID + b"\0", bytes.fromhex("A000000308000020")])
def test_select_of_something_else(make_host, aid: bytes) -> None:
    host = make_host(selected=False)
    assert host.send(INS.SELECT, 4, 0, aid).sw == 0x6A82


def test_chuid_names_the_card(host: Host) -> None:
    content = tlv.find(host.get(Tag.CHUID).data, 0x53)
    assert content is not None
    assert tlv.find(content, 0x34) == host.card.guid


def test_long_object_comes_in_pieces_or_whole(make_host) -> None:
    for extended, apdus in ((False, 4), (True, 1)):
        host = make_host(extended=extended)
        host.card.install_certificate(0x9A, bytes(range(256)) * 3 + b"x" * 100)
        host.card.apdus = 0
        data = host.get(Tag.CERT_AUTHENTICATION).data
        assert tlv.find(data, 0x53, 0x70) == bytes(range(256)) * 3 + b"x" * 100
        assert host.card.apdus == apdus


def test_compressed_certificate(make_host) -> None:
    host = make_host(gzip_certificates=True)
    host.card.install_certificate(0x9C, b"certificate" * 100)
    data = host.get(Tag.CERT_SIGNATURE).data
    packed = tlv.find(data, 0x53, 0x70)
    assert packed is not None
    assert gzip.decompress(packed) == b"certificate" * 100
    assert tlv.find(data, 0x53, 0x71) == b"\x01"


@pytest.mark.parametrize("tag", sorted(piv_objects.BEHIND_PIN))
def test_objects_behind_the_pin(host: Host, tag: int) -> None:
    host.card.put_object(tag, b"private")
    assert host.get(tag).sw == 0x6982
    host.verify()
    assert tlv.find(host.get(tag).data, 0x53) == b"private"


def test_absent_and_unknown_objects(host: Host) -> None:
    assert host.get(Tag.SECURITY).sw == 0x6A82
    assert host.get(0x5F1234).sw == 0x6A82
    assert host.send(INS.GET_DATA, 0x3F, 0xFF, b"\x5c\x04\x00\x00\x00\x7e").sw == 0x6A82
    assert host.send(INS.GET_DATA, 0x3F, 0xFF, b"\x5d\x01\x7e").sw == 0x6A80
    assert host.send(INS.GET_DATA, 0, 0, b"\x5c\x01\x7e").sw == 0x6A86


def test_writing_wants_the_management_key(host: Host) -> None:
    assert host.put(Tag.SECURITY, b"x") == 0x6982
    assert host.manage(bytes(24)) == 0x6982
    assert host.put(Tag.SECURITY, b"x") == 0x6982
    assert host.manage() == 0x9000
    assert host.put(Tag.SECURITY, b"x" * 3000) == 0x9000
    assert tlv.find(host.get(Tag.SECURITY).data, 0x53) == b"x" * 3000
    assert host.put(Tag.SECURITY, b"") == 0x9000
    assert host.get(Tag.SECURITY).sw == 0x6A82
    host.card.reset()
    host.select()
    assert host.put(Tag.SECURITY, b"x") == 0x6982


def test_object_too_large_for_the_card(host: Host) -> None:
    host.manage()
    assert host.put(Tag.SECURITY, bytes(16001)) == 0x6A84
    assert host.put(Tag.SECURITY, bytes(16000)) == 0x9000


def test_the_discovery_object_is_not_written(host: Host) -> None:
    host.manage()
    assert host.send(INS.PUT_DATA, 0x3F, 0xFF, piv_objects.discovery(piv_objects.Discovery.APPLICATION)).sw == 0x6A81


def test_mutual_authentication(host: Host) -> None:
    sealed = tlv.find(host.authenticate(3, 0x9B, (0x80, b"")).data, 0x7C, 0x80)
    assert sealed is not None
    witness = piv_crypto.decrypt_block(3, DEFAULT_MANAGEMENT_KEY, sealed)
    answer = host.authenticate(3, 0x9B, (0x80, witness), (0x81, b"12345678"), (0x82, b""))
    expected = piv_crypto.encrypt_block(3, DEFAULT_MANAGEMENT_KEY, b"12345678")
    assert tlv.find(answer.data, 0x7C, 0x82) == expected
    again = host.authenticate(3, 0x9B, (0x80, witness), (0x81, b"12345678"), (0x82, b""))
    assert again.sw == 0x6982, "a witness serves once"
    assert host.put(Tag.SECURITY, b"x") == 0x6982, "and failing takes the right away"


def test_a_challenge_serves_once(host: Host) -> None:
    challenge = tlv.find(host.authenticate(3, 0x9B, (0x81, b"")).data, 0x7C, 0x81)
    assert challenge is not None
    sealed = piv_crypto.encrypt_block(3, DEFAULT_MANAGEMENT_KEY, challenge)
    assert host.authenticate(3, 0x9B, (0x82, sealed)).ok
    assert host.authenticate(3, 0x9B, (0x82, sealed)).sw == 0x6982


@pytest.mark.parametrize(("algorithm", "size"), [(0x08, 16), (0x0A, 24), (0x0C, 32), (0x03, 24)])
def test_management_key_of_each_kind(host: Host, algorithm: int, size: int) -> None:
    host.manage()
    key = bytes(range(size))
    data = bytes([algorithm, 0x9B, size]) + key
    assert host.send(VendorINS.SET_MANAGEMENT_KEY, 0xFF, 0xFF, data).ok
    host.card.reset()
    host.select()
    assert host.manage(key, algorithm) == 0x9000
    assert host.send(VendorINS.SET_MANAGEMENT_KEY, 0xFF, 0xFF, data[:-1]).sw == 0x6A80


@pytest.mark.parametrize("algorithm", [Algorithm.RSA2048, Algorithm.P256, Algorithm.P384])
def test_generate_key_pair(host: Host, algorithm: Algorithm) -> None:
    request = tlv.encode(0xAC, tlv.encode(0x80, bytes([algorithm])))
    assert host.send(INS.GENERATE_ASYMMETRIC, 0, 0x9A, request).sw == 0x6982
    host.manage()
    answer = host.send(INS.GENERATE_ASYMMETRIC, 0, 0x9A, request)
    public = host.card.state.keys[0x9A].private.public_key()
    if isinstance(public, rsa.RSAPublicKey):
        modulus = tlv.find(answer.data, 0x7F49, 0x81)
        assert modulus == public.public_numbers().n.to_bytes(256, "big")
        assert tlv.find(answer.data, 0x7F49, 0x82) == b"\x01\x00\x01"
    else:
        point = tlv.find(answer.data, 0x7F49, 0x86)
        assert point is not None
        assert ec.EllipticCurvePublicKey.from_encoded_point(public.curve, point) == public


@pytest.mark.parametrize(
    ("p2", "data", "sw"),
    [(0x9B, b"\xac\x03\x80\x01\x11", 0x6A86), (0x9A, b"\xac\x03\x80\x01\x03", 0x6A80), (0x9A, b"\xac\x00", 0x6A80)],
)
def test_generate_refuses(host: Host, p2: int, data: bytes, sw: int) -> None:
    host.manage()
    assert host.send(INS.GENERATE_ASYMMETRIC, 0, p2, data).sw == sw


def test_vendor_instructions_can_be_absent(make_host) -> None:
    host = make_host(vendor_instructions=False)
    assert host.send(VendorINS.GET_VERSION, 0, 0).sw == 0x6D00


def test_vendor_reset_only_when_all_is_blocked(host: Host) -> None:
    host.card.generate(0x9A, Algorithm.P256)
    assert host.send(VendorINS.RESET, 0, 0).sw == 0x6985
    host.card.set_tries(PinRef.APPLICATION, 0)
    host.card.set_tries(PinRef.PUK, 0)
    old = host.card.guid
    assert host.send(VendorINS.RESET, 0, 0).ok
    assert host.tries() == 0x63C3
    assert not host.card.state.keys
    assert host.card.guid != old


def test_vendor_retries_and_metadata(host: Host) -> None:
    assert host.send(VendorINS.SET_RETRIES, 5, 4).sw == 0x6982
    host.manage()
    assert host.send(VendorINS.SET_RETRIES, 5, 4).sw == 0x6982, "the PIN is needed too"
    host.verify()
    assert host.send(VendorINS.SET_RETRIES, 5, 4).ok
    assert host.tries() == 0x63C5
    assert tlv.find(host.send(VendorINS.GET_METADATA, 0, 0x80).data, 6) == b"\5\5"
    assert host.send(VendorINS.GET_METADATA, 0, 0x9C).sw == 0x6A88
