"""A certificate's path to one of a few configured roots (RFC 5280 section 6.1, the part that attestation needs).

For the short chains of security keys and of their metadata. Revocation is the metadata's business. Cards have their own
verifier, with policies, names and revocation (`chain`).
"""

from __future__ import annotations

import datetime as dt
import itertools
from collections.abc import Sequence
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm

from tokenbridge.wire import tlv

MAX_PATH: Final = 6
MAX_CERTIFICATE_BYTES: Final = 8192

CERTIFICATE_ERRORS: Final = (
    ValueError,
    TypeError,
    InvalidSignature,
    UnsupportedAlgorithm,
    x509.AttributeNotFound,
    x509.DuplicateExtension,
    x509.ExtensionNotFound,
    x509.InvalidVersion,
    x509.UnsupportedGeneralNameType,
)
"""What `cryptography` raises on certificates that are not what they should be."""


class PathError(ValueError):
    """There is no good path. Does not leave `rp`."""


def parse_certificates(ders: Sequence[object]) -> tuple[x509.Certificate, ...]:
    """Certificates from DER, the leaf first. Raises `PathError`."""
    if not 1 <= len(ders) <= MAX_PATH:
        raise PathError(f"a path of {len(ders)} certificates")
    found = []
    for der in ders:
        if not isinstance(der, bytes) or len(der) > MAX_CERTIFICATE_BYTES:
            raise PathError("a certificate that is no bytes, or too large")
        try:
            _check_form(der)
            found.append(x509.load_der_x509_certificate(der))
        except CERTIFICATE_ERRORS as err:
            raise PathError(f"certificate: {err}") from err
    return tuple(found)


def _check_form(der: bytes) -> None:
    """What the parser overlooks: serial numbers are positive (RFC 5280 section 4.1.2.2), signatures whole bytes."""
    signature = tlv.find(der, 0x30, 0x03)
    if not signature or signature[0] != 0:
        raise PathError("a signature that is not of whole bytes")
    serial = tlv.find(der, 0x30, 0x30, 0x02)
    if not serial or serial[0] & 0x80 or not any(serial):
        raise PathError("a serial number that is not positive")


def find_root(
    path: Sequence[x509.Certificate], roots: Sequence[x509.Certificate], at: dt.datetime
) -> x509.Certificate | None:
    """The root that `path` (leaf first) leads to, all valid at `at`, or None."""
    for count in range(1, len(path) + 1):
        links = path[:count]
        for root in roots:
            # A metadata statement may name the very certificate of the path as what is trusted (MDS 3 section 3.1.1).
            full = links if links[-1] == root else (*links, root)
            if _is_good(full, at):
                return root
    return None


def _is_good(path: Sequence[x509.Certificate], at: dt.datetime) -> bool:
    try:
        for depth, (below, issuer) in enumerate(itertools.pairwise(path)):
            _check_authority(issuer, depth)
            below.verify_directly_issued_by(issuer)
        return all(cert.not_valid_before_utc <= at <= cert.not_valid_after_utc for cert in path)
    except CERTIFICATE_ERRORS:
        return False


def _check_authority(issuer: x509.Certificate, below: int) -> None:
    """RFC 5280 section 6.1.4 (k) to (n); `below` counts the authorities between it and the leaf."""
    constraints = issuer.extensions.get_extension_for_class(x509.BasicConstraints).value
    if not constraints.ca or (constraints.path_length is not None and below > constraints.path_length):
        raise PathError("an issuer that may not issue this")
    try:
        usage = issuer.extensions.get_extension_for_class(x509.KeyUsage).value
    except x509.ExtensionNotFound:
        return
    if not usage.key_cert_sign:
        raise PathError("an issuer that may not sign certificates")
