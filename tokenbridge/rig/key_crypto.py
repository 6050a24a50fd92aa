"""Private keys of a virtual security key, in software: made, signed with, and packed into the bytes of a handle."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_der_private_key,
)
from fido2 import cose

from tokenbridge.authenticator.profile import Algorithm

KeyPair = ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey | rsa.RSAPrivateKey
RSA_BITS: Final = 2048
_CURVES: Final[dict[Algorithm, type[ec.EllipticCurve]]] = {
    Algorithm.ES256: ec.SECP256R1,
    Algorithm.ES384: ec.SECP384R1,
}


def generate(algorithm: Algorithm) -> KeyPair:
    """A new key pair; RSA takes some tenths of a second."""
    match algorithm:
        case Algorithm.RS256:
            return rsa.generate_private_key(public_exponent=65537, key_size=RSA_BITS)
        case Algorithm.EDDSA:
            return ed25519.Ed25519PrivateKey.generate()
        case _:
            return ec.generate_private_key(_CURVES[algorithm]())


def public_cose(algorithm: Algorithm, pair: KeyPair) -> Mapping[int, Any]:
    """The COSE key (RFC 9053)."""
    return dict(cose.CoseKey.for_alg(algorithm).from_cryptography_key(pair.public_key()))


def sign(algorithm: Algorithm, pair: KeyPair, message: bytes) -> bytes:
    """In the form of WebAuthn section 6.5.5: ECDSA as DER, EdDSA as R || S, RSA with PKCS#1 v1.5 padding."""
    match pair:
        case ed25519.Ed25519PrivateKey():
            return pair.sign(message)
        case rsa.RSAPrivateKey():
            return pair.sign(message, padding.PKCS1v15(), hashes.SHA256())
        case _:
            digest = hashes.SHA384() if algorithm is Algorithm.ES384 else hashes.SHA256()
            return pair.sign(message, ec.ECDSA(digest))


def pack(pair: KeyPair) -> bytes:
    """As short as it gets: the scalar or seed; PKCS#8 for RSA."""
    match pair:
        case ed25519.Ed25519PrivateKey():
            return pair.private_bytes_raw()
        case rsa.RSAPrivateKey():
            return pair.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
        case _:
            return pair.private_numbers().private_value.to_bytes((pair.key_size + 7) // 8, "big")


def unpack(algorithm: Algorithm, packed: bytes) -> KeyPair:
    """Inverse of `pack`; raises ValueError."""
    match algorithm:
        case Algorithm.RS256:
            pair = load_der_private_key(packed, password=None)
            if not isinstance(pair, rsa.RSAPrivateKey):
                raise ValueError("not an RSA key")
            return pair
        case Algorithm.EDDSA:
            return ed25519.Ed25519PrivateKey.from_private_bytes(packed)
        case _:
            return ec.derive_private_key(int.from_bytes(packed, "big"), _CURVES[algorithm]())
