"""The operator's trust anchors as rp's trust store, built again when they or their CRL files change."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from asn1crypto import pem
from sqlalchemy.orm import Session

from tokenbridge import log
from tokenbridge.rp.certificate import Certificate
from tokenbridge.rp.certs import IssuerRule, RevocationMode, RevocationSources, TrustAnchor, TrustStore, sources_for
from tokenbridge.server.store import anchors
from tokenbridge.server.store.anchors import Anchor
from tokenbridge.server.store.database import Database

MAX_CRL_BYTES: Final = 10 << 20
MAX_REMEMBERED: Final = 10_000

_log = log.get("server.trust")


@dataclass(frozen=True, slots=True, kw_only=True)
class Trust:
    """Whom this server trusts, as of one moment."""

    store: TrustStore
    anchors: dict[str, Anchor]
    _sources: dict[str, RevocationSources] = field(default_factory=dict, repr=False)

    def sources(self, certificate: Certificate) -> RevocationSources:
        """`sources_for`, remembered: the same cards come every day."""
        found = self._sources.get(certificate.fingerprint)
        if found is None:
            found = sources_for(certificate, self.store)
            if len(self._sources) >= MAX_REMEMBERED:
                self._sources.clear()
            self._sources[certificate.fingerprint] = found
        return found


class TrustBook:
    """The current `Trust`. Asking is cheap as long as nothing has changed. Safe between threads."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._lock = threading.Lock()
        self._stamp: Sequence[object] | None = None
        self._trust = Trust(store=TrustStore(()), anchors={})

    def current(self, stamp: anchors.Stamp | None = None) -> Trust:
        """`stamp` saves a look at the database, if a transaction has just taken it. Raises `SetupError` when the
        database does not answer or an anchor can't be used."""
        if stamp is not None:
            with self._lock:
                if self._stamp == (stamp, _file_stamp(self._trust.anchors.values())):
                    return self._trust
        with self._database.read() as tx:
            return self.within(tx)

    def within(self, tx: Session) -> Trust:
        """As `current`, inside a transaction, which needs no other connection for it."""
        stamp = anchors.stamp(tx)
        with self._lock:
            files = _file_stamp(self._trust.anchors.values())
            if self._stamp != (stamp, files):
                listed = anchors.listed(tx)
                # Looked at before it is read: a file that changes in between is then read again.
                files = _file_stamp(listed)
                self._trust = build(listed)
                self._stamp = (stamp, files)
            return self._trust


def build(listed: Iterable[Anchor]) -> Trust:
    """The trust store of these anchors. Raises `SetupError` that names an anchor which can't be used."""
    found = {anchor.name: anchor for anchor in listed}
    return Trust(store=TrustStore(_parsed(anchor) for anchor in found.values()), anchors=found)


def _parsed(anchor: Anchor) -> TrustAnchor:
    rule = IssuerRule(
        hardware=anchor.hardware,
        pin_enforced=anchor.pin_enforced,
        policy_oids=frozenset(anchor.policy_oids),
        legacy_weak=anchor.legacy_weak,
        revocation=RevocationMode.REQUIRED if anchor.check_revocation else RevocationMode.NONE_DECLARED,
        crl_urls=anchor.crl_urls,
        ocsp_urls=anchor.ocsp_urls,
        crls=tuple(data for path in anchor.crl_files if (data := _read(Path(path))) is not None),
        nhs_uid=anchor.map_nhs_uid,
    )
    return TrustAnchor(name=anchor.name, certificate=anchor.certificate, intermediates=anchor.intermediates, rule=rule)


def _file_stamp(listed: Iterable[Anchor]) -> Sequence[object]:
    return tuple(_mark(path) for anchor in listed for path in anchor.crl_files)


def _mark(path: str) -> tuple[str, int, int, int]:
    try:
        found = Path(path).stat()
    except OSError:
        return path, 0, 0, 0
    # A copy may bring its old time along, and one list is often as long as the other.
    return path, found.st_ctime_ns, found.st_size, found.st_ino


def _read(path: Path) -> bytes | None:
    """A CRL file as DER; None, and a warning, when it can't be read: the verifier then finds no revocation data."""
    try:
        with path.open("rb") as file:
            data = file.read(MAX_CRL_BYTES + 1)
        if len(data) > MAX_CRL_BYTES:
            raise ValueError(f"larger than {MAX_CRL_BYTES} bytes")
        return unarmored(data)
    except (OSError, ValueError) as err:
        _log.warning("the CRL file %s can't be used: %s", path, err)
        return None


def unarmored(data: bytes) -> bytes:
    """DER as it is, PEM decoded: CRLs are DER (RFC 5280 section 4.2.1.13), yet some authorities serve PEM."""
    if data.lstrip()[:10] != b"-----BEGIN":
        return data
    _, _, der = pem.unarmor(data)
    return bytes(der)
