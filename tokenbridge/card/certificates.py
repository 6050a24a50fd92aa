"""Reading of certificates found on cards, and whether one fits a sign-in. Nothing is verified or trusted here."""

from __future__ import annotations

import zlib
from collections.abc import Collection, Mapping
from datetime import datetime
from typing import Any, Final

from asn1crypto import x509

from tokenbridge.card.base import CardCertificate, CertificateFacts, Fitness, KeyKind, Slot
from tokenbridge.errors import BadCardData
from tokenbridge.wire import tlv
from tokenbridge.wire.names import rfc4514

MAX_CERTIFICATE: Final = 16384
TAG_OBJECT: Final = 0x53
TAG_CERTIFICATE: Final = 0x70
TAG_INFO: Final = 0x71
INFO_GZIP: Final = 0x01
GZIP_WINDOW: Final = 47
"""zlib's way to say: gzip or zlib header, largest window."""

SIGN_IN_SLOTS: Final = (Slot.AUTHENTICATION, Slot.SIGNATURE)
"""Slots whose keys ask for a PIN and sign, in the order in which they are meant for signing in (SP 800-73-4 part 1
sections 3.1.3 and 3.2.1)."""

_CURVES: Final = {"secp256r1": KeyKind.P_256, "secp384r1": KeyKind.P_384}
_MODULI: Final = {2048: KeyKind.RSA_2048, 3072: KeyKind.RSA_3072, 4096: KeyKind.RSA_4096}


def decode_object(data: bytes) -> bytes:
    """DER certificate from a PIV certificate object 53{70 certificate, 71 info, FE}; b"" if the object is empty.

    Raises `BadCardData` when it is truncated, oversized or not what it says (SP 800-73-4 part 1 appendix A).
    """
    try:
        body = tlv.find(data, TAG_OBJECT)
        if not body:
            return b""
        raw = tlv.find(body, TAG_CERTIFICATE)
        info = tlv.find(body, TAG_INFO) or b"\0"
    except tlv.TlvError as err:
        raise BadCardData(detail=f"certificate object: {err}") from err
    if not raw:
        return b""
    return _gunzip(raw) if info[0] & INFO_GZIP else raw


def _gunzip(raw: bytes) -> bytes:
    inflater = zlib.decompressobj(GZIP_WINDOW)
    try:
        plain = inflater.decompress(raw, MAX_CERTIFICATE + 1)
    except zlib.error as err:
        raise BadCardData(detail=f"compressed certificate: {err}") from err
    if len(plain) > MAX_CERTIFICATE or not inflater.eof:
        raise BadCardData(detail="compressed certificate is truncated or larger than the limit")
    return plain


def read(slot: Slot, der: bytes) -> CardCertificate:
    """`der` with what it says of itself."""
    if len(der) > MAX_CERTIFICATE:
        return CardCertificate(slot=slot, der=b"", facts=None)
    try:
        return CardCertificate(slot=slot, der=der, facts=_facts(der))
    except (ValueError, TypeError, LookupError, AttributeError, OverflowError):
        # asn1crypto decodes lazily and signals bad DER by any of these; the relying party would refuse it anyway.
        return CardCertificate(slot=slot, der=der, facts=None)


def _facts(der: bytes) -> CertificateFacts:
    certificate = x509.Certificate.load(der, strict=True)
    subject = certificate.subject.native
    usage = certificate.key_usage_value
    purposes = certificate.extended_key_usage_value
    return CertificateFacts(
        subject=rfc4514(certificate.subject),
        common_name=_last(subject.get("common_name", "")),
        issuer=rfc4514(certificate.issuer),
        issuer_der=certificate.issuer.dump(),
        serial=certificate.serial_number,
        not_before=_moment(certificate.not_valid_before),
        not_after=_moment(certificate.not_valid_after),
        key=_key_kind(certificate.public_key),
        spki=certificate.public_key.dump(),
        digital_signature=usage is None or "digital_signature" in usage.native,
        client_authentication=purposes is None or bool({"client_auth", "any_extended_key_usage"} & {*purposes.native}),
    )


def _moment(value: Any) -> datetime:
    """Times without a zone, or in the year 0, which DER forbids, can't be compared with others."""
    if not isinstance(value, datetime) or value.tzinfo is None:
        raise ValueError("not a moment")
    return value


def _last(value: Any) -> str:
    return str(value[-1] if isinstance(value, list) else value)


def _key_kind(key: Any) -> KeyKind | None:
    if key.algorithm == "rsa":
        return _MODULI.get(key.bit_size)
    if key.algorithm == "ec":
        parameters = key["algorithm"]["parameters"]
        return _CURVES.get(parameters.chosen.native) if parameters.name == "named" else None
    return None


def fitness(certificate: CardCertificate, accepted_issuers: Collection[bytes], now: datetime) -> Fitness:
    """Whether `certificate` fits a sign-in; `accepted_issuers` are DER Names, empty for "any"."""
    facts = certificate.facts
    if facts is None:
        return Fitness.UNREADABLE
    if facts.key is None:
        return Fitness.KEY_UNSUPPORTED
    if now < facts.not_before:
        return Fitness.NOT_YET_VALID
    if now > facts.not_after:
        return Fitness.EXPIRED
    if not facts.digital_signature or not facts.client_authentication:
        return Fitness.WRONG_USAGE
    if accepted_issuers and not _issued_by_one_of(facts.issuer_der, accepted_issuers):
        return Fitness.ISSUER_NOT_ACCEPTED
    return Fitness.FITS


def _issued_by_one_of(issuer: bytes, accepted: Collection[bytes]) -> bool:
    if issuer in accepted:
        return True
    # Same name, other string types (RFC 5280 section 7.1): compare as names, not as bytes.
    name = x509.Name.load(issuer)
    for candidate in accepted:
        try:
            if x509.Name.load(candidate) == name:
                return True
        except (ValueError, TypeError):
            continue
    return False


def fitting(
    certificates: Mapping[Slot, CardCertificate], accepted_issuers: Collection[bytes], now: datetime
) -> list[CardCertificate]:
    """Certificates that fit a sign-in, best first: the slot that is meant for it wins over one that also could."""
    present = [certificates[slot] for slot in SIGN_IN_SLOTS if slot in certificates]
    return [c for c in present if fitness(c, accepted_issuers, now) is Fitness.FITS]
