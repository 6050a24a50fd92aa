"""Identifiers of a card's holder, the strongest first, and names as text."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from asn1crypto import x509 as asn1
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.x509.oid import NameOID
from hypothesis import given, settings
from hypothesis import strategies as st

from tokenbridge.rp.certificate import Certificate
from tokenbridge.rp.subject import (
    Identifier,
    IdentifierKind,
    common_name,
    entra_issuer_serial,
    identifiers,
    issuer_serial,
)
from tokenbridge.wire.names import escape, rfc4514

K = IdentifierKind
NOW = datetime(2026, 6, 1, tzinfo=UTC)
Make = Callable[..., Certificate]


@pytest.fixture
def make(pki: Any) -> Make:
    """A certificate with any subject and names; who signs it is of no account here."""

    def build(
        subject: list[tuple[x509.ObjectIdentifier, str]], names: list[x509.GeneralName] | None = None
    ) -> Certificate:
        builder = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(*pair) for pair in subject]))
            .issuer_name(x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, "nhs")]))
            .public_key(pki.keys["p256"].public_key())
            .serial_number(0x0B24FF)
            .not_valid_before(NOW)
            .not_valid_after(NOW + timedelta(days=1))
        )
        if names:
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        signed = builder.sign(pki.keys["sub"], hashes.SHA256())
        return Certificate.parse(signed.public_bytes(serialization.Encoding.DER))

    return build


def kinds(certificate: Certificate, **options: Any) -> dict[IdentifierKind, list[str]]:
    found: dict[IdentifierKind, list[str]] = {}
    for identifier in identifiers(certificate, **options):
        found.setdefault(identifier.kind, []).append(identifier.value)
    return found


def test_all_kinds_strongest_first(pki: Any) -> None:
    certificate = pki.certificate("named")
    got = identifiers(certificate)
    assert [identifier.kind for identifier in got] == [K.ISSUER_SERIAL, K.SKI, K.UPN, K.EMAIL, K.EMAIL]
    assert got[0].value == f"CN=SubCA02,OU=CA,O=nhs;{certificate.serial:x}"
    assert got[1].value == certificate.asn1.public_key.sha1.hex()
    assert [identifier.value for identifier in got[2:]] == [
        "bob@clinic.example",
        "bob@clinic.example",
        "bob@example.org",
    ]
    assert len(set(got)) == len(got)


def test_the_nhs_uid_needs_the_issuers_switch(pki: Any) -> None:
    certificate = pki.certificate("crl")
    assert K.NHS_UID not in kinds(certificate)
    assert identifiers(certificate, nhs_uid=True)[0] == Identifier(kind=K.NHS_UID, value="123456789012")


@pytest.mark.parametrize(
    "names",
    [
        ["12345678901"],
        ["1234567890123"],
        ["12345678901a"],
        [" 123456789012"],
        ["123456789012\n"],
        ["".join(chr(0xFF10 + digit) for digit in range(10)) + "00"],  # full-width digits
        ["".join(chr(0x0660 + digit) for digit in range(10)) + "00"],  # Arabic-Indic digits
        ["123456789012", "999999999999"],
        ["123456789012", "Bob"],
    ],
)
def test_only_one_cn_of_twelve_digits_is_a_uid(make: Make, names: list[str]) -> None:
    certificate = make([(NameOID.COMMON_NAME, name) for name in names])
    assert K.NHS_UID not in kinds(certificate, nhs_uid=True)


@pytest.mark.parametrize(
    "address", ["bob", "@b", "a@", "a@b@c", "a b@c", "b\u043eb@clinic.example", "a@b\0.evil", "a@" + "b" * 260, ""]
)
def test_addresses_that_deceive_find_nobody(make: Make, address: str) -> None:
    certificate = make([(NameOID.EMAIL_ADDRESS, address or "x")])
    assert K.EMAIL not in kinds(certificate)


def test_common_name_is_shown_only_when_there_is_one(make: Make) -> None:
    assert common_name(make([(NameOID.COMMON_NAME, "Nora")])) == "Nora"
    assert common_name(make([(NameOID.COMMON_NAME, "Nora"), (NameOID.COMMON_NAME, "Bob")])) == ""
    assert common_name(make([(NameOID.ORGANIZATION_NAME, "nhs")])) == ""


def test_issuer_and_serial_in_both_spellings(make: Make, pki: Any) -> None:
    certificate = make([(NameOID.COMMON_NAME, "x")])
    assert issuer_serial(certificate) == "O=nhs;b24ff"
    assert entra_issuer_serial(certificate) == "X509:<I>O=nhs<SR>ff240b"
    assert entra_issuer_serial(pki.certificate("crl")).startswith("X509:<I>O=nhs,OU=CA,CN=SubCA02<SR>")


def test_subject_text_is_that_of_rfc_4514(make: Make) -> None:
    certificate = make(
        [(NameOID.COUNTRY_NAME, "GB"), (NameOID.SERIAL_NUMBER, "7"), (NameOID.COMMON_NAME, ' #a,b+"c"\\<d>;e\n ')]
    )
    assert certificate.subject == 'CN=\\ #a\\,b\\+\\"c\\"\\\\\\<d\\>\\;e\\0A\\ ,2.5.4.5=#130137,C=GB'


@settings(deadline=None)
@given(st.text(min_size=1), st.text(min_size=1))
def test_different_names_never_read_the_same(one: str, other: str) -> None:
    assert (escape(one) == escape(other)) == (one == other)


@settings(deadline=None)
@given(st.text(min_size=1))
def test_escaped_names_stay_on_one_printable_line(value: str) -> None:
    text = escape(value)
    assert text.isprintable()
    assert not text.startswith((" ", "#"))


def test_a_comma_inside_is_not_a_border(make: Make) -> None:
    together = make([(NameOID.COMMON_NAME, "x,O=nhs")])
    apart = make([(NameOID.ORGANIZATION_NAME, "nhs"), (NameOID.COMMON_NAME, "x")])
    assert together.subject != apart.subject
    assert rfc4514(asn1.Name.build({"common_name": "x"})) == "CN=x"
