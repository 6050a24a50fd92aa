"""The Web eID authentication token: bounded parsing, the signature over origin and nonce, and the whole verification.

Format: https://github.com/web-eid/web-eid-system-architecture-doc ("Web eID authentication token"). The origin and
the nonce are never taken from the client.
"""

from __future__ import annotations

import hashlib
import json
import re
from base64 import b64decode, b64encode
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum, unique
from typing import Any, Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from tokenbridge.errors import Rejected, RejectReason
from tokenbridge.rp.certificate import PARSER_ERRORS, Certificate, parsing
from tokenbridge.rp.certs import IssuerRule, RevocationData, TrustAnchor, TrustStore
from tokenbridge.rp.chain import LEGACY_RSA_BITS, MIN_RSA_BITS, find_chain
from tokenbridge.rp.proof import Factor, Method, Proof
from tokenbridge.rp.reasons import Reason
from tokenbridge.rp.revocation import check_revocation

MIN_TOKEN_BYTES: Final = 100
MAX_TOKEN_BYTES: Final = 10_000
MIN_NONCE_LENGTH: Final = 44
MAX_ORIGIN_LENGTH: Final = 255
MAX_APP_VERSION_LENGTH: Final = 255

_FORMAT: Final = re.compile(r"web-eid:1(\.[0-9]{1,4})*", re.ASCII)


@unique
class Algorithm(StrEnum):
    """JWA names (RFC 7518, section 3.1). The hash is also that of the origin and the nonce."""

    ES256 = "ES256"
    ES384 = "ES384"
    ES512 = "ES512"
    PS256 = "PS256"
    PS384 = "PS384"
    PS512 = "PS512"
    RS256 = "RS256"
    RS384 = "RS384"
    RS512 = "RS512"

    @property
    def hash(self) -> hashes.HashAlgorithm:
        return _HASHES[self.value[2:]]


_HASHES: Final = {"256": hashes.SHA256(), "384": hashes.SHA384(), "512": hashes.SHA512()}
# RFC 7518, section 3.4: one curve for each algorithm, and the length of R and of S in bytes.
_CURVES: Final[dict[Algorithm, tuple[str, int]]] = {
    Algorithm.ES256: ("secp256r1", 32),
    Algorithm.ES384: ("secp384r1", 48),
    Algorithm.ES512: ("secp521r1", 66),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """A token as it arrived: well-formed, and nothing in it believed."""

    unverified_certificate: bytes = field(repr=False)
    algorithm: Algorithm
    signature: bytes = field(repr=False)
    format: str
    app_version: str

    @classmethod
    def parse(cls, raw: Mapping[str, Any] | bytes) -> Token:
        """From the JSON text (100 to 10000 bytes) or from its parsed object. Fields beyond the five are ignored.

        Rejected with MALFORMED, FORMAT_UNSUPPORTED or ALGORITHM_UNSUPPORTED.
        """
        fields = _load(raw) if isinstance(raw, bytes) else raw
        if "appVersion" not in fields and _EARLIER_APP_VERSION in fields:
            fields = {**fields, "appVersion": fields[_EARLIER_APP_VERSION]}
        texts = {name: _text(fields, name) for name in _FIELDS}
        if not MIN_TOKEN_BYTES <= sum(map(len, texts.values())) <= MAX_TOKEN_BYTES:
            raise _malformed("its length is out of bounds")
        if not _FORMAT.fullmatch(texts["format"]):
            raise Rejected(RejectReason.FORMAT_UNSUPPORTED, "The token has a format that is not supported here.")
        if len(texts["appVersion"]) > MAX_APP_VERSION_LENGTH:
            raise _malformed("appVersion is too long")
        return cls(
            unverified_certificate=_base64(texts["unverifiedCertificate"], "unverifiedCertificate"),
            algorithm=_algorithm(texts["algorithm"]),
            signature=_base64(texts["signature"], "signature"),
            format=texts["format"],
            app_version=texts["appVersion"],
        )


_FIELDS: Final = ("unverifiedCertificate", "algorithm", "signature", "format", "appVersion")
_EARLIER_APP_VERSION: Final = "issuerApp"  # what the first releases of Web eID called it


@dataclass(frozen=True, slots=True, kw_only=True)
class CardEvidence:
    """A card's token that passed every check. `notes` belong in the decision's reasons and the audit."""

    proof: Proof
    certificate: Certificate
    anchor: str
    rule: IssuerRule
    notes: tuple[Reason, ...] = ()


def verify_signature(
    token: Token, *, expected_origin: str, expected_nonce: str, allow_weak: bool = False
) -> Certificate:
    """Check the token's signature with the key of its own certificate, and return that, still untrusted.

    `expected_nonce` is the base64 text that was sent. `allow_weak` lets RSA from 1024 bits in.
    Rejected with SIGNATURE_INVALID, KEY_MISMATCH, ALGORITHM_WEAK, MALFORMED or CHALLENGE_UNKNOWN.
    """
    certificate = Certificate.parse(token.unverified_certificate)
    message = _message(token.algorithm, expected_origin, expected_nonce)
    _verify(token, certificate, message, allow_weak=allow_weak)
    return certificate


def authenticate(
    token: Token,
    *,
    expected_origin: str,
    expected_nonce: str,
    trust: TrustStore,
    revocation: RevocationData,
    now: datetime,
) -> CardEvidence:
    """Every check, in this order: certificate's dates and usage, its path, the signature, revocation.

    Raises Rejected, or Undecided when only revocation could not be judged: everything else has passed then.
    """
    with parsing("token"):
        certificate = Certificate.parse(token.unverified_certificate)
        certificate.check_validity(now)
        certificate.check_usage()
        chain = find_chain(certificate, trust, now=now)
        rule = chain.anchor.rule
        message = _message(token.algorithm, expected_origin, expected_nonce)
        _verify(token, certificate, message, allow_weak=rule.legacy_weak)
        notes = check_revocation(chain, revocation, trust, now=now)
        proof = _proof(certificate, chain.anchor, now)
        return CardEvidence(proof=proof, certificate=certificate, anchor=chain.anchor.name, rule=rule, notes=notes)


def _proof(certificate: Certificate, anchor: TrustAnchor, now: datetime) -> Proof:
    rule = anchor.rule
    strong = rule.hardware and rule.pin_enforced
    return Proof(
        method=Method.CARD,
        factors=frozenset({Factor.POSSESSION, Factor.KNOWLEDGE} if strong else {Factor.POSSESSION}),
        hardware_bound=rule.hardware,
        # The signed bytes hold the origin that the bridge was asked by, so a look-alike site gets another signature.
        phishing_resistant=True,
        user_verified=strong,
        user_present=strong,
        credential=certificate.fingerprint,
        at=now,
        certificate=certificate.der,
        issuer=anchor.name,
    )


def _load(raw: bytes) -> Mapping[str, Any]:
    if not MIN_TOKEN_BYTES <= len(raw) <= MAX_TOKEN_BYTES:
        raise _malformed("its length is out of bounds")
    with parsing("token"):
        fields = json.loads(raw.decode("utf-8"), object_pairs_hook=_unique)
    if not isinstance(fields, dict):
        raise _malformed("it is not an object")
    return fields


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise ValueError("a name stands twice")
    return fields


def _text(fields: Mapping[str, Any], name: str) -> str:
    value = fields.get(name)
    if not isinstance(value, str) or not value:
        raise _malformed(f"{name} is missing or not text")
    return value


def _base64(text: str, name: str) -> bytes:
    with parsing(f"token's {name}"):
        data = b64decode(text, validate=True)
        # One value, one text: no ignored bits at the end, no missing padding (RFC 4648, section 3.5).
        if b64encode(data).decode("ascii") != text:
            raise ValueError("not canonical base64")
    return data


def _algorithm(name: str) -> Algorithm:
    try:
        return Algorithm(name)
    except ValueError as err:
        text = "The token's signature algorithm is not supported here."
        raise Rejected(RejectReason.ALGORITHM_UNSUPPORTED, text) from err


def _malformed(why: str) -> Rejected:
    return Rejected(RejectReason.MALFORMED, f"The token can't be read: {why}.")


def _message(algorithm: Algorithm, origin: str, nonce: str) -> bytes:
    """H(origin) || H(nonce), both as UTF-8 text."""
    if not 0 < len(origin) <= MAX_ORIGIN_LENGTH or len(nonce) < MIN_NONCE_LENGTH:
        raise Rejected(RejectReason.CHALLENGE_UNKNOWN, "There is no challenge that this could answer.")
    name = algorithm.hash.name
    parts = (hashlib.new(name, part.encode("utf-8")).digest() for part in (origin, nonce))
    return b"".join(parts)


def _verify(token: Token, certificate: Certificate, message: bytes, *, allow_weak: bool) -> None:
    key = certificate.public_key()
    try:
        if isinstance(key, rsa.RSAPublicKey):
            _verify_rsa(token, key, message, LEGACY_RSA_BITS if allow_weak else MIN_RSA_BITS)
        else:
            _verify_ec(token, key, message)
    except (InvalidSignature, *PARSER_ERRORS) as err:
        text = "The card's signature does not fit this sign-in."
        raise Rejected(RejectReason.SIGNATURE_INVALID, text, detail=f"{token.algorithm}: {err!r}") from err


def _verify_rsa(token: Token, key: rsa.RSAPublicKey, message: bytes, floor: int) -> None:
    if token.algorithm in _CURVES:
        raise _mismatch(token, "RSA")
    if key.key_size < floor:
        raise Rejected(
            RejectReason.ALGORITHM_WEAK, "The card's key is too short to be trusted.", detail=f"RSA {key.key_size}"
        )
    digest = token.algorithm.hash
    if token.algorithm.startswith("PS"):
        # RFC 7518, section 3.5: the salt is as long as the hash.
        scheme: Any = padding.PSS(mgf=padding.MGF1(digest), salt_length=digest.digest_size)
    else:
        scheme = padding.PKCS1v15()
    key.verify(token.signature, message, scheme, digest)


def _verify_ec(token: Token, key: ec.EllipticCurvePublicKey, message: bytes) -> None:
    curve, size = _CURVES.get(token.algorithm, ("", 0))
    if key.curve.name != curve:
        raise _mismatch(token, key.curve.name)
    # Raw R || S only (RFC 7518, section 3.4): a second encoding of the same signature would be a second token.
    if len(token.signature) != 2 * size:
        raise InvalidSignature(f"{len(token.signature)} bytes instead of {2 * size}")
    r, s = (int.from_bytes(half, "big") for half in (token.signature[:size], token.signature[size:]))
    key.verify(encode_dss_signature(r, s), message, ec.ECDSA(token.algorithm.hash))


def _mismatch(token: Token, kind: str) -> Rejected:
    text = "The card's key and the token's algorithm do not belong together."
    return Rejected(RejectReason.KEY_MISMATCH, text, detail=f"{token.algorithm} with {kind}")
