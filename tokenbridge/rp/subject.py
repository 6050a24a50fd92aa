"""Who a card's certificate names: identifiers by which an account can be found. It looks nothing up.

An identifier is as good as the issuer that wrote it: use it only after the certificate was verified.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum, unique
from typing import Any, Final

from tokenbridge.rp.certificate import Certificate, parsing
from tokenbridge.wire.names import rdns

UPN: Final = "1.3.6.1.4.1.311.20.2.3"
COMMON_NAME: Final = "2.5.4.3"
EMAIL_ADDRESS: Final = "1.2.840.113549.1.9.1"
MAX_NAMES: Final = 16
MAX_NAME_LENGTH: Final = 254  # RFC 5321, section 4.5.3.1.3, less the brackets

_NHS_UID: Final = re.compile(r"[0-9]{12}", re.ASCII)


@unique
class IdentifierKind(StrEnum):
    """From the strongest to the weakest."""

    NHS_UID = "nhs-uid"
    ISSUER_SERIAL = "issuer-serial"
    SKI = "ski"
    UPN = "upn"
    EMAIL = "email"


@dataclass(frozen=True, slots=True, kw_only=True)
class Identifier:
    """One way to name somebody.

    `value`, by kind: 12 digits; issuer as RFC 4514 text, `;` and serial in hex; key identifier in hex; name@domain in
    lower case (UPN, e-mail).
    """

    kind: IdentifierKind
    value: str


def identifiers(certificate: Certificate, *, nhs_uid: bool = False) -> tuple[Identifier, ...]:
    """All identifiers, the strongest first. `nhs_uid` is the issuer rule's switch. Rejected(MALFORMED)."""
    with parsing("certificate's subject"):
        found = (
            *([IdentifierKind.NHS_UID, uid] for uid in (_nhs_uid(certificate) if nhs_uid else ())),
            [IdentifierKind.ISSUER_SERIAL, issuer_serial(certificate)],
            *([IdentifierKind.SKI, ski.hex()] for ski in _key_identifier(certificate)),
            *([IdentifierKind.UPN, upn] for upn in _upns(certificate)),
            *([IdentifierKind.EMAIL, email] for email in _emails(certificate)),
        )
        return tuple(dict.fromkeys(Identifier(kind=IdentifierKind(kind), value=value) for kind, value in found))


def issuer_serial(certificate: Certificate) -> str:
    """`CN=SubCA02,OU=CA,O=nhs;3b9ac9ff`: the value of an ISSUER_SERIAL identifier."""
    return f"{certificate.issuer};{certificate.serial:x}"


def entra_issuer_serial(certificate: Certificate) -> str:
    """Microsoft Entra's certificate user id `X509:<I>issuer<SR>serial`: names in certificate order, bytes reversed."""
    with parsing("certificate's issuer"):
        issuer = ",".join(rdns(certificate.asn1.issuer))
    serial = certificate.serial.to_bytes(max(1, (certificate.serial.bit_length() + 7) // 8), "little")
    return f"X509:<I>{issuer}<SR>{serial.hex()}"


def common_name(certificate: Certificate) -> str:
    """The subject's only CN, to show to people; empty when there is none or more than one."""
    with parsing("certificate's subject"):
        names = _subject_values(certificate, COMMON_NAME)
    return names[0] if len(names) == 1 else ""


def _nhs_uid(certificate: Certificate) -> Iterator[str]:
    # With two CNs it would be open which one is meant.
    name = common_name(certificate)
    if _NHS_UID.fullmatch(name):
        yield name


def _key_identifier(certificate: Certificate) -> Iterator[bytes]:
    extension = certificate.asn1.key_identifier_value
    if extension is not None and extension.native:
        yield extension.native


def _upns(certificate: Certificate) -> Iterator[str]:
    for name in _alternative_names(certificate):
        if name.name == "other_name" and name.chosen["type_id"].dotted == UPN:
            yield from _mailbox(name.chosen["value"].native)


def _emails(certificate: Certificate) -> Iterator[str]:
    for name in _alternative_names(certificate):
        if name.name == "rfc822_name":
            yield from _mailbox(name.chosen.native)
    for value in _subject_values(certificate, EMAIL_ADDRESS):
        yield from _mailbox(value)


def _alternative_names(certificate: Certificate) -> list[Any]:
    return list(certificate.asn1.subject_alt_name_value or ())[:MAX_NAMES]


def _subject_values(certificate: Certificate, dotted: str) -> list[str]:
    pairs = [pair for rdn in certificate.asn1.subject.chosen for pair in rdn]
    return [str(pair["value"].native) for pair in pairs if pair["type"].dotted == dotted][:MAX_NAMES]


def _mailbox(value: object) -> Iterator[str]:
    """Lower case, ASCII and one `@` only: a name that merely looks like another one finds nobody."""
    if not isinstance(value, str) or not 3 <= len(value) <= MAX_NAME_LENGTH:
        return
    before, at, after = value.partition("@")
    if at and before and after and "@" not in after and value.isascii() and value.isprintable() and " " not in value:
        yield value.lower()
