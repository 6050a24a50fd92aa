"""The token's signature: which keys, algorithms and encodings are believed; openssl as a signer that is not ours."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature

from tokenbridge.errors import Rejected, RejectReason
from tokenbridge.rp.webeid import Algorithm, Token, verify_signature

ORIGIN = "https://localhost:8443"
NONCE = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="

GOOD = [
    ("bare", "ES256"),
    ("p384", "ES384"),
    ("p521", "ES512"),
    *(("rsa2048", name) for name in ("PS256", "PS384", "PS512", "RS256", "RS384", "RS512")),
]
Verify = Callable[..., Any]


def check(token: Token, **changes: Any) -> None:
    verify_signature(token, **{"expected_origin": ORIGIN, "expected_nonce": NONCE, **changes})


def reason_of(token: Token, **changes: Any) -> RejectReason:
    with pytest.raises(Rejected) as caught:
        check(token, **changes)
    return caught.value.reason


@pytest.mark.parametrize(("label", "algorithm"), GOOD)
def test_every_algorithm_verifies(pki: Any, label: str, algorithm: str) -> None:
    check(pki.token(label, algorithm))


@pytest.mark.parametrize(("label", "algorithm"), GOOD)
@pytest.mark.parametrize("claimed", Algorithm)
def test_no_signature_passes_under_another_algorithm(pki: Any, label: str, algorithm: str, claimed: Algorithm) -> None:
    token = Token.parse(pki.raw_token(label, algorithm) | {"algorithm": claimed.value})
    if claimed != algorithm:
        assert reason_of(token) in (RejectReason.KEY_MISMATCH, RejectReason.SIGNATURE_INVALID)


@pytest.mark.parametrize(
    ("label", "claimed"), [("p384", "ES256"), ("bare", "ES384"), ("bare", "RS256"), ("rsa2048", "ES256")]
)
def test_curve_and_algorithm_belong_together(pki: Any, label: str, claimed: str) -> None:
    algorithm = {"p384": "ES384", "bare": "ES256", "rsa2048": "RS256"}[label]
    token = Token.parse(pki.raw_token(label, algorithm) | {"algorithm": claimed})
    assert reason_of(token) is RejectReason.KEY_MISMATCH


def resigned(pki: Any, signature: bytes, label: str = "bare", algorithm: str = "ES256") -> Token:
    raw = pki.raw_token(label, algorithm)
    good = Token.parse(raw)
    return Token(
        unverified_certificate=good.unverified_certificate,
        algorithm=good.algorithm,
        signature=signature,
        format=good.format,
        app_version=good.app_version,
    )


def test_der_signatures_are_refused(pki: Any) -> None:
    raw = pki.token("bare").signature
    r, s = int.from_bytes(raw[:32], "big"), int.from_bytes(raw[32:], "big")
    assert reason_of(resigned(pki, encode_dss_signature(r, s))) is RejectReason.SIGNATURE_INVALID


@pytest.mark.parametrize(
    "spoil",
    [
        lambda raw: b"",
        lambda raw: raw[:-1],
        lambda raw: raw + b"\0",
        lambda raw: b"\0" + raw[:32] + b"\0" + raw[32:],
        lambda raw: raw[:32] + b"\0" + raw[32:],
        lambda raw: bytes(64),
        lambda raw: bytes(32) + raw[32:],
        lambda raw: raw[:32] + bytes(32),
        lambda raw: b"\xff" * 64,
        lambda raw: raw[32:] + raw[:32],
    ],
)
def test_misshapen_ecdsa_is_refused(pki: Any, spoil: Callable[[bytes], bytes]) -> None:
    token = resigned(pki, spoil(pki.token("bare").signature))
    assert reason_of(token) is RejectReason.SIGNATURE_INVALID


@pytest.mark.parametrize("salt", [0, 20, padding.PSS.MAX_LENGTH])
def test_pss_salts_of_another_length_are_refused(pki: Any, salt: Any) -> None:
    signature = pki.keys["rsa2048"].sign(
        message(), padding.PSS(mgf=padding.MGF1(hashes.SHA256()), salt_length=salt), hashes.SHA256()
    )
    assert reason_of(resigned(pki, signature, "rsa2048", "PS256")) is RejectReason.SIGNATURE_INVALID


def message() -> bytes:
    digest = [hashes.Hash(hashes.SHA256()) for _ in range(2)]
    digest[0].update(ORIGIN.encode())
    digest[1].update(NONCE.encode())
    return digest[0].finalize() + digest[1].finalize()


def test_short_rsa_keys_need_the_switch(pki: Any) -> None:
    token = pki.token("rsa1024", "RS256")
    assert reason_of(token) is RejectReason.ALGORITHM_WEAK
    check(token, allow_weak=True)


@pytest.mark.parametrize(
    "expected",
    [
        {"expected_origin": "https://localhost:8444"},
        {"expected_origin": "https://localhost:8443/"},
        {"expected_origin": "https://LOCALHOST:8443"},
        {"expected_origin": "https://evil.example"},
        {"expected_nonce": NONCE[:-2] + "4="},
        {"expected_nonce": NONCE.lower()},
        {"expected_nonce": NONCE + NONCE},
    ],
)
def test_other_origins_and_nonces_are_refused(pki: Any, expected: dict[str, str]) -> None:
    assert reason_of(pki.token("bare"), **expected) is RejectReason.SIGNATURE_INVALID


@pytest.mark.parametrize(
    "expected",
    [{"expected_nonce": ""}, {"expected_nonce": NONCE[:43]}, {"expected_origin": ""}, {"expected_origin": "x" * 256}],
)
def test_without_a_proper_challenge_nothing_verifies(pki: Any, expected: dict[str, str]) -> None:
    token = pki.token(
        "bare", origin=expected.get("expected_origin", ORIGIN), nonce=expected.get("expected_nonce", NONCE)
    )
    assert reason_of(token, **expected) is RejectReason.CHALLENGE_UNKNOWN


def test_origin_and_nonce_cannot_trade_bytes(pki: Any) -> None:
    """Both are hashed apart, so moving a character from one to the other gives another message."""
    token = pki.token("bare", origin=ORIGIN + NONCE[0], nonce=NONCE[1:] + "A")
    assert reason_of(token) is RejectReason.SIGNATURE_INVALID


@pytest.mark.foreign
@pytest.mark.parametrize(
    ("label", "algorithm", "digest"),
    [
        ("bare", "ES256", "sha256"),
        ("p384", "ES384", "sha384"),
        ("rsa2048", "RS256", "sha256"),
        ("rsa2048", "PS512", "sha512"),
    ],
)
def test_what_openssl_signed_verifies(
    pki: Any, verify: Verify, tmp_path: Path, label: str, algorithm: str, digest: str
) -> None:
    def openssl(*arguments: str, feed: bytes = b"") -> bytes:
        return subprocess.run(["openssl", *arguments], input=feed, capture_output=True, check=True, cwd=tmp_path).stdout

    key = pki.key_of(label)
    (tmp_path / "key.pem").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    parts = [openssl("dgst", f"-{digest}", "-binary", feed=part.encode()) for part in (ORIGIN, NONCE)]
    pss = ["-sigopt", "rsa_padding_mode:pss", "-sigopt", "rsa_pss_saltlen:digest"] if algorithm[0] == "P" else []
    signature = openssl("dgst", f"-{digest}", "-sign", "key.pem", *pss, feed=b"".join(parts))
    if isinstance(key, ec.EllipticCurvePrivateKey):
        size = (key.key_size + 7) // 8
        signature = b"".join(number.to_bytes(size, "big") for number in decode_dss_signature(signature))
    evidence = verify(resigned(pki, signature, label, algorithm))
    assert evidence.certificate.der == pki.der(label)
