"""The server's own certificate."""

from __future__ import annotations

import dataclasses
import datetime as dt
import ipaddress
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.x509.verification import PolicyBuilder, Store, VerificationError

from tests.server.conftest import now
from tokenbridge.errors import SetupError
from tokenbridge.server import tls
from tokenbridge.server.settings import Settings


def names(path: Path) -> set[object]:
    certificate = x509.load_pem_x509_certificate(path.read_bytes())
    return {name.value for name in certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value}


def test_self_made_certificate_names_this_machine_and_the_origin(tmp_path: Path):
    files = tls.prepare(Settings(data=tmp_path, origin="https://sso.example:8443"), now())
    assert files is not None
    local = {"localhost", ipaddress.ip_address("127.0.0.1"), ipaddress.ip_address("::1")}
    assert names(files.certificate) == {*local, "sso.example"}
    assert files.key.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize(("host", "good"), [("localhost", True), ("sso.example", True), ("bank.example", False)])
def test_its_authority_vouches_for_these_names_only(tmp_path: Path, host: str, good: bool):
    files = tls.prepare(Settings(data=tmp_path, origin="https://sso.example"), now())
    assert files is not None
    assert files.ca is not None
    authority = x509.load_pem_x509_certificate(files.ca.read_bytes())
    leaf = x509.load_pem_x509_certificate(files.certificate.read_bytes())
    verifier = PolicyBuilder().store(Store([authority])).build_server_verifier(x509.DNSName(host))
    if good:
        assert len(verifier.verify(leaf, [])) == 2
    else:
        with pytest.raises(VerificationError):
            verifier.verify(leaf, [])
    constraints = authority.extensions.get_extension_for_class(x509.NameConstraints).value
    assert x509.DNSName("localhost") in (constraints.permitted_subtrees or [])


def test_kept_until_it_is_nearly_over_then_renewed(tmp_path: Path):
    settings = Settings(data=tmp_path)
    files = tls.prepare(settings, now())
    assert files is not None
    first = files.certificate.read_bytes()
    tls.prepare(settings, now() + tls.LIFETIME - dt.timedelta(days=15))
    assert files.certificate.read_bytes() == first
    tls.prepare(settings, now() + tls.LIFETIME - dt.timedelta(days=13))
    assert files.certificate.read_bytes() != first


def test_renewed_when_the_origin_changes(tmp_path: Path):
    settings = Settings(data=tmp_path)
    files = tls.prepare(settings, now())
    assert files is not None
    tls.prepare(dataclasses.replace(settings, origin="https://new.example"), now())
    assert "new.example" in names(files.certificate)


def test_own_certificate_must_fit_its_key(tmp_path: Path):
    one = tls.prepare(Settings(data=tmp_path / "one"), now())
    two = tls.prepare(Settings(data=tmp_path / "two"), now())
    assert one is not None
    assert two is not None
    with pytest.raises(SetupError):
        tls.prepare(Settings(data=tmp_path, tls_cert=one.certificate, tls_key=two.key), now())
    own = tls.prepare(Settings(data=tmp_path, tls_cert=one.certificate, tls_key=one.key), now())
    assert own is not None
    assert own.ca is None


def test_plain_http_needs_no_files(tmp_path: Path):
    assert tls.prepare(Settings(data=tmp_path, plain_http=True), now()) is None
