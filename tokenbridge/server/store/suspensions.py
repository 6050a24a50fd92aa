"""Cards and keys that sign in nowhere until that is lifted, and what sessions were opened with. It permits nothing.

A card that is known by its issuer's word alone has no row of its own: of such cards all those of one issuer are
suspended for an account, since nobody here knows which of them is the lost one.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from enum import StrEnum, unique
from typing import Any, Final, cast

from sqlalchemy import CursorResult, delete, or_, select, update
from sqlalchemy.orm import Session

from tokenbridge.rp.certificate import Certificate
from tokenbridge.rp.proof import Method, Proof
from tokenbridge.server.store.cards import Marks
from tokenbridge.server.store.key_schema import SecurityKey
from tokenbridge.server.store.schema import EnrolledCertificate, SuspendedIssuer

PATTERN: Final = r"(key|card)-[0-9]{1,10}|issuer-[0-9a-f]{64}"
MAX_NUMBER: Final = 2**31 - 1

_THING: Final = re.compile(PATTERN)


@unique
class Kind(StrEnum):
    """What can be suspended."""

    KEY = "key"
    CARD = "card"
    ISSUER = "issuer"


@dataclass(frozen=True, slots=True)
class Ref:
    """One thing of an account: the number of a key or an enrolled card, or SHA-256 of a trust anchor's certificate."""

    kind: Kind
    which: str

    def __str__(self) -> str:
        return f"{self.kind}-{self.which}"

    @property
    def number(self) -> int:
        return int(self.which)


def parse(text: str) -> Ref | None:
    """The inverse of `str(ref)`; None for what can't be one."""
    if not _THING.fullmatch(text):
        return None
    kind, _, which = text.partition("-")
    found = Ref(Kind(kind), which)
    return found if found.kind is Kind.ISSUER or found.number <= MAX_NUMBER else None


def suspend(tx: Session, account_id: int, ref: Ref, now: dt.datetime, *, name: str = "") -> bool:
    """False when the account has no such key or card, or it is suspended already. `name` is that of an issuer."""
    if ref.kind is Kind.ISSUER:
        if ref.which in issuers(tx, account_id):
            return False
        tx.add(SuspendedIssuer(account_id=account_id, anchor=ref.which, name=name, suspended_at=now))
        tx.flush()
        return True
    return _set(tx, account_id, ref, now)


def lift(tx: Session, account_id: int, ref: Ref) -> bool:
    """False when it is not suspended."""
    if ref.kind is Kind.ISSUER:
        which = (SuspendedIssuer.account_id == account_id, SuspendedIssuer.anchor == ref.which)
        return tx.connection().execute(delete(SuspendedIssuer).where(*which)).rowcount == 1
    return _set(tx, account_id, ref, None)


def _set(tx: Session, account_id: int, ref: Ref, at: dt.datetime | None) -> bool:
    table = SecurityKey if ref.kind is Kind.KEY else EnrolledCertificate
    before = table.suspended_at.is_(None) if at is not None else table.suspended_at.is_not(None)
    own = (table.id == ref.number, table.account_id == account_id, before)
    # By the session, so that a row which it has read already is right as well.
    return cast("CursorResult[Any]", tx.execute(update(table).where(*own).values(suspended_at=at))).rowcount == 1


def issuers(tx: Session, account_id: int) -> dict[str, SuspendedIssuer]:
    """What is suspended of cards that are known by their issuers' word, by the anchor."""
    found = tx.scalars(select(SuspendedIssuer).where(SuspendedIssuer.account_id == account_id))
    return {row.anchor: row for row in found}


def stops_card(tx: Session, account_id: int, marks: Marks, anchor: str) -> bool:
    """Whether a card that was just shown is suspended for its owner. `anchor` is SHA-256 of its trust anchor in hex.

    The same key is the same card, whatever certificate it has got since."""
    rows = _enrolled(tx, account_id, marks)
    return any(rows) if rows else anchor in issuers(tx, account_id)


def stops_enrolled(tx: Session, account_id: int, marks: Marks) -> bool:
    """As `stops_card`, of cards that are enrolled."""
    return any(_enrolled(tx, account_id, marks))


def _enrolled(tx: Session, account_id: int, marks: Marks) -> list[dt.datetime | None]:
    which = or_(EnrolledCertificate.fingerprint == marks.fingerprint, EnrolledCertificate.key == marks.key)
    own = select(EnrolledCertificate.suspended_at).where(EnrolledCertificate.account_id == account_id, which)
    return list(tx.scalars(own))


def shown(proofs: Iterable[Proof]) -> list[str]:
    """What a session is remembered to be opened with: of a card its certificate, public key and trust anchor's name."""
    found: list[str] = []
    for proof in proofs:
        if proof.method is Method.KEY:
            found.append(proof.credential)
        elif proof.method is Method.CARD:
            key = Certificate.parse(proof.certificate).key_fingerprint if proof.certificate is not None else ""
            found += [f"card:{proof.credential}", f"spki:{key}", f"issuer:{proof.issuer}"]
    return found


def tainted(tx: Session, account_id: int, what: Collection[str] | None) -> bool:
    """Whether something is suspended now that a session, or a sign-in under way, had to do with. `what` as from
    `shown`; of what is None nothing is known, so it had."""
    own = (SecurityKey.account_id == account_id, SecurityKey.suspended_at.is_not(None))
    keys = {f"key:{which}" for which in tx.scalars(select(SecurityKey.id).where(*own))}
    cards = tx.execute(
        select(EnrolledCertificate.fingerprint, EnrolledCertificate.key, EnrolledCertificate.suspended_at).where(
            EnrolledCertificate.account_id == account_id
        )
    ).all()
    gone = {mark for row in cards if row.suspended_at is not None for mark in _marks(row.fingerprint, row.key)}
    names = {f"issuer:{row.name}" for row in issuers(tx, account_id).values()}
    if what is None:
        return bool(keys or gone or names)
    good = {mark for row in cards if row.suspended_at is None for mark in _marks(row.fingerprint, row.key)}
    known = not good.isdisjoint(what)
    return not (keys | gone).isdisjoint(what) or (not known and not names.isdisjoint(what))


def _marks(fingerprint: str, key: str) -> tuple[str, str]:
    return f"card:{fingerprint}", f"spki:{key}"
