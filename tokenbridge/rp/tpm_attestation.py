"""The attestation format `tpm` (WebAuthn Level 3 section 8.3), on python-fido2's reading of the public area.

Its own reading of `certInfo` refuses clocks that WebAuthn does not ask about, so that part is read here: a TPMS_ATTEST
(TPM 2.0 Part 2 section 10.12.12), of which the clock and the firmware's version are passed over.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any, Final

from cryptography import x509
from cryptography.x509.oid import ObjectIdentifier
from fido2.attestation.base import Attestation, AttestationResult, AttestationType, InvalidData
from fido2.attestation.tpm import TpmPublicFormat
from fido2.cose import CoseKey
from fido2.utils import ByteBuffer
from fido2.webauthn import AuthenticatorData

_AIK: Final = ObjectIdentifier("2.23.133.8.3")
_MAGIC_AND_TYPE: Final = b"\xffTCG\x80\x17"  # TPM_GENERATED_VALUE, TPM_ST_ATTEST_CERTIFY
_CLOCK_AND_FIRMWARE: Final = 17 + 8
_HASHES: Final = {-7: "sha256", -35: "sha384", -36: "sha512", -257: "sha256"}


class TpmAttestation(Attestation):
    FORMAT = "tpm"

    def verify(
        self, statement: Mapping[str, Any], auth_data: AuthenticatorData, client_data_hash: bytes
    ) -> AttestationResult:
        """Raises `InvalidData`, or what the parsers raise; the caller turns both into a refusal."""
        if statement["ver"] != "2.0":
            raise InvalidData("another version than 2.0")
        leaf = x509.load_der_x509_certificate(statement["x5c"][0])
        _check_certificate(leaf)
        public = TpmPublicFormat.parse(statement["pubArea"])
        _check_public_area(public, auth_data)
        algorithm = statement["alg"]
        signed = hashlib.new(_HASHES[algorithm], auth_data + client_data_hash).digest()
        data, name = _read_cert_info(statement["certInfo"])
        if data != signed:
            raise InvalidData("extraData is not of this registration")
        if name != public.name():
            raise InvalidData("another public area was certified")
        CoseKey.for_alg(algorithm).from_cryptography_key(leaf.public_key()).verify(
            statement["certInfo"], statement["sig"]
        )
        return AttestationResult(AttestationType.ATT_CA, list(statement["x5c"]))


def _check_public_area(public: TpmPublicFormat, auth_data: AuthenticatorData) -> None:
    credential = auth_data.credential_data
    if credential is None:
        raise InvalidData("no credential")
    key = credential.public_key
    if dict(type(key).from_cryptography_key(public.public_key())) != dict(key):
        raise InvalidData("the public area is of another key")


def _read_cert_info(unverified: bytes) -> tuple[bytes, bytes]:
    """extraData, and the name of what was certified."""
    reader = ByteBuffer(unverified)
    if reader.read(len(_MAGIC_AND_TYPE)) != _MAGIC_AND_TYPE:
        raise InvalidData("no certificate made by a TPM")
    _sized(reader)  # qualifiedSigner
    data = _sized(reader)
    reader.read(_CLOCK_AND_FIRMWARE)
    name = _sized(reader)
    _sized(reader)  # qualifiedName
    if reader.read():
        raise InvalidData("bytes after certInfo")
    return data, name


def _sized(reader: ByteBuffer) -> bytes:
    size: int = reader.unpack("!H")
    return reader.read(size) if size else b""


def _check_certificate(leaf: x509.Certificate) -> None:
    """Section 8.3.1: version 3, no subject, a TPM's name, for attestation identity keys, no authority."""
    extensions = leaf.extensions
    if leaf.version is not x509.Version.v3 or len(leaf.subject) > 0:
        raise InvalidData("a certificate with a subject, or not of version 3")
    extensions.get_extension_for_class(x509.SubjectAlternativeName)
    if _AIK not in extensions.get_extension_for_class(x509.ExtendedKeyUsage).value:
        raise InvalidData("the certificate is not an attestation identity key's")
    if extensions.get_extension_for_class(x509.BasicConstraints).value.ca:
        raise InvalidData("the certificate is an authority's")
