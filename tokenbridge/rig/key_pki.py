"""A test root for attestation, and batch keys that it certifies: what the makers of security keys have.

Its names say "test", and its keys lie in plain files: metadata that trusts it belongs on a test bench only.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_der_private_key,
    load_pem_private_key,
)
from cryptography.x509.oid import NameOID, ObjectIdentifier

from tokenbridge.authenticator.profile import Algorithm
from tokenbridge.errors import SetupError

FIDO_AAGUID: Final = ObjectIdentifier("1.3.6.1.4.1.45724.1.1.4")
"""id-fido-gen-ce-aaguid (WebAuthn section 8.2.1)."""
VALIDITY: Final = timedelta(days=3650)
UNIT: Final = "Authenticator Attestation"
"""Wanted by WebAuthn section 8.2.1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchKey:
    """The attestation key of a batch: an `authenticator.ports.AttestationKey`."""

    key: ec.EllipticCurvePrivateKey
    certificates: tuple[bytes, ...]

    @property
    def algorithm(self) -> Algorithm:
        return Algorithm.ES256

    def sign(self, message: bytes) -> bytes:
        return self.key.sign(message, ec.ECDSA(hashes.SHA256()))

    def encode(self) -> bytes:
        """The private key, PKCS#8 DER."""
        return self.key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())

    @classmethod
    def decode(cls, pkcs8: bytes, certificates: tuple[bytes, ...]) -> BatchKey:
        """Inverse of `encode`; raises ValueError."""
        key = load_der_private_key(pkcs8, password=None)
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise ValueError("not an elliptic-curve key")
        return cls(key=key, certificates=certificates)


class KeyPki:
    """The test root of makers of virtual keys."""

    def __init__(self, root: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> None:
        self.root = root
        self._key = key

    @classmethod
    def create(cls, *, now: datetime, label: str = "Test") -> KeyPki:
        """A new root on P-256, valid from a day before `now` for ten years."""
        key = ec.generate_private_key(ec.SECP256R1())
        name = _name(f"{label} Security Key Root", unit="Test Bench")
        root = (
            _builder(name, name, key.public_key(), now)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_ca_usage(), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .sign(key, hashes.SHA256())
        )
        return cls(root, key)

    def batch(self, aaguid: bytes, *, now: datetime) -> BatchKey:
        """A batch key for the model `aaguid`, its certificate as WebAuthn section 8.2.1 wants it."""
        key = ec.generate_private_key(ec.SECP256R1())
        name = _name(f"Test Security Key {uuid.UUID(bytes=aaguid)}", unit=UNIT)
        # an OCTET STRING of 16 bytes inside the extension's own
        aaguid_value = x509.UnrecognizedExtension(FIDO_AAGUID, b"\x04\x10" + aaguid)
        issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key())
        certificate = (
            _builder(name, self.root.subject, key.public_key(), now)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(issuer, critical=False)
            .add_extension(aaguid_value, critical=False)
            .sign(self._key, hashes.SHA256())
        )
        return BatchKey(key=key, certificates=(certificate.public_bytes(Encoding.DER),))

    def save(self, directory: Path) -> None:
        """key-root.pem and key-root.key in `directory`."""
        directory.mkdir(parents=True, exist_ok=True)
        private = self._key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        path = directory / "key-root.key"
        path.touch(mode=0o600)
        path.write_bytes(private)
        (directory / "key-root.pem").write_bytes(self.root.public_bytes(Encoding.PEM))

    @classmethod
    def load(cls, directory: Path) -> KeyPki:
        """What `save` wrote; raises `SetupError`."""
        try:
            root = x509.load_pem_x509_certificate((directory / "key-root.pem").read_bytes())
            key = load_pem_private_key((directory / "key-root.key").read_bytes(), password=None)
        except (OSError, ValueError) as err:
            raise SetupError(f"There is no test root for security keys in {directory}.", detail=repr(err)) from err
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise SetupError(f"{directory / 'key-root.key'} is not the key of a test root.")
        return cls(root, key)


def _name(common: str, *, unit: str) -> x509.Name:
    pairs = (
        (NameOID.COUNTRY_NAME, "GB"),
        (NameOID.ORGANIZATION_NAME, "tokenbridge test bench"),
        (NameOID.ORGANIZATIONAL_UNIT_NAME, unit),
        (NameOID.COMMON_NAME, common),
    )
    return x509.Name([x509.NameAttribute(oid, value) for oid, value in pairs])


def _builder(
    subject: x509.Name, issuer: x509.Name, public: ec.EllipticCurvePublicKey, now: datetime
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + VALIDITY)
    )


def _ca_usage() -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=False,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=True,
        crl_sign=True,
        encipher_only=False,
        decipher_only=False,
    )
