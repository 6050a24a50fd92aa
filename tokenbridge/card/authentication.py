"""Signatures that prove who holds a card, bound to one origin and one nonce. Nothing else can be signed here.

The bytes are those of the Web eID authentication token: the signature is over H(origin) || H(nonce), H being the hash
of the algorithm, so a relying party rebuilds them from its own origin and nonce (Web eID system architecture, section
"Authentication token").
"""

from __future__ import annotations

import hashlib
from base64 import b64encode
from collections.abc import Collection
from dataclasses import dataclass
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa, utils

from tokenbridge.card.base import CardCertificate, CertificateFacts, KeyKind
from tokenbridge.card.piv import Piv
from tokenbridge.errors import BadCardData, NoUsableCertificate, OriginRefused, WrongKey

MAX_ORIGIN: Final = 255
NONCE_LENGTHS: Final = range(44, 129)
WEB_EID_FORMAT: Final = "web-eid:1.0"
APP_VERSION: Final = "https://web-eid.eu/web-eid-app/releases/2.9.0+tokenbridge"


@dataclass(frozen=True, slots=True)
class Algorithm:
    """A JWS algorithm that a card can make: `name`, hash, and for EC the size of R and S in bytes."""

    name: str
    hash: str
    coordinate: int = 0


ALGORITHMS: Final = {
    KeyKind.RSA_2048: Algorithm("RS256", "sha256"),
    KeyKind.RSA_3072: Algorithm("RS256", "sha256"),
    KeyKind.RSA_4096: Algorithm("RS256", "sha256"),
    KeyKind.P_256: Algorithm("ES256", "sha256", 32),
    KeyKind.P_384: Algorithm("ES384", "sha384", 48),
}
MODULUS_BYTES: Final = {KeyKind.RSA_2048: 256, KeyKind.RSA_3072: 384, KeyKind.RSA_4096: 512}

SHA256_DIGEST_INFO: Final = bytes.fromhex("3031300d060960864801650304020105000420")
"""DER prefix of DigestInfo for SHA-256 (RFC 8017 section 9.2, note 1)."""


def sign(
    piv: Piv, certificate: CardCertificate, *, origin: str, nonce: str, algorithms: Collection[str]
) -> dict[str, str]:
    """The Web eID authentication token for `origin` and `nonce`, made with the key of `certificate`.

    `nonce` is the text as the relying party sent it; `algorithms` is what it takes. The PIN must have been verified in
    the same transaction. Raises `WrongKey` if the signature does not verify under the certificate's key.
    """
    facts, key, algorithm = _means(certificate, algorithms)
    digest = challenge_digest(algorithm.hash, origin, nonce)
    block = digest if algorithm.coordinate else pkcs1_block(digest, MODULUS_BYTES[key])
    made = piv.private_key_operation(certificate.slot, key, block)
    signature = _raw_ecdsa(made, algorithm.coordinate) if algorithm.coordinate else made
    _verify(facts.spki, made, digest, algorithm)
    return {
        "unverifiedCertificate": b64encode(certificate.der).decode("ascii"),
        "algorithm": algorithm.name,
        "signature": b64encode(signature).decode("ascii"),
        "format": WEB_EID_FORMAT,
        "appVersion": APP_VERSION,
    }


def check_algorithm(certificate: CardCertificate, algorithms: Collection[str]) -> None:
    """Raise `NoUsableCertificate` if `sign` would: to be asked before a person types a PIN for nothing."""
    _means(certificate, algorithms)


def _means(certificate: CardCertificate, algorithms: Collection[str]) -> tuple[CertificateFacts, KeyKind, Algorithm]:
    facts = certificate.facts
    if facts is None or facts.key is None:
        raise NoUsableCertificate(detail="certificate without a usable key")
    algorithm = ALGORITHMS[facts.key]
    if algorithm.name not in algorithms:
        raise NoUsableCertificate(f"The site does not take {algorithm.name} signatures, the only ones this card makes.")
    return facts, facts.key, algorithm


def challenge_digest(hash_name: str, origin: str, nonce: str) -> bytes:
    """H(H(origin) || H(nonce)); hashing each part first keeps them apart. Raises `OriginRefused` for odd input."""
    if not origin or len(origin) > MAX_ORIGIN or len(nonce) not in NONCE_LENGTHS:
        raise OriginRefused("The site's challenge is not of the right form. Nothing was signed.")
    parts = (hashlib.new(hash_name, text.encode("utf-8")).digest() for text in (origin, nonce))
    return hashlib.new(hash_name, b"".join(parts)).digest()


def pkcs1_block(digest: bytes, size: int) -> bytes:
    """EMSA-PKCS1-v1_5 for SHA-256 (RFC 8017 section 9.2): cards expect the padded block."""
    info = SHA256_DIGEST_INFO + digest
    return b"\0\1" + b"\xff" * (size - len(info) - 3) + b"\0" + info


def _raw_ecdsa(der: bytes, size: int) -> bytes:
    """R || S, each `size` bytes (RFC 7518 section 3.4), from the DER that cards give."""
    try:
        r, s = utils.decode_dss_signature(der)
        return r.to_bytes(size, "big") + s.to_bytes(size, "big")
    except (ValueError, OverflowError) as err:
        raise BadCardData(detail=f"ECDSA signature: {err}") from err


def _verify(spki: bytes, signature: bytes, digest: bytes, algorithm: Algorithm) -> None:
    prehashed = utils.Prehashed(hashes.SHA384() if algorithm.hash == "sha384" else hashes.SHA256())
    try:
        key = serialization.load_der_public_key(spki)
        if isinstance(key, rsa.RSAPublicKey):
            key.verify(signature, digest, padding.PKCS1v15(), prehashed)
        elif isinstance(key, ec.EllipticCurvePublicKey):
            key.verify(signature, digest, ec.ECDSA(prehashed))
        else:
            raise WrongKey(detail="key type")
    except (InvalidSignature, ValueError) as err:
        raise WrongKey(detail="signature does not verify under the certificate on the card") from err
