"""What a card says of itself may be anything: truncated, oversized, lying, endless. Never a PIN for it."""

from __future__ import annotations

import contextlib
import gzip
import zlib
from collections.abc import Callable

import pytest
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given, settings
from hypothesis import strategies as st

from tokenbridge.card import certificates
from tokenbridge.card.certificates import MAX_CERTIFICATE, decode_object
from tokenbridge.card.sign_in import Signed, survey
from tokenbridge.errors import (
    AppletMissing,
    BadCardData,
    Cancelled,
    CardError,
    CardUnsupported,
    StatusError,
    TokenbridgeError,
)
from tokenbridge.rig.piv_crypto import Algorithm
from tokenbridge.rig.piv_objects import Tag, chuid
from tokenbridge.rig.piv_objects import certificate as certificate_object
from tokenbridge.rig.pki import Profile
from tokenbridge.rig.virtual_card import VirtualCard
from tokenbridge.wire import tlv
from tokenbridge.wire.apdu import INS

from .conftest import NOW, Bench, DirectLink, Never, private_key

CERT = Tag.CERT_AUTHENTICATION


def fits(bench: Bench, link: DirectLink) -> int:
    return len(certificates.fitting(bench.inspect(link).certificates, (), NOW))


# --- kinds of cards --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("word", ["6A82", "6A81", "6D00", "6E00", "6A86", "6999"])
def test_a_card_without_piv_is_unsupported(bench: Bench, word: str) -> None:
    link = DirectLink(bench.card(), on_command=lambda _: bytes.fromhex(word))
    with pytest.raises(CardUnsupported) as caught:
        bench.inspect(link)
    assert "no PIV applet" in caught.value.message
    assert caught.value.as_dict()["atr"] == link.atr.hex().upper()
    assert isinstance(caught.value.__cause__, AppletMissing)
    assert len(link.sent) == 1


def test_other_failures_of_select_are_not_taken_for_a_missing_applet(bench: Bench) -> None:
    with pytest.raises(StatusError) as caught:
        bench.inspect(DirectLink(bench.card(), on_command=lambda _: b"\x6f\x00"))
    assert caught.value.sw == 0x6F00
    assert not isinstance(caught.value, AppletMissing)


def test_a_card_without_certificates(bench: Bench) -> None:
    snapshot = bench.inspect(DirectLink(VirtualCard.create()))
    assert snapshot.certificates == {}
    assert snapshot.holder == ""
    assert snapshot.guid


@pytest.mark.parametrize("answer", ["", "90"])
def test_answers_shorter_than_a_status_word(bench: Bench, answer: str) -> None:
    with pytest.raises(BadCardData):
        bench.inspect(DirectLink(bench.card(), on_command=lambda _: bytes.fromhex(answer)))


# --- certificate objects ---------------------------------------------------------------------------------------


def test_decoding_of_a_good_object() -> None:
    for compressed in (False, True):
        assert decode_object(tlv.encode(0x53, certificate_object(b"DER", compressed=compressed))) == b"DER"


def test_zlib_in_place_of_gzip_is_read_too() -> None:
    content = tlv.encode(0x70, zlib.compress(b"DER")) + tlv.encode(0x71, b"\1")
    assert decode_object(tlv.encode(0x53, content)) == b"DER"


@pytest.mark.parametrize("data", ["5300", "53027000", "530371010053"[:10], "", "5304FE007000"])
def test_empty_objects_are_no_certificate(data: str) -> None:
    assert decode_object(bytes.fromhex(data)) == b""


def bomb() -> bytes:
    """A few kilobytes that grow to 16 MB."""
    return gzip.compress(bytes(16 << 20))


BAD_OBJECTS: dict[str, bytes] = {
    "bomb": tlv.encode(0x70, bomb()) + tlv.encode(0x71, b"\1"),
    "one byte too large": tlv.encode(0x70, gzip.compress(bytes(MAX_CERTIFICATE + 1))) + tlv.encode(0x71, b"\1"),
    "truncated gzip": tlv.encode(0x70, gzip.compress(b"DER" * 100)[:-20]) + tlv.encode(0x71, b"\1"),
    "no gzip": tlv.encode(0x70, b"DER") + tlv.encode(0x71, b"\1"),
    "length beyond the end": bytes.fromhex("70820FFF3082"),
    "length of four bytes": bytes.fromhex("7084FFFFFFFF00"),
    "indefinite length": bytes.fromhex("708030820000"),
    "tag without length": bytes.fromhex("70"),
    "second tag truncated": tlv.encode(0x70, b"DER") + b"\x71",
}


@pytest.mark.parametrize("content", BAD_OBJECTS.values(), ids=BAD_OBJECTS.keys())
def test_bad_objects(content: bytes) -> None:
    with pytest.raises(BadCardData):
        decode_object(tlv.encode(0x53, content))


@pytest.mark.parametrize("content", [c for c in BAD_OBJECTS.values() if len(c) < 16000], ids=len)
def test_bad_objects_on_a_card_end_the_look_without_a_pin(bench: Bench, content: bytes) -> None:
    card = bench.card()
    card.put_object(CERT, content)
    link = DirectLink(card)
    with pytest.raises(BadCardData):
        bench.inspect(link)
    assert link.verifies() == []


def test_largest_compressed_certificate_is_read() -> None:
    content = tlv.encode(0x70, gzip.compress(bytes(MAX_CERTIFICATE))) + tlv.encode(0x71, b"\1")
    assert len(decode_object(tlv.encode(0x53, content))) == MAX_CERTIFICATE


@settings(deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_are_an_object_or_bad_data(data: bytes) -> None:
    for tried in (data, tlv.encode(0x53, data)):
        with contextlib.suppress(BadCardData):
            assert isinstance(decode_object(tried), bytes)


def test_objects_of_another_tag_are_no_certificate(bench: Bench) -> None:
    card = bench.card()
    link = DirectLink(
        card, on_answer=lambda apdu, answer: b"\x54" + answer[1:] if apdu[7:10] == b"\x5f\xc1\x05" else answer
    )
    assert fits(bench, link) == 0


def test_oversized_object(bench: Bench) -> None:
    card = bench.card()
    card.put_object(CERT, tlv.encode(0x70, bytes(40_000)))
    link = DirectLink(card)
    with pytest.raises(BadCardData):
        bench.inspect(link)
    assert len(link.sent) < 200


@pytest.mark.parametrize(
    "damage", [lambda der: der[:-1], lambda der: der[:100], lambda _: b"\0" * 300, lambda _: b"\x30"]
)
def test_unreadable_certificate_on_a_card_does_not_fit(bench: Bench, damage: Callable[[bytes], bytes]) -> None:
    card = bench.card()
    public = private_key(Algorithm.P256).public_key()
    der = bench.pki.issue(public, Profile(uid="1"), now=NOW).public_bytes(Encoding.DER)
    card.install_certificate(0x9A, damage(der))
    link = DirectLink(card)
    assert fits(bench, link) == 0
    assert link.verifies() == []


def test_large_certificates_are_read_in_many_parts(bench: Bench) -> None:
    card = bench.card()
    public = private_key(Algorithm.P256).public_key()
    large = Profile(uid="000123456789", upn="a" * 90 + "@example.org", email="b" * 3000 + "@example.org")
    card.install_certificate(0x9A, bench.pki.issue(public, large, now=NOW))
    link = DirectLink(card)
    assert fits(bench, link) == 1
    assert len(link.sent) > 14


# --- other objects ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "content",
    [chuid(b""), chuid(bytes(16)), chuid(b"\1" * 15), chuid(b"\1" * 17), tlv.encode(0x30, b"x"), b""],
    ids=["none", "all zero", "short", "long", "absent", "empty object"],
)
def test_a_guid_that_tells_nothing(bench: Bench, content: bytes) -> None:
    card = bench.card()
    card.put_object(Tag.CHUID, content)
    snapshot = bench.inspect(DirectLink(card))
    assert snapshot.guid == ""
    assert snapshot.known() is None


def test_unreadable_chuid(bench: Bench) -> None:
    card = bench.card()
    card.put_object(Tag.CHUID, b"\x34\x10\0")
    with pytest.raises(BadCardData):
        bench.inspect(DirectLink(card))


def test_a_card_that_lies_about_its_guid_is_found_out_by_its_key(bench: Bench) -> None:
    """Another card with the GUID of a known one: what is signed is under the certificate that is sent."""
    first = bench.card(keys={0x9A: Algorithm.P256})
    bench.sign_in(DirectLink(first))
    second = VirtualCard.create()
    second.put_object(Tag.CHUID, chuid(first.guid))
    public = second.install_key(0x9A, private_key(Algorithm.P256, 5))
    second.install_certificate(0x9A, bench.pki.issue(public, Profile(uid="999"), now=NOW))
    link = DirectLink(second)
    signed = bench.authorize(link, bench.inspect(link))
    assert isinstance(signed, Signed)
    assert signed.snapshot.holder == "999"


def test_a_key_that_is_not_its_certificates_signs_nothing(bench: Bench) -> None:
    card = bench.card()
    card.install_key(0x9A, private_key(Algorithm.P256, 6))
    link = DirectLink(card)
    snapshot = bench.inspect(link)
    with pytest.raises(BadCardData) as caught:
        bench.authorize(link, snapshot)
    assert caught.value.code == "card-key-mismatch"


# --- conversation ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("answer", ["6100", "61FF", "006100", "AA" * 256 + "6100"])
def test_endless_response_to_anything(bench: Bench, answer: str) -> None:
    link = DirectLink(bench.card(), on_command=lambda _: bytes.fromhex(answer))
    with pytest.raises(BadCardData):
        bench.inspect(link)
    assert len(link.sent) < 200


@pytest.mark.parametrize("ins", [INS.GET_DATA, INS.VERIFY, INS.GENERAL_AUTHENTICATE])
def test_endless_response_later_in_a_sign_in(bench: Bench, ins: INS) -> None:
    endless = False

    def lie(apdu: bytes) -> bytes | None:
        nonlocal endless
        endless = endless or apdu[1] == ins
        return b"\0\x61\x00" if endless else None

    card = bench.card()
    link = DirectLink(card, on_command=lie)
    with pytest.raises(CardError):
        bench.sign_in(link)
    assert len(link.sent) < 400
    assert not link.in_transaction
    assert card.tries_left() == 3


@pytest.mark.parametrize(
    "answer", ["9000", "7C009000", "7C0282009000", "7C0481023000" + "9000", "30039000", "7C8482009000", "7CFF9000"]
)
def test_answers_to_a_signature_that_hold_none(bench: Bench, answer: str) -> None:
    link = DirectLink(bench.card())
    snapshot = bench.inspect(link)
    link.on_command = lambda apdu: bytes.fromhex(answer) if apdu[1] == INS.GENERAL_AUTHENTICATE else None
    with pytest.raises(BadCardData):
        bench.authorize(link, snapshot)


@pytest.mark.parametrize("signature", ["00", "3000", "3006020100020100", "300602010102017F", "30450220" + "FF" * 67])
def test_signatures_that_are_none(bench: Bench, signature: str) -> None:
    answer = tlv.encode(0x7C, tlv.encode(0x82, bytes.fromhex(signature))) + b"\x90\0"
    link = DirectLink(bench.card())
    snapshot = bench.inspect(link)
    link.on_command = lambda apdu: answer if apdu[1] == INS.GENERAL_AUTHENTICATE else None
    with pytest.raises(BadCardData):
        bench.authorize(link, snapshot)


def test_oversized_numbers_in_an_ecdsa_signature(bench: Bench) -> None:
    number = b"\x02\x30" + b"\x7f" * 48
    answer = tlv.encode(0x7C, tlv.encode(0x82, tlv.encode(0x30, number * 2))) + b"\x90\0"
    link = DirectLink(bench.card())
    snapshot = bench.inspect(link)
    link.on_command = lambda apdu: answer if apdu[1] == INS.GENERAL_AUTHENTICATE else None
    with pytest.raises(BadCardData):
        bench.authorize(link, snapshot)


@settings(deadline=None)
@given(st.lists(st.binary(max_size=40), min_size=1, max_size=12))
def test_any_answers_end_in_a_typed_error_or_a_snapshot(answers: list[bytes]) -> None:
    card = VirtualCard.create()
    left = list(answers)
    link = DirectLink(card, on_command=lambda _: left.pop() if left else None)
    with contextlib.suppress(TokenbridgeError):
        survey(link, Never())
    assert not link.in_transaction


# --- cancel ----------------------------------------------------------------------------------------------------


class After:
    """A `Check` that cancels from its n-th time on."""

    def __init__(self, times: int) -> None:
        self.left = times

    def check(self) -> None:
        self.left -= 1
        if self.left < 0:
            raise Cancelled("caller")


@pytest.mark.parametrize("times", range(5))
def test_cancel_is_seen_between_any_two_apdus(bench: Bench, times: int) -> None:
    link = DirectLink(bench.card(Algorithm.RSA2048))
    with pytest.raises(Cancelled):
        survey(link, After(times))
    assert len(link.sent) == times
    assert not link.in_transaction
