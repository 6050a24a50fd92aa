"""Trust anchors, as an operator adds and removes them. What could never work is refused when it is added."""

from __future__ import annotations

import datetime as dt
import re
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from asn1crypto import crl

from tokenbridge.errors import BadRequest, Rejected
from tokenbridge.rp.certificate import PARSER_ERRORS, Certificate
from tokenbridge.server import trust
from tokenbridge.server.operator.office import Office
from tokenbridge.server.store import anchors
from tokenbridge.server.store.anchors import Anchor
from tokenbridge.wire.names import rfc4514

_OID: Final = re.compile(r"[0-2](\.(0|[1-9][0-9]*))+", re.ASCII)
_NAME: Final = re.compile(r"[^\s\x00-\x1f\x7f](.{0,126}[^\s\x00-\x1f\x7f])?")


def add(office: Office, anchor: Anchor) -> None:
    """Raises `SetupError` when its certificates can't be used, `BadRequest` when the name is taken or unfit, when a
    certificate is not valid today, and when an address, a policy or a CRL file can't be right."""
    trust.build([anchor])
    _check_words(anchor)
    known = [_current(der, office.now()) for der in (anchor.certificate, *anchor.intermediates)]
    for path in anchor.crl_files:
        _check_crl(Path(path), known)
    with office.database.write() as tx:
        anchors.add(tx, anchor, office.now())
        trust.build(anchors.listed(tx))
        office.record(tx, "trust-added", name=anchor.name, rule=anchor.rule())


def listed(office: Office) -> list[Anchor]:
    with office.database.read() as tx:
        return anchors.listed(tx)


def remove(office: Office, name: str) -> None:
    """Raises `BadRequest` when there is no anchor of that name."""
    with office.database.write() as tx:
        if not anchors.remove(tx, name):
            raise BadRequest(f"There is no trust anchor {name!r}.", next_step="See `tokenbridge server trust list`.")
        office.record(tx, "trust-removed", name=name)


def _check_words(anchor: Anchor) -> None:
    if not _NAME.fullmatch(anchor.name):
        raise BadRequest(f"{anchor.name!r} can't be the name of a trust anchor: 1 to 128 printable characters.")
    for url in (*anchor.crl_urls, *anchor.ocsp_urls):
        if urlsplit(url).scheme not in ("http", "https") or not urlsplit(url).hostname:
            raise BadRequest(f"{url!r} is not an address of the form http://host/path or https://host/path.")
    for oid in anchor.policy_oids:
        if not _OID.fullmatch(oid):
            raise BadRequest(f"{oid!r} is not a policy OID.", next_step="Write it with dots, such as 2.16.840.1.101.3.")


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
