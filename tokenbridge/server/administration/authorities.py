"""Trust anchors inside a transaction: added, changed, removed. What could never work is refused before it is stored.

The command line and the pages share it; both put on record what it returns.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from asn1crypto import crl
from sqlalchemy.orm import Session

from tokenbridge.errors import BadRequest, Rejected
from tokenbridge.rp.certificate import PARSER_ERRORS, Certificate
from tokenbridge.server import trust
from tokenbridge.server.store import anchors
from tokenbridge.server.store.anchors import Anchor
from tokenbridge.wire.names import rfc4514

MAX_LISTED: Final = 8
MAX_URL: Final = 1024
_OID: Final = re.compile(r"[0-2](\.(0|[1-9][0-9]{0,38})){1,32}", re.ASCII)
_NAME: Final = re.compile(r"[^\s\x00-\x1f\x7f]([^\x00-\x1f\x7f]{0,126}[^\s\x00-\x1f\x7f])?")
_URL: Final = re.compile(r"[\x21-\x7e]+")


def check(anchor: Anchor, now: dt.datetime) -> None:
    """Raises `SetupError` when its certificates can't be used, `BadRequest` when the name is unfit, when a certificate
    is not valid today, and when an address, a policy or a CRL file can't be right."""
    trust.build([anchor])
    _check_words(anchor)
    known = [_current(der, now) for der in (anchor.certificate, *anchor.intermediates)]
    for path in anchor.crl_files:
        _check_crl(Path(path), known)


def add(tx: Session, anchor: Anchor, now: dt.datetime) -> dict[str, Any]:
    """Store an anchor that `check` has passed. Raises `BadRequest` when the name is taken."""
    anchors.add(tx, anchor, now)
    trust.build(anchors.listed(tx))
    return told(anchor)


def change(tx: Session, number: int, wanted: Anchor, now: dt.datetime) -> dict[str, Any]:
    """Give an anchor the rule of `wanted`, which `check` has passed; name and certificates stay."""
    before = anchors.get(tx, number)
    anchors.change(tx, number, wanted, now)
    old, new = before.rule(), wanted.rule()
    changed = [name for name in new if new[name] != old[name]]
    return {
        "name": before.name,
        "before": {name: old[name] for name in changed},
        "after": {name: new[name] for name in changed},
    }


def named(tx: Session, name: str) -> tuple[int, Anchor]:
    """Number and anchor. Raises `BadRequest` when there is none of that name."""
    for number, anchor in anchors.numbered(tx).items():
        if anchor.name == name:
            return number, anchor
    raise BadRequest(f"There is no trust anchor {name!r}.", next_step="See `tokenbridge server trust list`.")


def remove(tx: Session, name: str) -> dict[str, Any]:
    """Raises `BadRequest` when there is no anchor of that name."""
    _, found = named(tx, name)
    anchors.remove(tx, name)
    return told(found)


def told(anchor: Anchor) -> dict[str, Any]:
    """What the audit trail says of an anchor: JSON types."""
    fingerprint = Certificate.parse(anchor.certificate).fingerprint
    return {"name": anchor.name, "fingerprint": fingerprint, "rule": anchor.rule()}


def _check_words(anchor: Anchor) -> None:
    if not _NAME.fullmatch(anchor.name):
        raise BadRequest(f"{anchor.name[:128]!r} can't be the name of a trust anchor: 1 to 128 printable characters.")
    _check_count(anchor.policy_oids, anchor.crl_urls, anchor.ocsp_urls)
    for url in (*anchor.crl_urls, *anchor.ocsp_urls):
        if len(url) > MAX_URL or not _is_url(url):
            raise BadRequest(f"{url[:128]!r} is not an address of the form http://host/path or https://host/path.")
    for oid in anchor.policy_oids:
        if not _OID.fullmatch(oid):
            raise BadRequest(
                f"{oid[:128]!r} is not a policy OID.", next_step="Write it with dots, such as 2.16.840.1.101.3."
            )


def _check_count(*lists: Iterable[str]) -> None:
    if any(len(tuple(words)) > MAX_LISTED for words in lists):
        raise BadRequest(f"A trust anchor has at most {MAX_LISTED} addresses or policies of a kind.")


def _is_url(text: str) -> bool:
    try:
        parts = urlsplit(text)
    except ValueError:
        return False
    return bool(_URL.fullmatch(text)) and parts.scheme in ("http", "https") and bool(parts.hostname)


def _current(der: bytes, now: dt.datetime) -> Certificate:
    certificate = Certificate.parse(der)
    try:
        certificate.check_validity(now)
    except Rejected as err:
        raise BadRequest(
            f"{certificate.subject}: {err.message}", next_step="Add the authority's certificate that is valid today."
        ) from err
    return certificate


def _check_crl(path: Path, known: list[Certificate]) -> None:
    try:
        data = path.read_bytes()
    except OSError as err:
        raise BadRequest(
            f"The revocation list {path} can't be read: {err.strerror}.",
            next_step="Give an http(s) address, or a file that this server can read.",
        ) from err
    try:
        issuer = crl.CertificateList.load(trust.unarmored(data), strict=True).issuer
        fits = issuer.hashable in {certificate.asn1.subject.hashable for certificate in known}
    except PARSER_ERRORS as err:
        raise BadRequest(f"{path} is not a revocation list (CRL).", detail=str(err)) from err
    if not fits:
        raise BadRequest(
            f"The revocation list {path} comes from another issuer: {rfc4514(issuer)}.",
            next_step="Give the list of this authority, or its issuer with --intermediate.",
        )
