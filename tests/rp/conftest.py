"""The test hospital's PKI (declared in pki.yml, made by certomancer) and cards in software that sign like real ones."""

from __future__ import annotations

import hashlib
import json
from base64 import b64encode
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from asn1crypto import ocsp
from certomancer.registry import ArchLabel, CertLabel, KeyLabel, ServiceLabel
from certomancer.registry.config import CertomancerConfig
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from tokenbridge.rp.certificate import Certificate
from tokenbridge.rp.certs import IssuerRule, RevocationData, RevocationMode, TrustAnchor, TrustStore, sources_for
from tokenbridge.rp.webeid import CardEvidence, Token, authenticate

ORIGIN = "https://localhost:8443"
NONCE = b64encode(bytes(range(32))).decode()
NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
STRONG = IssuerRule(hardware=True, pin_enforced=True)
UNCHECKED = IssuerRule(hardware=True, pin_enforced=True, revocation=RevocationMode.NONE_DECLARED)

_CURVES: dict[str, ec.EllipticCurve] = {"p384": ec.SECP384R1(), "p521": ec.SECP521R1()}
_EC_KEYS = ("root", "sub", "deep", "fenced", "stranger", "ocsp", "p256", "p384", "p521")
_RSA_KEYS = {"rsa1024": 1024, "rsa1024b": 1024, "rsa2048": 2048}


def sign(key: Any, algorithm: str, message: bytes) -> bytes:
    """A signature in the form of RFC 7518 over `message`."""
    digest = {"256": hashes.SHA256(), "384": hashes.SHA384(), "512": hashes.SHA512()}[algorithm[2:]]
    if algorithm.startswith("ES"):
        size = {"ES256": 32, "ES384": 48, "ES512": 66}[algorithm]
        r, s = decode_dss_signature(key.sign(message, ec.ECDSA(digest)))
        return r.to_bytes(size, "big") + s.to_bytes(size, "big")
    if algorithm.startswith("PS"):
        return key.sign(message, padding.PSS(mgf=padding.MGF1(digest), salt_length=digest.digest_size), digest)
    return key.sign(message, padding.PKCS1v15(), digest)


def message_for(algorithm: str, origin: str, nonce: str) -> bytes:
    name = "sha" + algorithm[2:]
    return b"".join(hashlib.new(name, part.encode()).digest() for part in (origin, nonce))


def token_of(certificate: bytes, algorithm: str, signature: bytes, **changes: Any) -> dict[str, Any]:
    return {
        "unverifiedCertificate": b64encode(certificate).decode(),
        "algorithm": algorithm,
        "signature": b64encode(signature).decode(),
        "format": "web-eid:1.0",
        "appVersion": "https://example.org/bridge/0.1.0",
        **changes,
    }


@dataclass
class Pki:
    """certomancer's architecture and the private keys behind it."""

    arch: Any
    keys: dict[str, Any]

    def der(self, label: str) -> bytes:
        return self.arch.get_cert(CertLabel(label)).dump()

    def certificate(self, label: str) -> Certificate:
        return Certificate.parse(self.der(label))

    def key_of(self, label: str) -> Any:
        return self.keys[str(self.arch.get_cert_spec(CertLabel(label)).subject_key)]

    def raw_token(
        self, label: str, algorithm: str = "ES256", *, origin: str = ORIGIN, nonce: str = NONCE, **changes: Any
    ) -> dict[str, Any]:
        signature = sign(self.key_of(label), algorithm, message_for(algorithm, origin, nonce))
        return token_of(self.der(label), algorithm, signature, **changes)

    def token(self, label: str, algorithm: str = "ES256", **changes: Any) -> Token:
        return Token.parse(json.dumps(self.raw_token(label, algorithm, **changes)).encode())

    def anchor(self, label: str = "sub", rule: IssuerRule = STRONG, *below: str) -> TrustAnchor:
        return TrustAnchor(
            name=label, certificate=self.der(label), rule=rule, intermediates=tuple(self.der(name) for name in below)
        )

    def trust(self, label: str = "sub", rule: IssuerRule = STRONG, *below: str) -> TrustStore:
        return TrustStore([self.anchor(label, rule, *below)])

    def crl(self, repository: str, at: datetime = NOW) -> bytes:
        return self.arch.service_registry.get_crl(ServiceLabel(repository), at_time=at).dump()

    def ocsp(self, label: str, responder: str = "delegated", at: datetime = NOW, issuer: str = "sub") -> bytes:
        """What `responder` answers when it is asked as `sources_for` says."""
        trust = self.trust(issuer, IssuerRule(ocsp_urls=("http://configured.example.org",)))
        (source, *_) = sources_for(self.certificate(label), trust).ocsp
        summoned = self.arch.service_registry.summon_responder(ServiceLabel(responder), at_time=at)
        return summoned.build_ocsp_response(ocsp.OCSPRequest.load(source.request, strict=True)).dump()


@pytest.fixture(scope="session")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Pki:
    folder = tmp_path_factory.mktemp("pki")
    keys: dict[str, Any] = {name: ec.generate_private_key(_CURVES.get(name, ec.SECP256R1())) for name in _EC_KEYS}
    keys |= {name: rsa.generate_private_key(65537, bits) for name, bits in _RSA_KEYS.items()}
    for name, key in keys.items():
        pem = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        (folder / f"{name}.pem").write_bytes(pem)
    config = CertomancerConfig.from_file(
        str(Path(__file__).with_name("pki.yml")), key_search_dir=str(folder), allow_external_config=False
    )
    arch = config.get_pki_arch(ArchLabel("clinic"))
    return Pki(arch=arch, keys={**keys, "weakca": keys["rsa1024b"], str(KeyLabel("alice")): keys["p256"]})


Verify = Callable[..., CardEvidence]


@pytest.fixture
def verify(pki: Pki) -> Verify:
    """Verify a token at the test PKI; everything has a good default."""

    def run(
        token: Token,
        *,
        trust: TrustStore | None = None,
        crls: tuple[bytes, ...] = (),
        ocsps: tuple[bytes, ...] = (),
        now: datetime = NOW,
        origin: str = ORIGIN,
        nonce: str = NONCE,
    ) -> CardEvidence:
        return authenticate(
            token,
            expected_origin=origin,
            expected_nonce=nonce,
            trust=trust or pki.trust("sub", UNCHECKED),
            revocation=RevocationData(crls=crls, ocsps=ocsps),
            now=now,
        )

    return run


LATER = timedelta(days=90)
