"""What is known of a card: values only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import IntEnum, StrEnum, unique


@unique
class Slot(IntEnum):
    """Key references of SP 800-73-4 part 1 table 4b that hold a certificate a person may use."""

    AUTHENTICATION = 0x9A
    SIGNATURE = 0x9C
    KEY_MANAGEMENT = 0x9D
    CARD_AUTHENTICATION = 0x9E


@unique
class PinReference(IntEnum):
    """Key references of the PIN (SP 800-73-4 part 2 section 3.2.1) and of the PUK."""

    GLOBAL = 0x00
    APPLICATION = 0x80
    PUK = 0x81


@unique
class KeyKind(StrEnum):
    """Keys that can sign a person in."""

    RSA_2048 = "RSA-2048"
    RSA_3072 = "RSA-3072"
    RSA_4096 = "RSA-4096"
    P_256 = "P-256"
    P_384 = "P-384"


@unique
class Fitness(StrEnum):
    """Whether a certificate can be used for a sign-in, and if not, why not."""

    FITS = "fits"
    EXPIRED = "expired"
    NOT_YET_VALID = "not-yet-valid"
    WRONG_USAGE = "wrong-usage"
    ISSUER_NOT_ACCEPTED = "issuer-not-accepted"
    KEY_UNSUPPORTED = "key-unsupported"
    UNREADABLE = "unreadable"


@dataclass(frozen=True, slots=True, kw_only=True)
class CertificateFacts:
    """What a certificate says of itself. Nothing of it is verified here: that is the relying party's work."""

    subject: str
    common_name: str
    issuer: str
    issuer_der: bytes
    serial: int
    not_before: datetime
    not_after: datetime
    key: KeyKind | None
    spki: bytes = field(repr=False)
    digital_signature: bool
    client_authentication: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class CardCertificate:
    """A certificate as found on the card; `facts` is None when it can't be parsed."""

    slot: Slot
    der: bytes = field(repr=False)
    facts: CertificateFacts | None


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownCard:
    """What need not be read again from a card with this GUID. Slots that were looked at and empty map to b""."""

    guid: str
    pin_reference: PinReference
    has_discovery: bool
    certificates: Mapping[Slot, bytes]


@dataclass(frozen=True, slots=True, kw_only=True)
class CardSnapshot:
    """A card as it was when it was last looked at.

    `guid` is 32 hex digits, "" when the card has none. `tries_left` is None when the card does not tell (its PIN may
    have been verified for another program).
    """

    reader: str
    atr: bytes
    guid: str
    pin_reference: PinReference
    pin_reference_confirmed: bool
    has_discovery: bool
    tries_left: int | None
    certificates: Mapping[Slot, CardCertificate]
    looked_at: frozenset[Slot]
    from_memory: bool
    on_reader: bool = False

    @property
    def holder(self) -> str:
        """The name on the first certificate, for people."""
        for certificate in self.certificates.values():
            if certificate.facts is not None:
                return certificate.facts.common_name or certificate.facts.subject
        return ""

    def known(self) -> KnownCard | None:
        """What to remember, None if the card can't be recognised again."""
        if not self.guid or not self.pin_reference_confirmed:
            return None
        certificates = {
            slot: self.certificates[slot].der if slot in self.certificates else b"" for slot in self.looked_at
        }
        return KnownCard(
            guid=self.guid,
            pin_reference=self.pin_reference,
            has_discovery=self.has_discovery,
            certificates=certificates,
        )
