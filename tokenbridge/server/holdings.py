"""What an account could show: its devices, each with the level that it reaches today. Nothing is verified here."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from dataclasses import dataclass

from sqlalchemy.orm import Session

from tokenbridge.errors import Rejected
from tokenbridge.rp.assurance import AAL
from tokenbridge.rp.certificate import Certificate
from tokenbridge.rp.certs import TrustAnchor
from tokenbridge.rp.chain import signed_chain
from tokenbridge.rp.key_models import KeyModels
from tokenbridge.rp.proof import Method
from tokenbridge.server.store import cards, security_keys, suspensions
from tokenbridge.server.store.key_schema import SecurityKey
from tokenbridge.server.store.schema import Account
from tokenbridge.server.store.suspensions import Kind, Ref
from tokenbridge.server.trust import Trust


@dataclass(frozen=True, slots=True, kw_only=True)
class Holding:
    """One device. `level`: what it reaches by itself, NONE when it is not accepted any more. `issuer` is the name of a
    card's trust anchor, `aaguid` that of a key; `name` is for people. `suspended`: since when it signs in nowhere."""

    method: Method
    level: AAL
    name: str
    ref: Ref
    issuer: str = ""
    aaguid: bytes | None = None
    synced: bool = False
    suspended: dt.datetime | None = None


def of(tx: Session, account: Account, trust: Trust, models: KeyModels, now: dt.datetime) -> Iterator[Holding]:
    """The devices of `account`, suspended ones too: enrolled cards, cards that it is known by without being enrolled,
    and keys."""
    for card, _ in cards.listed(tx, account.id):
        anchor = anchor_of(card.certificate, trust)
        strong = anchor is not None and anchor.rule.hardware and anchor.rule.pin_enforced
        yield Holding(
            method=Method.CARD,
            level=AAL.NONE if anchor is None else _card_level(strong=strong),
            name=card.label or card.subject,
            ref=Ref(Kind.CARD, str(card.id)),
            issuer=anchor.name if anchor is not None else "",
            suspended=card.suspended_at,
        )
    yield from asserted(tx, account, trust)
    for key in security_keys.of(tx, account.id):
        yield Holding(
            method=Method.KEY,
            level=key_level(key, models, now),
            name=key.name,
            ref=Ref(Kind.KEY, str(key.id)),
            aaguid=key.aaguid,
            synced=key.backup_eligible,
            suspended=key.suspended_at,
        )


def key_level(row: SecurityKey, models: KeyModels, now: dt.datetime) -> AAL:
    """What a key reaches by itself today; NONE when its model is not accepted any more."""
    try:
        standing = models.judge(security_keys.make_of(row), now)
    except Rejected:
        return AAL.NONE
    if not row.user_verified:
        return AAL.AAL1
    return AAL.AAL3 if standing.attested and standing.hardware and not row.backup_eligible else AAL.AAL2


def asserted(tx: Session, account: Account, trust: Trust) -> Iterator[Holding]:
    """A card that is recognised by what its issuer asserts need not be enrolled."""
    suspended = suspensions.issuers(tx, account.id)
    for anchor in trust.anchors.values():
        asserted = (
            (anchor.map_nhs_uid and account.nhs_uid)
            or (anchor.map_upn and account.upn)
            or (anchor.map_email and account.email)
        )
        if asserted:
            row = suspended.get(anchor.fingerprint)
            yield Holding(
                method=Method.CARD,
                level=_card_level(strong=anchor.hardware and anchor.pin_enforced),
                name=f"a card of {anchor.name}",
                ref=Ref(Kind.ISSUER, anchor.fingerprint),
                issuer=anchor.name,
                suspended=row.suspended_at if row is not None else None,
            )


def _card_level(*, strong: bool) -> AAL:
    return AAL.AAL3 if strong else AAL.AAL1


def anchor_of(der: bytes, trust: Trust) -> TrustAnchor | None:
    """Whom a card with this certificate would be believed by."""
    try:
        return signed_chain(Certificate.parse(der), trust.store).anchor
    except Rejected:
        return None
