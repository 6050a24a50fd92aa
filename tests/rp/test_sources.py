"""What the server is told to fetch: only for certificates that a trusted CA signed, and only over HTTP."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from asn1crypto import ocsp
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tokenbridge.rp.certs import IssuerRule, RevocationMode, RevocationSources, sources_for

RULE = IssuerRule()


def test_names_what_certificates_and_configuration_name(pki: Any) -> None:
    rule = IssuerRule(crl_urls=("http://configured/crl",), ocsp_urls=("http://configured/ocsp",))
    got = sources_for(pki.der("both"), pki.trust("sub", rule))
    assert got.crl_urls == ("http://configured/crl", "http://pki.example.org/clinic/crls/sub/latest.crl")
    assert [source.url for source in got.ocsp] == [
        "http://configured/ocsp",
        "http://pki.example.org/clinic/ocsp/delegated",
    ]


def test_covers_the_whole_path(pki: Any) -> None:
    got = sources_for(pki.certificate("crl"), pki.trust("root", RULE, "sub"))
    assert set(got.crl_urls) == {
        "http://pki.example.org/clinic/crls/root/latest.crl",
        "http://pki.example.org/clinic/crls/sub/latest.crl",
    }


def test_the_ocsp_request_names_the_certificate(pki: Any) -> None:
    (source,) = sources_for(pki.der("ocsp-only"), pki.trust()).ocsp
    (single,) = ocsp.OCSPRequest.load(source.request, strict=True)["tbs_request"]["request_list"]
    issuer = pki.certificate("sub").asn1
    assert single["req_cert"]["serial_number"].native == pki.certificate("ocsp-only").serial
    assert single["req_cert"]["issuer_name_hash"].native == issuer.subject.sha1
    assert single["req_cert"]["issuer_key_hash"].native == issuer.public_key.sha1


def test_a_directory_name_is_no_address(pki: Any) -> None:
    assert sources_for(pki.der("directory"), pki.trust()) == RevocationSources()


def test_expired_certificates_are_still_asked_about(pki: Any) -> None:
    rule = replace(RULE, ocsp_urls=("http://configured/ocsp",))
    assert sources_for(pki.der("expired"), pki.trust("sub", rule)).ocsp


def test_strangers_send_the_server_nowhere(pki: Any) -> None:
    rule = replace(RULE, crl_urls=("http://configured/crl",))
    trust = pki.trust("sub", rule)
    for der in (pki.der("by-stranger"), pki.der("forged"), b"", b"junk", pki.der("both")[:-1]):
        assert sources_for(der, trust) == RevocationSources()
    changed = pki.der("both").replace(b"http://pki.example.org", b"http://169.254.169.25")
    assert changed != pki.der("both")
    assert sources_for(changed, trust) == RevocationSources()


def test_nothing_where_the_issuer_offers_nothing(pki: Any) -> None:
    rule = replace(RULE, revocation=RevocationMode.NONE_DECLARED)
    assert sources_for(pki.der("both"), pki.trust("sub", rule)) == RevocationSources()


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(edits=st.lists(st.tuples(st.integers(0, 4095), st.integers(1, 255)), min_size=1, max_size=4))
def test_changed_certificates_name_nothing_and_raise_nothing(pki: Any, edits: list[tuple[int, int]]) -> None:
    changed = bytearray(pki.der("both"))
    for place, bits in edits:
        changed[place % len(changed)] ^= bits
    if bytes(changed) != pki.der("both"):
        assert sources_for(bytes(changed), pki.trust()) == RevocationSources()
