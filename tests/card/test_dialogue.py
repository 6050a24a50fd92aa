"""The whole of the card's part of a sign-in: which bytes go to the card, how many, and what comes out of it."""

from __future__ import annotations

import hashlib
from base64 import b64decode

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from tokenbridge.card.base import PinReference, Slot
from tokenbridge.card.sign_in import PinReferenceChanged, Signed, survey
from tokenbridge.errors import Rejected
from tokenbridge.rig.piv_crypto import Algorithm
from tokenbridge.rig.piv_objects import Discovery, PinRef
from tokenbridge.rig.pki import Profile, Variant
from tokenbridge.rig.provision import Staff, staff_card
from tokenbridge.rp.webeid import Token, verify_signature

from .conftest import NONCE, NOW, ORIGIN, Bench, DirectLink, Never, private_key

KINDS = [Algorithm.RSA2048, Algorithm.RSA3072, Algorithm.RSA4096, Algorithm.P256, Algorithm.P384]
GET_CHUID = "00CB3FFF055C035FC10200"
GET_9A = "00CB3FFF055C035FC10500"
GET_DISCOVERY = "00CB3FFF035C017E00"
SELECT = "00A4040009A0000003080000100000"
TRIES = "00200080"
VERIFY = "0020008008313233343536FFFF"


def verify_by_hand(token: dict[str, str] | object, origin: str, nonce: str) -> None:
    """What any relying party does, written down without the code under test."""
    assert isinstance(token, dict)
    certificate = x509.load_der_x509_certificate(b64decode(token["unverifiedCertificate"]))
    kind = {"ES256": hashes.SHA256(), "RS256": hashes.SHA256(), "ES384": hashes.SHA384()}[token["algorithm"]]
    message = b"".join(hashlib.new(kind.name, text.encode()).digest() for text in (origin, nonce))
    signature, key = b64decode(token["signature"]), certificate.public_key()
    if isinstance(key, rsa.RSAPublicKey):
        key.verify(signature, message, padding.PKCS1v15(), kind)
    else:
        assert isinstance(key, ec.EllipticCurvePublicKey)
        half = len(signature) // 2
        assert half == (key.key_size + 7) // 8
        r, s = (int.from_bytes(part, "big") for part in (signature[:half], signature[half:]))
        key.verify(encode_dss_signature(r, s), message, ec.ECDSA(kind))


@pytest.mark.parametrize("algorithm", KINDS)
@pytest.mark.parametrize("extended", [False, True])
def test_token_of_every_kind_of_key_is_good(bench: Bench, algorithm: Algorithm, extended: bool) -> None:
    link = DirectLink(bench.card(algorithm, extended_length=extended))
    signed = bench.sign_in(link)
    token = dict(signed.token)
    assert set(token) == {"unverifiedCertificate", "algorithm", "signature", "format", "appVersion"}
    assert token["format"] == "web-eid:1.0"
    verify_by_hand(token, ORIGIN, NONCE)
    certificate = verify_signature(Token.parse(token), expected_origin=ORIGIN, expected_nonce=NONCE)
    assert certificate.der == b64decode(token["unverifiedCertificate"])
    with pytest.raises(Rejected):
        verify_signature(Token.parse(token), expected_origin="https://localhost:8444", expected_nonce=NONCE)


def test_a_complete_staff_card_signs_in(bench: Bench) -> None:
    made = staff_card(bench.pki, Staff(holder="Ada Lovelace", keys={0x9A: Algorithm.P256}), now=NOW)
    signed = bench.sign_in(DirectLink(made.card))
    verify_by_hand(dict(signed.token), ORIGIN, NONCE)
    assert signed.snapshot.holder == "000123456789"
    assert signed.snapshot.guid == made.card.guid.hex()
    assert signed.snapshot.tries_left is None


@pytest.mark.parametrize(("algorithm", "most_new", "most_known"), [(Algorithm.RSA2048, 12, 8), (Algorithm.P256, 9, 6)])
def test_number_of_short_apdus_of_a_new_and_of_a_known_card(
    bench: Bench, algorithm: Algorithm, most_new: int, most_known: int
) -> None:
    card = bench.card(algorithm)
    new, known = DirectLink(card), DirectLink(card)
    bench.sign_in(new)
    bench.sign_in(known)
    assert len(new.sent) <= most_new
    assert len(known.sent) <= most_known
    assert all(len(apdu) <= 5 + 255 + 1 for apdu in (*new.sent, *known.sent))


def test_exact_dialogue_with_a_new_card(bench: Bench) -> None:
    link = DirectLink(bench.card())
    bench.sign_in(link)
    sent = [apdu.hex().upper() for apdu in link.sent]
    assert sent[:3] == [SELECT, GET_CHUID, GET_9A]
    rounds = [apdu for apdu in sent if apdu.startswith("00C00000")]
    at = 3 + len(rounds)
    assert sent[3:at] == rounds
    assert sent[at : at + 3] == [TRIES, GET_DISCOVERY, VERIFY]
    digest = hashlib.sha256(
        hashlib.sha256(ORIGIN.encode()).digest() + hashlib.sha256(NONCE.encode()).digest()
    ).hexdigest()
    assert sent[at + 3 :] == [f"0087119A267C2482008120{digest.upper()}00"]


def test_exact_dialogue_with_a_known_card(bench: Bench) -> None:
    card = bench.card()
    bench.sign_in(DirectLink(card))
    link = DirectLink(card)
    bench.sign_in(link)
    sent = [apdu.hex().upper() for apdu in link.sent]
    assert sent[:5] == [SELECT, GET_CHUID, TRIES, GET_DISCOVERY, VERIFY]
    assert [apdu[:8] for apdu in sent[5:]] == ["0087119A"]


def test_extended_length_needs_one_apdu_for_a_signature(bench: Bench) -> None:
    link = DirectLink(bench.card(Algorithm.RSA4096, extended_length=True))
    bench.sign_in(link)
    assert [apdu[1] for apdu in link.sent] == [0xA4, 0xCB, 0xCB, 0x20, 0xCB, 0x20, 0x87]


def test_short_length_is_fallen_back_to_when_the_card_breaks_its_promise(bench: Bench) -> None:
    card = bench.card(Algorithm.RSA2048, extended_length=True)

    def refuse_extended(apdu: bytes) -> bytes | None:
        return b"\x67\x00" if len(apdu) > 7 and apdu[4] == 0 else None

    verify_by_hand(dict(bench.sign_in(DirectLink(card, on_command=refuse_extended)).token), ORIGIN, NONCE)


def test_global_pin_is_found_by_the_discovery_object_and_asked_for_with_its_own_tries(bench: Bench) -> None:
    card = bench.card(discovery=Discovery.BOTH_GLOBAL_PRIMARY)
    card.set_tries(PinRef.GLOBAL, 2)
    link = DirectLink(card)
    snapshot = bench.inspect(link)
    assert snapshot.tries_left == 3
    changed = bench.authorize(link, snapshot)
    assert isinstance(changed, PinReferenceChanged)
    assert changed.snapshot.pin_reference is PinReference.GLOBAL
    assert changed.snapshot.tries_left == 2
    assert link.verifies() == []
    signed = bench.authorize(link, changed.snapshot)
    assert isinstance(signed, Signed)
    (verify,) = link.verifies()
    assert verify[3] == PinReference.GLOBAL
    known = signed.snapshot.known()
    assert known is not None
    assert known.pin_reference is PinReference.GLOBAL


def test_a_known_card_with_a_global_pin_is_asked_for_it_at_once(bench: Bench) -> None:
    card = bench.card(discovery=Discovery.BOTH_GLOBAL_PRIMARY)
    link = DirectLink(card)
    result = bench.authorize(link, bench.inspect(link))
    signed = result if isinstance(result, Signed) else bench.authorize(link, result.snapshot)
    assert isinstance(signed, Signed)
    known = signed.snapshot.known()
    assert known is not None
    bench.remembered[known.guid] = known
    again = DirectLink(card)
    bench.sign_in(again)
    assert len(again.sent) <= 6
    assert [apdu[3] for apdu in (*link.verifies(), *again.verifies())] == [PinReference.GLOBAL] * 2
    assert card.tries_left(PinRef.APPLICATION) == 3


@pytest.mark.parametrize("discovery", [Discovery.NONE, Discovery.APPLICATION, Discovery.BOTH_APPLICATION_PRIMARY])
def test_the_application_pin_is_the_usual_one(bench: Bench, discovery: Discovery) -> None:
    link = DirectLink(bench.card(discovery=discovery))
    bench.sign_in(link)
    (verify,) = link.verifies()
    assert verify[3] == PinReference.APPLICATION


def test_a_known_card_without_discovery_object_is_selected_anew_before_its_pin(bench: Bench) -> None:
    card = bench.card(discovery=Discovery.NONE)
    bench.sign_in(DirectLink(card))
    link = DirectLink(card)
    bench.sign_in(link)
    sent = [apdu.hex().upper() for apdu in link.sent]
    assert sent[:5] == [SELECT, GET_CHUID, TRIES, SELECT, VERIFY]


def test_compressed_certificate(bench: Bench) -> None:
    verify_by_hand(dict(bench.sign_in(DirectLink(bench.card(gzip_certificates=True))).token), ORIGIN, NONCE)


def test_replaced_certificate_of_a_known_card_costs_no_second_pin(bench: Bench) -> None:
    card = bench.card()
    bench.sign_in(DirectLink(card))
    public = card.install_key(0x9A, private_key(Algorithm.P256, 7))
    renewed = bench.pki.issue(public, Profile(uid="000123456789"), now=NOW)
    card.install_certificate(0x9A, renewed)
    link = DirectLink(card)
    signed = bench.sign_in(link)
    verify_by_hand(dict(signed.token), ORIGIN, NONCE)
    assert x509.load_der_x509_certificate(b64decode(signed.token["unverifiedCertificate"])) == renewed
    assert len(link.verifies()) == 1
    after = DirectLink(card)
    verify_by_hand(dict(bench.sign_in(after).token), ORIGIN, NONCE)
    assert len(after.sent) <= 6


def test_a_known_card_whose_certificate_no_longer_fits_is_read_anew(bench: Bench) -> None:
    card = bench.card(variant=Variant.EXPIRED)
    link = DirectLink(card)
    known = survey(link, Never()).known()
    assert known is not None
    bench.remembered[known.guid] = known
    public = card.install_key(0x9A, private_key(Algorithm.P256, 8))
    card.install_certificate(0x9A, bench.pki.issue(public, Profile(uid="000123456789"), now=NOW))
    verify_by_hand(dict(bench.sign_in(DirectLink(card)).token), ORIGIN, NONCE)


def test_a_card_without_guid_signs_in_and_is_not_remembered(bench: Bench) -> None:
    card = bench.card()
    card.put_object(0x5FC102, None)
    signed = bench.sign_in(DirectLink(card))
    assert signed.snapshot.guid == ""
    assert bench.remembered == {}


def test_the_card_is_locked_again_afterwards(bench: Bench) -> None:
    card = bench.card()
    link = DirectLink(card)
    bench.sign_in(link)
    assert link.generation == 1
    assert not link.in_transaction
    assert bench.inspect(DirectLink(card)).tries_left == 3


def test_survey_reads_every_slot(bench: Bench) -> None:
    card = bench.card(keys={0x9A: Algorithm.P256, 0x9C: Algorithm.P384, 0x9D: Algorithm.P256, 0x9E: Algorithm.P256})
    snapshot = survey(DirectLink(card), Never())
    assert set(snapshot.certificates) == set(Slot)
    assert snapshot.pin_reference_confirmed
    assert not snapshot.from_memory
    known = snapshot.known()
    assert known is not None
    assert known.guid == card.guid.hex()


def test_the_signature_slot_is_used_when_the_authentication_slot_does_not_fit(bench: Bench) -> None:
    card = bench.card(keys={0x9A: Algorithm.P256, 0x9C: Algorithm.P384})
    card.install_certificate(
        0x9A,
        bench.pki.issue(
            private_key(Algorithm.P256).public_key(), Profile(uid="1"), now=NOW, variant=Variant.WRONG_USAGE
        ),
    )
    signed = bench.sign_in(DirectLink(card))
    assert signed.token["algorithm"] == "ES384"
    verify_by_hand(dict(signed.token), ORIGIN, NONCE)
