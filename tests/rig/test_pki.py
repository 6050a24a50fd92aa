"""The test PKI, judged by openssl and by `cryptography`'s own path check of signatures."""

from __future__ import annotations

import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from tokenbridge.errors import SetupError
from tokenbridge.rig.piv_crypto import Algorithm, generate
from tokenbridge.rig.pki import STAFF_POLICY, Profile, RigPki, Variant
from tokenbridge.rig.provision import Staff, staff_card

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
UID = "000123456789"


@pytest.fixture(scope="module")
def pki() -> RigPki:
    return RigPki.create(now=NOW)


def openssl_verify(pki: RigPki, certificate: x509.Certificate, at: datetime, directory: Path) -> str:
    """What `openssl verify` with CRL check says, at the time `at`."""
    (directory / "ee.pem").write_bytes(certificate.public_bytes(Encoding.PEM))
    (directory / "root.pem").write_bytes(pki.root.certificate.public_bytes(Encoding.PEM))
    (directory / "ca.pem").write_bytes(pki.issuing.certificate.public_bytes(Encoding.PEM))
    pems = [x509.load_der_x509_crl(crl).public_bytes(Encoding.PEM) for crl in (pki.crl(now=at), pki.root_crl(now=at))]
    (directory / "crl.pem").write_bytes(b"".join(pems))
    command = ["openssl", "verify", "-attime", str(int(at.timestamp()) + 1), "-crl_check_all", "-x509_strict"]
    files = [f"{option}={directory / name}" for option, name in (("-CAfile", "root.pem"), ("-CRLfile", "crl.pem"))]
    pairs = [part for file in files for part in file.split("=")]
    done = subprocess.run(
        [*command, *pairs, "-untrusted", str(directory / "ca.pem"), str(directory / "ee.pem")],
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout + done.stderr


def issue(pki: RigPki, variant: Variant = Variant.GOOD, **profile: object) -> x509.Certificate:
    public = generate(Algorithm.P256).public_key()
    return pki.issue(public, Profile(uid=UID, **profile), now=NOW, variant=variant)


@pytest.mark.parametrize(
    ("variant", "words"),
    [
        (Variant.GOOD, ": OK"),
        (Variant.WRONG_USAGE, ": OK"),  # right as a certificate, wrong for signing in
        (Variant.EXPIRED, "certificate has expired"),
        (Variant.NOT_YET_VALID, "certificate is not yet valid"),
        (Variant.UNKNOWN_ISSUER, "unable to get local issuer certificate"),
    ],
)
def test_variants_as_openssl_sees_them(pki: RigPki, tmp_path: Path, variant: Variant, words: str) -> None:
    assert words in openssl_verify(pki, issue(pki, variant), NOW, tmp_path)


def test_revoked(pki: RigPki, tmp_path: Path) -> None:
    certificate = issue(pki)
    assert ": OK" in openssl_verify(pki, certificate, NOW, tmp_path)
    pki.revoke(certificate, at=NOW + timedelta(hours=1))
    assert "certificate revoked" in openssl_verify(pki, certificate, NOW + timedelta(hours=2), tmp_path)


def test_looks_like_an_nhs_certificate(pki: RigPki) -> None:
    certificate = issue(pki)
    assert certificate.subject.rfc4514_string() == f"CN={UID},OU=people,O=nhs"
    usage = certificate.extensions.get_extension_for_class(x509.KeyUsage).value
    assert usage.digital_signature
    assert not usage.key_encipherment
    assert not usage.key_cert_sign
    policies = certificate.extensions.get_extension_for_class(x509.CertificatePolicies).value
    assert [policy.policy_identifier for policy in policies] == [STAFF_POLICY]
    with pytest.raises(x509.ExtensionNotFound):
        certificate.extensions.get_extension_for_class(x509.AuthorityInformationAccess)
    with pytest.raises(x509.ExtensionNotFound):
        certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)


def test_optional_extensions(pki: RigPki) -> None:
    certificate = issue(
        pki,
        upn="a.nurse@test.example",
        email="a.nurse@test.example",
        ocsp_url="http://127.0.0.1:1/ocsp",
        crl_url="http://127.0.0.1:1/crl",
        crl_directory_name=True,
    )
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.RFC822Name) == ["a.nurse@test.example"]
    assert names.get_values_for_type(x509.OtherName)[0].value == b"\x0c\x14a.nurse@test.example"
    points = certificate.extensions.get_extension_for_class(x509.CRLDistributionPoints).value
    assert [type(point.full_name[0]) for point in points if point.full_name] == [
        x509.UniformResourceIdentifier,
        x509.DirectoryName,
    ]


def test_save_and_load(pki: RigPki, tmp_path: Path) -> None:
    certificate = issue(pki)
    pki.revoke(certificate, at=NOW)
    pki.save(tmp_path)
    again = RigPki.load(tmp_path)
    assert again.root.certificate == pki.root.certificate
    assert again.revoked == pki.revoked
    assert (tmp_path / "issuing.key").stat().st_mode & 0o777 == 0o600
    crl = x509.load_der_x509_crl((tmp_path / "issuing.crl").read_bytes())
    assert crl.get_revoked_certificate_by_serial_number(certificate.serial_number) is not None
    again.issue(generate(Algorithm.P256).public_key(), Profile(uid=UID), now=NOW).verify_directly_issued_by(
        pki.issuing.certificate
    )


def test_load_of_nothing(tmp_path: Path) -> None:
    with pytest.raises(SetupError):
        RigPki.load(tmp_path)


def test_staff_card_has_its_certificates(pki: RigPki) -> None:
    keys = {0x9A: Algorithm.P256, 0x9D: Algorithm.P256}
    made = staff_card(pki, Staff(keys=keys, holder="A Nurse"), now=NOW)
    assert set(made.certificates) == {0x9A, 0x9D}
    for ref, certificate in made.certificates.items():
        assert certificate.public_key() == made.card.state.keys[ref].private.public_key()
    usage = made.certificates[0x9D].extensions.get_extension_for_class(x509.KeyUsage).value
    assert usage.key_encipherment
    assert not usage.digital_signature
