"""A security key made of software, for tests: signs as keys do, and wrongly when told to. Not the product's own one."""

from __future__ import annotations

import datetime as dt
import hashlib
import json
import os
import struct
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from fido2 import cbor
from fido2.cose import CoseKey

UP, UV, BE, BS, AT, ED = 0x01, 0x04, 0x08, 0x10, 0x40, 0x80
AAGUID = bytes.fromhex("0102030405060708a1a2a3a4a5a6a7a8")
ES256, EDDSA, ES384, RS256 = -7, -8, -35, -257


def b64u(data: bytes) -> str:
    return urlsafe_b64encode(data).rstrip(b"=").decode()


def client_data(kind: str, challenge: str, origin: str, changes: Mapping[str, Any] | None = None) -> bytes:
    data = {"type": kind, "challenge": challenge, "origin": origin, "crossOrigin": False, **(changes or {})}
    return json.dumps(data, separators=(",", ":")).encode()


def new_private_key(algorithm: int) -> Any:
    match algorithm:
        case -7:
            return ec.generate_private_key(ec.SECP256R1())
        case -35:
            return ec.generate_private_key(ec.SECP384R1())
        case -8:
            return ed25519.Ed25519PrivateKey.generate()
        case _:
            return rsa.generate_private_key(65537, 2048)


def sign(key: Any, algorithm: int, message: bytes) -> bytes:
    match algorithm:
        case -7:
            return key.sign(message, ec.ECDSA(hashes.SHA256()))
        case -35:
            return key.sign(message, ec.ECDSA(hashes.SHA384()))
        case -8:
            return key.sign(message)
        case _:
            return key.sign(message, padding.PKCS1v15(), hashes.SHA256())


@dataclass
class Maker:
    """A maker's root and what it issues: attestation certificates for one model."""

    name: str = "Test Maker"
    key: ec.EllipticCurvePrivateKey = field(default_factory=lambda: ec.generate_private_key(ec.SECP256R1()))
    root: x509.Certificate = field(init=False)

    def __post_init__(self) -> None:
        name = _name(self.name, "Root")
        self.root = self._build(name, name, self.key.public_key(), authority=True).sign(self.key, hashes.SHA256())

    @property
    def der(self) -> bytes:
        return self.root.public_bytes(Encoding.DER)

    @property
    def pem(self) -> bytes:
        return self.root.public_bytes(Encoding.PEM)

    def issue(self, aaguid: bytes | None = AAGUID) -> tuple[ec.EllipticCurvePrivateKey, bytes]:
        """A key and certificate for attestation."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = _name(self.name, "Authenticator Attestation")
        builder = self._build(subject, self.root.subject, key.public_key(), authority=False)
        if aaguid is not None:
            extension = x509.UnrecognizedExtension(
                x509.ObjectIdentifier("1.3.6.1.4.1.45724.1.1.4"), b"\x04\x10" + aaguid
            )
            builder = builder.add_extension(extension, critical=False)
        return key, builder.sign(self.key, hashes.SHA256()).public_bytes(Encoding.DER)

    def _build(self, subject: x509.Name, issuer: x509.Name, public: Any, *, authority: bool) -> Any:
        now = dt.datetime.now(dt.UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(issuer)
            .public_key(public)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - dt.timedelta(days=1000))
            .not_valid_after(now + dt.timedelta(days=3650))
            .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
        )


def _name(organisation: str, unit: str) -> x509.Name:
    oid = x509.NameOID
    values = [
        (oid.COUNTRY_NAME, "GB"),
        (oid.ORGANIZATION_NAME, organisation),
        (oid.ORGANIZATIONAL_UNIT_NAME, unit),
        (oid.COMMON_NAME, f"{organisation} {unit}"),
    ]
    return x509.Name([x509.NameAttribute(*pair) for pair in values])


@dataclass
class SoftwareKey:
    """One key. `maker` None: self attestation when `fmt` is packed. Every message may be bent by keyword."""

    algorithm: int = ES256
    aaguid: bytes = AAGUID
    maker: Maker | None = None
    fmt: str = "none"
    flags: int = UP | UV
    counter: int = 0
    discoverable: bool = True
    credential_id: bytes = field(default_factory=lambda: os.urandom(32))
    private: Any = None
    handle: bytes = b""

    def __post_init__(self) -> None:
        self.private = self.private or new_private_key(self.algorithm)
        self.attestation = self.maker.issue(self.aaguid) if self.maker is not None else None

    @property
    def cose(self) -> bytes:
        return cbor.encode(dict(CoseKey.for_alg(self.algorithm).from_cryptography_key(self.private.public_key())))

    def authenticator_data(self, rp_id: str, flags: int, extra: bytes = b"", counter: int | None = None) -> bytes:
        count = self.counter if counter is None else counter
        return hashlib.sha256(rp_id.encode()).digest() + struct.pack(">BI", flags, count) + extra

    def register(self, options: Mapping[str, Any], origin: str, **bent: Any) -> dict[str, Any]:
        """A `RegistrationResponseJSON`. `bent`: rp_id, flags, client (changes to client data), cose, statement."""
        client = client_data("webauthn.create", options["challenge"], origin, bent.get("client"))
        attested = self.aaguid + struct.pack(">H", len(self.credential_id)) + self.credential_id
        extensions = bent.get("extensions", {})
        flags = bent.get("flags", self.flags) | AT | (ED if extensions else 0)
        extra = attested + bent.get("cose", self.cose) + (cbor.encode(extensions) if extensions else b"")
        data = self.authenticator_data(bent.get("rp_id", options["rp"]["id"]), flags, extra)
        statement = bent.get("statement") or self._statement(data, client)
        self.handle = unb64u(options["user"]["id"])
        return {
            **self._named(),
            "response": {
                "clientDataJSON": b64u(client),
                "attestationObject": b64u(
                    cbor.encode({"fmt": bent.get("fmt", self.fmt), "attStmt": statement, "authData": data})
                ),
                "transports": ["usb"],
            },
            "clientExtensionResults": {"credProps": {"rk": self.discoverable}},
        }

    def answer(self, options: Mapping[str, Any], origin: str, **bent: Any) -> dict[str, Any]:
        """An `AuthenticationResponseJSON`. `bent`: rp_id, flags, client, counter, handle, extensions."""
        client = client_data("webauthn.get", options["challenge"], origin, bent.get("client"))
        if self.counter:
            self.counter += 1
        extensions = bent.get("extensions", {})
        flags = bent.get("flags", self.flags) | (ED if extensions else 0)
        extra = cbor.encode(extensions) if extensions else b""
        data = self.authenticator_data(bent.get("rp_id", options["rpId"]), flags, extra, bent.get("counter"))
        signature = sign(self.private, self.algorithm, data + hashlib.sha256(client).digest())
        named = any(unb64u(one["id"]) == self.credential_id for one in options.get("allowCredentials", []))
        handle = bent.get("handle", None if named and not self.discoverable else self.handle)
        return {
            **self._named(),
            "response": {
                "clientDataJSON": b64u(client),
                "authenticatorData": b64u(data),
                "signature": b64u(signature),
                "userHandle": b64u(handle) if handle is not None else None,
            },
            "clientExtensionResults": {},
        }

    def _named(self) -> dict[str, Any]:
        name = b64u(self.credential_id)
        return {"type": "public-key", "id": name, "rawId": name, "authenticatorAttachment": "cross-platform"}

    def _statement(self, data: bytes, client: bytes) -> dict[str, Any]:
        message = data + hashlib.sha256(client).digest()
        if self.fmt == "none":
            return {}
        if self.fmt == "fido-u2f":
            return self._u2f_statement(data, client)
        if self.attestation is None:
            return {"alg": self.algorithm, "sig": sign(self.private, self.algorithm, message)}
        key, certificate = self.attestation
        return {"alg": ES256, "sig": sign(key, ES256, message), "x5c": [certificate]}

    def _u2f_statement(self, data: bytes, client: bytes) -> dict[str, Any]:
        assert self.attestation is not None
        key, certificate = self.attestation
        point = self.private.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
        message = b"\0" + data[:32] + hashlib.sha256(client).digest() + self.credential_id + point
        return {"sig": sign(key, ES256, message), "x5c": [certificate]}


def unb64u(text: str) -> bytes:
    return urlsafe_b64decode(text + "=" * (-len(text) % 4))
