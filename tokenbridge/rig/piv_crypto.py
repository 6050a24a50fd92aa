"""What a PIV card's processor does with keys: raw RSA, ECDSA, ECDH, management-key ciphers. It knows no APDUs.

This is Python arithmetic for test benches: not constant in time, keys not protected.
"""

from __future__ import annotations

from enum import IntEnum, unique
from typing import Final

from cryptography.hazmat.decrepit.ciphers.algorithms import TripleDES
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
from cryptography.hazmat.primitives.ciphers import Cipher, modes
from cryptography.hazmat.primitives.ciphers.algorithms import AES

from tokenbridge.wire import tlv

PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey
PublicKey = rsa.RSAPublicKey | ec.EllipticCurvePublicKey


@unique
class Algorithm(IntEnum):
    """Algorithm identifiers (SP 800-78-4 table 6-2, SP 800-78-5 for RSA3072, vendors' for RSA4096)."""

    TDES = 0x03
    RSA3072 = 0x05
    RSA1024 = 0x06
    RSA2048 = 0x07
    AES128 = 0x08
    AES192 = 0x0A
    AES256 = 0x0C
    P256 = 0x11
    P384 = 0x14
    RSA4096 = 0x16


RSA_BITS: Final = {
    Algorithm.RSA1024: 1024,
    Algorithm.RSA2048: 2048,
    Algorithm.RSA3072: 3072,
    Algorithm.RSA4096: 4096,
}
CURVES: Final[dict[Algorithm, ec.EllipticCurve]] = {Algorithm.P256: ec.SECP256R1(), Algorithm.P384: ec.SECP384R1()}
CURVE_HASHES: Final[dict[Algorithm, hashes.HashAlgorithm]] = {
    Algorithm.P256: hashes.SHA256(),
    Algorithm.P384: hashes.SHA384(),
}
MANAGEMENT_KEY_BYTES: Final[dict[int, int]] = {
    Algorithm.TDES: 24,
    Algorithm.AES128: 16,
    Algorithm.AES192: 24,
    Algorithm.AES256: 32,
}


class CryptoRefused(ValueError):
    """The input does not fit the key."""


def is_asymmetric(algorithm: int) -> bool:
    return algorithm in RSA_BITS or algorithm in CURVES


def generate(algorithm: Algorithm) -> PrivateKey:
    """A new key; `algorithm` is an RSA or a curve one."""
    if algorithm in RSA_BITS:
        return rsa.generate_private_key(public_exponent=65537, key_size=RSA_BITS[algorithm])
    return ec.generate_private_key(CURVES[algorithm])


def algorithm_of(key: PrivateKey | PublicKey) -> Algorithm:
    """The identifier that fits `key`; raises `CryptoRefused` for sizes and curves that PIV does not have."""
    if isinstance(key, (rsa.RSAPrivateKey, rsa.RSAPublicKey)):
        found = [name for name, bits in RSA_BITS.items() if bits == key.key_size]
    else:
        found = [name for name, curve in CURVES.items() if curve.name == key.curve.name]
    if not found:
        raise CryptoRefused("no PIV algorithm for this key")
    return found[0]


def public_template(key: PublicKey) -> bytes:
    """The data objects inside 7F49: modulus and exponent (81, 82), or the uncompressed point (86)."""
    if isinstance(key, rsa.RSAPublicKey):
        numbers = key.public_numbers()
        modulus = numbers.n.to_bytes(key.key_size // 8, "big")
        return tlv.encode(0x81, modulus) + tlv.encode(0x82, numbers.e.to_bytes(3, "big"))
    return tlv.encode(0x86, _point(key))


def _point(key: ec.EllipticCurvePublicKey) -> bytes:
    numbers = key.public_numbers()
    size = (key.curve.key_size + 7) // 8
    return b"\x04" + numbers.x.to_bytes(size, "big") + numbers.y.to_bytes(size, "big")


def rsa_private(key: rsa.RSAPrivateKey, block: bytes) -> bytes:
    """The bare private-key operation on a block as long as the modulus, to sign or to decrypt (RFC 8017 5.1.2)."""
    size = key.key_size // 8
    if len(block) != size:
        raise CryptoRefused(f"block of {len(block)} bytes for a key of {size}")
    numbers = key.private_numbers()
    value = int.from_bytes(block, "big")
    if value >= numbers.public_numbers.n:
        raise CryptoRefused("block not below the modulus")
    first = pow(value, numbers.dmp1, numbers.p)
    second = pow(value, numbers.dmq1, numbers.q)
    return (second + numbers.q * ((first - second) * numbers.iqmp % numbers.p)).to_bytes(size, "big")


def ecdsa_sign(key: ec.EllipticCurvePrivateKey, digest: bytes) -> bytes:
    """DER ECDSA signature over `digest`: the leftmost bytes of a long one, a short one as the number it is."""
    if not digest:
        raise CryptoRefused("nothing to sign")
    algorithm = algorithm_of(key)
    size = (key.curve.key_size + 7) // 8
    return key.sign(digest[:size].rjust(size, b"\0"), ec.ECDSA(Prehashed(CURVE_HASHES[algorithm])))


def ecdh(key: ec.EllipticCurvePrivateKey, point: bytes) -> bytes:
    """The shared secret's x coordinate with the other side's uncompressed `point`."""
    try:
        peer = ec.EllipticCurvePublicKey.from_encoded_point(key.curve, point)
        return key.exchange(ec.ECDH(), peer)
    except ValueError as err:
        raise CryptoRefused("not a point of this curve") from err


def _cipher(algorithm: int, key: bytes) -> Cipher[modes.ECB]:
    # ECB of one block each way is what the standard's challenge and response is (SP 800-73-4 part 2 section 3.2.4)
    block = TripleDES(key) if algorithm == Algorithm.TDES else AES(key)
    return Cipher(block, modes.ECB())  # noqa: S305 - the standard's single-block challenge, see above


def block_size(algorithm: int) -> int:
    return 8 if algorithm == Algorithm.TDES else 16


def encrypt_block(algorithm: int, key: bytes, block: bytes) -> bytes:
    """One block under the management key."""
    return _cipher(algorithm, key).encryptor().update(block)


def decrypt_block(algorithm: int, key: bytes, block: bytes) -> bytes:
    """One block under the management key."""
    return _cipher(algorithm, key).decryptor().update(block)
