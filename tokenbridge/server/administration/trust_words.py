"""Trust anchors in words: what an authority is, and what its rule means."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from dataclasses import dataclass

from tokenbridge.rp.certificate import Certificate
from tokenbridge.server.store.anchors import Anchor


@dataclass(frozen=True, slots=True, kw_only=True)
class AnchorView:
    """A trust anchor and its rule in words. `fingerprint` is SHA-256 in hex; `number` 0: it is not stored."""

    number: int
    name: str
    subject: str
    issuer: str
    not_before: dt.datetime
    not_after: dt.datetime
    fingerprint: str
    intermediates: tuple[str, ...]
    rules: tuple[str, ...]


def view(anchor: Anchor, number: int = 0) -> AnchorView:
    certificate = Certificate.parse(anchor.certificate)
    return AnchorView(
        number=number,
        name=anchor.name,
        subject=certificate.subject,
        issuer=certificate.issuer,
        not_before=certificate.not_before,
        not_after=certificate.not_after,
        fingerprint=certificate.fingerprint,
        intermediates=tuple(Certificate.parse(der).subject for der in anchor.intermediates),
        rules=tuple(rules(anchor)),
    )


def rules(anchor: Anchor) -> Iterator[str]:
    """What the operator vouches for, a sentence each."""
    vouched = [word for word, said in (("hardware", anchor.hardware), ("the PIN", anchor.pin_enforced)) if said]
    yield f"Vouches for {' and '.join(vouched)}" if vouched else "Vouches for neither hardware nor PIN"
    yield "Revocation is checked" if anchor.check_revocation else "Revocation is not checked"
    if anchor.legacy_weak:
        yield "Weak keys and signatures of old cards are taken"
    sources = ("CRL addresses", anchor.crl_urls), ("CRL files", anchor.crl_files), ("OCSP addresses", anchor.ocsp_urls)
    yield from (f"{name}: {', '.join(found)}" for name, found in sources if found)
    if anchor.policy_oids:
        yield f"Only certificates with the policies {', '.join(anchor.policy_oids)}"
    names = ("NHS user id", anchor.map_nhs_uid), ("principal name", anchor.map_upn), ("e-mail", anchor.map_email)
    mapped = [name for name, said in names if said]
    if mapped:
        yield f"Its cards are known by their {' or '.join(mapped)}, without being enrolled"
