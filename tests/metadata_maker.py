"""Signed blobs of metadata as the FIDO Alliance makes them (MDS 3.0 section 3.1), under a root of the tests' own."""

from __future__ import annotations

import datetime as dt
import json
from base64 import b64encode
from dataclasses import dataclass, field
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding

from tests.software_key import AAGUID, Maker, b64u


def entry(
    roots: list[bytes],
    *,
    aaguid: bytes | None = AAGUID,
    statuses: tuple[Any, ...] = ("FIDO_CERTIFIED_L1",),
    **changes: Any,
) -> dict[str, Any]:
    """An entry of a blob. A status is a name, or a whole report."""
    reports = [one if isinstance(one, dict) else {"status": one, "effectiveDate": "2024-01-01"} for one in statuses]
    text = aaguid.hex() if aaguid else ""
    dashed = "-".join((text[:8], text[8:12], text[12:16], text[16:20], text[20:]))
    named = {"aaguid": dashed} if aaguid else {"attestationCertificateKeyIdentifiers": changes.pop("key_ids")}
    statement = {
        "description": "Test Key 5",
        "authenticatorVersion": 1,
        "protocolFamily": "fido2",
        "schema": 3,
        "upv": [{"major": 1, "minor": 1}],
        "authenticationAlgorithms": ["secp256r1_ecdsa_sha256_raw"],
        "publicKeyAlgAndEncodings": ["cose"],
        "attestationTypes": ["basic_full"],
        "userVerificationDetails": [
            [{"userVerificationMethod": "passcode_external"}],
            [{"userVerificationMethod": "presence_internal"}],
        ],
        "keyProtection": ["hardware", "secure_element"],
        "matcherProtection": ["on_chip"],
        "attachmentHint": ["external", "wired"],
        "tcDisplay": [],
        "attestationRootCertificates": [b64encode(der).decode() for der in roots],
        "legalHeader": "test",
        **named,
        **changes,
    }
    return {
        **named,
        "metadataStatement": statement,
        "statusReports": reports,
        "timeOfLastStatusChange": "2024-01-01",
    }


@dataclass
class Service:
    """The metadata service: a root and a signer below it."""

    rsa: bool = False
    maker: Maker = field(default_factory=lambda: Maker(name="Metadata"))
    name: str = "mds.example.org"

    def __post_init__(self) -> None:
        new = rsa.generate_private_key(65537, 2048) if self.rsa else ec.generate_private_key(ec.SECP256R1())
        self.key: Any = new
        now = dt.datetime.now(dt.UTC)
        self.certificate = self.issue(now - dt.timedelta(days=10), now + dt.timedelta(days=100))

    def issue(self, after: dt.datetime, before: dt.datetime) -> bytes:
        subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, self.name)])
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self.maker.root.subject)
            .public_key(self.key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(after)
            .not_valid_after(before)
            .add_extension(x509.SubjectAlternativeName([x509.DNSName(self.name)]), critical=False)
        )
        return builder.sign(self.maker.key, hashes.SHA256()).public_bytes(Encoding.DER)

    def blob(self, *entries: dict[str, Any], number: int = 7, next_update: str = "2099-01-01", **header: Any) -> bytes:
        payload = {"legalHeader": "test", "no": number, "nextUpdate": next_update, "entries": list(entries)}
        algorithm = "RS256" if self.rsa else "ES256"
        head = {"alg": algorithm, "typ": "JWT", "x5c": [b64encode(self.certificate).decode()], **header}
        message = ".".join(b64u(json.dumps(part).encode()) for part in (head, payload)).encode()
        return message + b"." + b64u(self._sign(message)).encode()

    def _sign(self, message: bytes) -> bytes:
        if self.rsa:
            return self.key.sign(message, padding.PKCS1v15(), hashes.SHA256())
        r, s = decode_dss_signature(self.key.sign(message, ec.ECDSA(hashes.SHA256())))
        return r.to_bytes(32, "big") + s.to_bytes(32, "big")
