"""PIN/UV auth protocols one and two, the authenticator's half (CTAP 2.1 sections 6.5.6 and 6.5.7). Pure arithmetic."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from tokenbridge.authenticator.ports import Random
from tokenbridge.authenticator.profile import PinProtocol
from tokenbridge.authenticator.status import Refusal, Status

BLOCK: Final = 16
COORDINATE: Final = 32
_ORDER: Final = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
"""Order of the curve P-256's base point (SEC 2 section 2.4.2)."""
_KTY, _ALG, _CRV, _X, _Y = 1, 3, -1, -2, -3
_EC2, _P256, _ECDH_ES_HKDF_256 = 2, 1, -25
_V1_PARAM: Final = 16


class SharedSecret(Protocol):
    """What platform and authenticator agreed on for one dialogue."""

    def encrypt(self, clear: bytes) -> bytes: ...

    def decrypt(self, sealed: bytes) -> bytes | None:
        """None unless `sealed` is whole blocks."""

    def verifies(self, message: bytes, signature: bytes) -> bool: ...


def verifies(number: PinProtocol, key: bytes, message: bytes, signature: bytes) -> bool:
    """Whether `signature` is the protocol's authentication of `message` under `key`, compared in constant time."""
    full = hmac.new(key, message, hashlib.sha256).digest()
    expected = full[:_V1_PARAM] if number is PinProtocol.ONE else full
    return hmac.compare_digest(expected, signature)


@dataclass(frozen=True, slots=True)
class SecretOne:
    """Section 6.5.6: one key for both, AES-256-CBC with an initial vector of zeros."""

    key: bytes

    def encrypt(self, clear: bytes) -> bytes:
        return _encrypt(self.key, bytes(BLOCK), clear)

    def decrypt(self, sealed: bytes) -> bytes | None:
        return _decrypt(self.key, bytes(BLOCK), sealed)

    def verifies(self, message: bytes, signature: bytes) -> bool:
        return verifies(PinProtocol.ONE, self.key, message, signature)


@dataclass(frozen=True, slots=True)
class SecretTwo:
    """Section 6.5.7: separate keys, and an initial vector in front of the ciphertext."""

    hmac_key: bytes
    aes_key: bytes
    random: Random

    def encrypt(self, clear: bytes) -> bytes:
        vector = self.random.bytes(BLOCK)
        return vector + _encrypt(self.aes_key, vector, clear)

    def decrypt(self, sealed: bytes) -> bytes | None:
        return _decrypt(self.aes_key, sealed[:BLOCK], sealed[BLOCK:]) if len(sealed) >= BLOCK else None

    def verifies(self, message: bytes, signature: bytes) -> bool:
        return verifies(PinProtocol.TWO, self.hmac_key, message, signature)


class KeyAgreement:
    """The authenticator's half of the key agreement of one protocol; `regenerate` after each wrong PIN."""

    def __init__(self, number: PinProtocol, random: Random) -> None:
        self.number = number
        self._random = random
        self.regenerate()

    def regenerate(self) -> None:
        # 64 bits more than the order has make the remainder's bias negligible (FIPS 186-5 appendix A.2.1)
        scalar = int.from_bytes(self._random.bytes(COORDINATE + 8), "big") % (_ORDER - 1) + 1
        self._private = ec.derive_private_key(scalar, ec.SECP256R1())

    def public(self) -> dict[int, Any]:
        """The COSE key that getKeyAgreement answers (section 6.5.5.4)."""
        numbers = self._private.public_key().public_numbers()
        x, y = (value.to_bytes(COORDINATE, "big") for value in (numbers.x, numbers.y))
        return {_KTY: _EC2, _ALG: _ECDH_ES_HKDF_256, _CRV: _P256, _X: x, _Y: y}

    def decapsulate(self, unverified_peer: Mapping[Any, Any]) -> SharedSecret:
        """Refuses with INVALID_PARAMETER what is no point of the curve."""
        shared = self._private.exchange(ec.ECDH(), _peer(unverified_peer))
        if self.number is PinProtocol.ONE:
            return SecretOne(hashlib.sha256(shared).digest())
        keys = [_hkdf(shared, info) for info in (b"CTAP2 HMAC key", b"CTAP2 AES key")]
        return SecretTwo(keys[0], keys[1], self._random)


def _peer(unverified: Mapping[Any, Any]) -> ec.EllipticCurvePublicKey:
    x, y = unverified.get(_X), unverified.get(_Y)
    if not isinstance(x, bytes) or not isinstance(y, bytes) or unverified.get(_CRV) != _P256:
        raise Refusal(Status.INVALID_PARAMETER)
    if unverified.get(_KTY) != _EC2 or len(x) != COORDINATE or len(y) != COORDINATE:
        raise Refusal(Status.INVALID_PARAMETER)
    try:
        return ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), b"\x04" + x + y)
    except ValueError as err:
        raise Refusal(Status.INVALID_PARAMETER) from err


def _hkdf(shared: bytes, info: bytes) -> bytes:
    return HKDF(algorithm=hashes.SHA256(), length=32, salt=bytes(32), info=info).derive(shared)


def _encrypt(key: bytes, vector: bytes, clear: bytes) -> bytes:
    cipher = Cipher(algorithms.AES(key), modes.CBC(vector)).encryptor()
    return cipher.update(clear) + cipher.finalize()


def _decrypt(key: bytes, vector: bytes, sealed: bytes) -> bytes | None:
    if not sealed or len(sealed) % BLOCK:
        return None
    cipher = Cipher(algorithms.AES(key), modes.CBC(vector)).decryptor()
    return cipher.update(sealed) + cipher.finalize()
