"""Makes complete staff cards: keys, certificates of a test PKI, and the data objects that go with them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Final

from cryptography import x509

from tokenbridge.rig import piv_objects
from tokenbridge.rig.card_state import DEFAULT_PIN, DEFAULT_PUK, CardProfile
from tokenbridge.rig.piv_crypto import Algorithm
from tokenbridge.rig.piv_objects import KeyRef, Tag
from tokenbridge.rig.pki import KEY_ENCIPHERMENT_ONLY, SIGN_ONLY, Profile, RigPki, Variant
from tokenbridge.rig.virtual_card import VirtualCard

DEFAULT_UID: Final = "000123456789"
DEFAULT_KEYS: Final = {int(KeyRef.AUTHENTICATION): Algorithm.RSA2048}


@dataclass(frozen=True, slots=True, kw_only=True)
class Staff:
    """Who the card is for and what is on it. `keys` maps key references to algorithms; each gets a certificate."""

    uid: str = DEFAULT_UID
    holder: str = ""
    upn: str = ""
    email: str = ""
    keys: Mapping[int, Algorithm] = field(default_factory=lambda: DEFAULT_KEYS)
    variant: Variant = Variant.GOOD
    ocsp_url: str = ""
    crl_url: str = ""
    crl_directory_name: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class StaffCard:
    """A card with the certificates that were put on it, by key reference."""

    card: VirtualCard
    certificates: Mapping[int, x509.Certificate]


def staff_card(
    pki: RigPki,
    staff: Staff,
    *,
    now: datetime,
    profile: CardProfile | None = None,
    pins: tuple[bytes, bytes] = (DEFAULT_PIN, DEFAULT_PUK),
    path: Path | None = None,
) -> StaffCard:
    """A new card for `staff`; `pins` are PIN and PUK. Key management keys (9D) get a certificate for encipherment."""
    card = VirtualCard.create(profile=profile, pin=pins[0], puk=pins[1])
    certificates = {}
    for ref, algorithm in staff.keys.items():
        public = card.generate(ref, algorithm)
        certificates[ref] = pki.issue(public, _certificate_profile(staff, ref), now=now, variant=staff.variant)
        card.install_certificate(ref, certificates[ref])
    if staff.holder:
        card.put_object(Tag.PRINTED, piv_objects.printed_information(staff.holder, "Test Hospital", staff.uid))
    card.path = path
    card.save()
    return StaffCard(card=card, certificates=certificates)


def _certificate_profile(staff: Staff, ref: int) -> Profile:
    return Profile(
        uid=staff.uid,
        upn=staff.upn,
        email=staff.email,
        usages=KEY_ENCIPHERMENT_ONLY if ref == KeyRef.KEY_MANAGEMENT else SIGN_ONLY,
        ocsp_url=staff.ocsp_url,
        crl_url=staff.crl_url,
        crl_directory_name=staff.crl_directory_name,
    )
