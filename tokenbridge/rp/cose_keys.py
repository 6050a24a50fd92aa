"""Public keys of credentials: COSE keys that are accepted, checked, and made ready to verify signatures.

RFC 9053 names the parameters, WebAuthn Level 3 section 5.8.5 the algorithms. No key is trusted here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Final, TypeAlias

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, padding, rsa

from tokenbridge.errors import RejectReason
from tokenbridge.rp.cbor_form import CborError, decode
from tokenbridge.rp.refusals import refusal

MAX_KEY_BYTES: Final = 2048
MIN_RSA_BITS: Final = 2048
MAX_RSA_BITS: Final = 4096
CACHED_KEYS: Final = 4096

Verify: TypeAlias = Callable[[bytes, bytes], None]
"""(signature, message); raises InvalidSignature."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CredentialKey:
    """A public key that can verify. `algorithm` is the COSE number; `cose` the encoded key."""

    algorithm: int
    cose: bytes = field(repr=False)
    public: Any = field(repr=False, compare=False)
    _verify: Verify = field(repr=False, compare=False)

    def verify(self, signature: bytes, message: bytes) -> None:
        """Raises Rejected(SIGNATURE_INVALID)."""
        try:
            self._verify(signature, message)
        except InvalidSignature as err:
            raise refusal(RejectReason.SIGNATURE_INVALID) from err


@dataclass(frozen=True, slots=True, kw_only=True)
class _Curve:
    number: int
    size: int
    curve: ec.EllipticCurve
    hash: hashes.HashAlgorithm


_P256: Final = _Curve(number=1, size=32, curve=ec.SECP256R1(), hash=hashes.SHA256())
_P384: Final = _Curve(number=2, size=48, curve=ec.SECP384R1(), hash=hashes.SHA384())
_P521: Final = _Curve(number=3, size=66, curve=ec.SECP521R1(), hash=hashes.SHA512())

# The second number of each curve is the fully specified one (RFC 9864), which some keys send.
_EC: Final = {-7: _P256, -9: _P256, -35: _P384, -51: _P384, -36: _P521, -52: _P521}
_OKP: Final[Mapping[int, tuple[int, int, Any]]] = {
    -8: (6, 32, ed25519.Ed25519PublicKey),
    -19: (6, 32, ed25519.Ed25519PublicKey),
    -53: (7, 57, ed448.Ed448PublicKey),
}
_RS256: Final = -257

OFFERED: Final = (-7, -8, -35, -36, -257, -53)
"""What is asked for, the preferred one first: ES256, EdDSA, ES384, ES512, RS256, Ed448."""
ALGORITHMS: Final = frozenset({*_EC, *_OKP, _RS256})


@lru_cache(maxsize=CACHED_KEYS)
def load_key(cose: bytes, algorithms: frozenset[int] = ALGORITHMS) -> CredentialKey:
    """The key in `cose`; remembered, since making one ready costs as much as a check of its signature.

    Raises Rejected: MALFORMED, ALGORITHM_UNSUPPORTED or ALGORITHM_WEAK.
    """
    if len(cose) > MAX_KEY_BYTES:
        raise refusal(RejectReason.MALFORMED, f"public key of {len(cose)} bytes")
    try:
        parameters = decode(cose)
        if not isinstance(parameters, dict):
            raise CborError("a COSE key is a map")
        return _load(cose, parameters, algorithms)
    except (ValueError, TypeError, UnsupportedAlgorithm) as err:
        raise refusal(RejectReason.MALFORMED, f"public key: {err}") from err


def _load(cose: bytes, parameters: dict[Any, Any], algorithms: frozenset[int]) -> CredentialKey:
    algorithm = parameters.get(3)
    if type(algorithm) is not int or algorithm not in algorithms:
        raise refusal(RejectReason.ALGORITHM_UNSUPPORTED, f"algorithm {algorithm!r}")
    if algorithm in _EC:
        public, verify = _ec_key(parameters, _EC[algorithm])
    elif algorithm in _OKP:
        public, verify = _okp_key(parameters, *_OKP[algorithm])
    else:
        public, verify = _rsa_key(parameters)
    return CredentialKey(algorithm=algorithm, cose=cose, public=public, _verify=verify)


def _ec_key(parameters: dict[Any, Any], which: _Curve) -> tuple[Any, Verify]:
    # WebAuthn section 6.5.1.1: uncompressed points, and no optional parameter but alg.
    x, y = _require(parameters, {1: 2, -1: which.number}, {-2: which.size, -3: which.size})
    numbers = ec.EllipticCurvePublicNumbers(int.from_bytes(x, "big"), int.from_bytes(y, "big"), which.curve)
    public, algorithm = numbers.public_key(), ec.ECDSA(which.hash)  # refuses points that are not on the curve
    return public, lambda signature, message: public.verify(signature, message, algorithm)


def _okp_key(parameters: dict[Any, Any], curve: int, size: int, kind: Any) -> tuple[Any, Verify]:
    (raw,) = _require(parameters, {1: 1, -1: curve}, {-2: size})
    public = kind.from_public_bytes(raw)
    return public, public.verify


def _rsa_key(parameters: dict[Any, Any]) -> tuple[Any, Verify]:
    modulus, exponent = _require(parameters, {1: 3}, {-1: None, -2: None})
    n, e = int.from_bytes(modulus, "big"), int.from_bytes(exponent, "big")
    if not MIN_RSA_BITS <= n.bit_length() <= MAX_RSA_BITS or not 65537 <= e < 1 << 32 or not e & n & 1:
        raise refusal(RejectReason.ALGORITHM_WEAK, f"RSA of {n.bit_length()} bits, exponent {e}")
    public = rsa.RSAPublicNumbers(e, n).public_key()
    scheme, digest = padding.PKCS1v15(), hashes.SHA256()
    return public, lambda signature, message: public.verify(signature, message, scheme, digest)


def _require(
    parameters: dict[Any, Any], numbers: Mapping[int, int], texts: Mapping[int, int | None]
) -> tuple[bytes, ...]:
    """The byte strings of a key that has exactly these parameters."""
    if set(parameters) != {3, *numbers, *texts}:
        raise CborError("parameters that do not belong to this kind of key, or too few")
    if any(type(parameters[name]) is not int or parameters[name] != value for name, value in numbers.items()):
        raise CborError("key type or curve does not fit the algorithm")
    values = tuple(parameters[name] for name in texts)
    for value, size in zip(values, texts.values(), strict=True):
        if not isinstance(value, bytes) or (size is not None and len(value) != size):
            raise CborError("a coordinate of the wrong length")
    return values
