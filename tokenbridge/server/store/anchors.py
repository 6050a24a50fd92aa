"""Trust anchors as rows. Whether a certificate fits an anchor is decided elsewhere."""

from __future__ import annotations

import datetime as dt
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from tokenbridge.errors import BadRequest, NotFound
from tokenbridge.server.store.schema import TrustAnchorRow, TrustIntermediateRow


@dataclass(frozen=True, slots=True, kw_only=True)
class Anchor:
    """One trusted authority with its rule. Certificates are DER; `map_*` name what its certificates may assert."""

    name: str
    certificate: bytes
    intermediates: tuple[bytes, ...] = ()
    hardware: bool = False
    pin_enforced: bool = False
    legacy_weak: bool = False
    check_revocation: bool = True
    policy_oids: tuple[str, ...] = ()
    crl_urls: tuple[str, ...] = ()
    crl_files: tuple[str, ...] = ()
    ocsp_urls: tuple[str, ...] = ()
    map_nhs_uid: bool = False
    map_upn: bool = False
    map_email: bool = False

    def rule(self) -> dict[str, Any]:
        """The rule as JSON types."""
        fields = [name for name in self.__slots__ if name not in ("name", "certificate", "intermediates")]
        values = {name: getattr(self, name) for name in fields}
        return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the certificate in hex: it stays the same under another name or rule."""
        return hashlib.sha256(self.certificate).hexdigest()

    @property
    def digest(self) -> str:
        """Changes with whatever is said about the anchor: SHA-256 in hex."""
        said = json.dumps([self.name, self.certificate.hex(), self.rule()], sort_keys=True)
        return hashlib.sha256(said.encode()).hexdigest()


def add(tx: Session, anchor: Anchor, now: dt.datetime) -> None:
    """Store a new anchor. Raises `BadRequest` when the name is taken."""
    if tx.scalar(select(TrustAnchorRow.id).where(TrustAnchorRow.name == anchor.name)) is not None:
        raise BadRequest(f"There is a trust anchor {anchor.name!r} already.", next_step="Remove it first.")
    row = TrustAnchorRow(name=anchor.name, certificate=anchor.certificate, added_at=now, **anchor.rule())
    tx.add(row)
    tx.flush()
    for der in anchor.intermediates:
        tx.add(TrustIntermediateRow(anchor_id=row.id, certificate=der))


def get(tx: Session, number: int) -> Anchor:
    """Raises `NotFound`."""
    return _anchor(tx, _row(tx, number))


def change(tx: Session, number: int, wanted: Anchor, now: dt.datetime) -> None:
    """Give an anchor the rule of `wanted`. Raises `NotFound`."""
    row = _row(tx, number)
    for name, value in wanted.rule().items():
        setattr(row, name, value)
    row.added_at = now


def numbered(tx: Session) -> dict[int, Anchor]:
    """All anchors by their numbers, in the order of their names."""
    rows = tx.scalars(select(TrustAnchorRow).order_by(TrustAnchorRow.name)).all()
    return {row.id: _anchor(tx, row) for row in rows}


def remove(tx: Session, name: str) -> bool:
    return tx.connection().execute(delete(TrustAnchorRow).where(TrustAnchorRow.name == name)).rowcount == 1


Stamp: TypeAlias = Sequence[object]


def stamp(tx: Session) -> Stamp:
    """Changes whenever an anchor is added, changed or removed; cheap to ask."""
    return tuple(tx.connection().execute(_STAMP).all())


_STAMP: Final = select(TrustAnchorRow.id, TrustAnchorRow.added_at).order_by(TrustAnchorRow.id)


def listed(tx: Session) -> list[Anchor]:
    return list(numbered(tx).values())


def _row(tx: Session, number: int) -> TrustAnchorRow:
    row = tx.get(TrustAnchorRow, number)
    if row is None:
        raise NotFound("There is no such trust anchor.", next_step="Choose one from the list.")
    return row


def _anchor(tx: Session, row: TrustAnchorRow) -> Anchor:
    below = select(TrustIntermediateRow.certificate).where(TrustIntermediateRow.anchor_id == row.id)
    return Anchor(
        name=row.name,
        certificate=row.certificate,
        intermediates=tuple(tx.scalars(below.order_by(TrustIntermediateRow.id))),
        hardware=row.hardware,
        pin_enforced=row.pin_enforced,
        legacy_weak=row.legacy_weak,
        check_revocation=row.check_revocation,
        policy_oids=tuple(row.policy_oids),
        crl_urls=tuple(row.crl_urls),
        crl_files=tuple(row.crl_files),
        ocsp_urls=tuple(row.ocsp_urls),
        map_nhs_uid=row.map_nhs_uid,
        map_upn=row.map_upn,
        map_email=row.map_email,
    )
