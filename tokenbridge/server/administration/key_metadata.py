"""The FIDO metadata in force: whose signature counts, and that it only moves forward. Inside a transaction."""

from __future__ import annotations

import datetime as dt
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import certifi
from asn1crypto import pem
from cryptography import x509
from sqlalchemy.orm import Session

from tokenbridge.errors import BadRequest, SetupError
from tokenbridge.rp.key_metadata import Metadata
from tokenbridge.server.store import metadata

ROOTS_SHA256: Final = frozenset(
    {
        "4fa3126d8d3a11d1c4855a4f807cbad6cf919d3a5a88b03bea2c6372d93c40c9",  # GlobalSign Root R46, since August 2026
        "cbb522d7b7f127ad6a0113865bdf1cd4102e7d0759af635a7cf4720dc963c53b",  # GlobalSign Root CA - R3, before
    }
)
"""Roots under which the FIDO Alliance signs (MDS 3.0 section 3.2). They are public: anybody may have a certificate."""
SIGNER: Final = "mds.fidoalliance.org"


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """What came of loading: the serial number before (None: there was none) and after, and how many models."""

    before: int | None
    after: int
    models: int
    next_update: str
    stale: bool


def put(tx: Session, found: Metadata, source: str, now: dt.datetime) -> Change:
    """Put metadata whose signature was checked in force. Raises `BadRequest` when it is older than what is in force:
    it may lack a revocation."""
    before = metadata.current(tx)
    if before is not None and found.number < before.metadata.number:
        raise BadRequest(
            f"This metadata has the number {found.number}; number {before.metadata.number} is in force already.",
            next_step="Fetch the newest blob from the metadata service.",
        )
    metadata.replace(tx, found, source, now)
    return Change(
        before=before.metadata.number if before is not None else None,
        after=found.number,
        models=len(found.models),
        next_update=found.next_update.isoformat(),
        stale=found.is_stale(now.date()),
    )


def default_roots() -> Sequence[x509.Certificate]:
    """The FIDO Alliance's roots, from the public authorities that come with the HTTP client. Raises `SetupError`."""
    known = pem.unarmor(Path(certifi.where()).read_bytes(), multiple=True)
    found = [
        x509.load_der_x509_certificate(der) for _, _, der in known if hashlib.sha256(der).hexdigest() in ROOTS_SHA256
    ]
    if not found:
        raise SetupError(
            "The root of the metadata service is not among the public authorities on this machine.",
            next_step="Give it with --root.",
        )
    return found
