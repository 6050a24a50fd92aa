"""Every way from a card's certificate up to an anchor, found by names and key identifiers. Nothing is verified here."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from asn1crypto import x509
from pyhanko_certvalidator.authority import AuthorityWithCert, TrustAnchor
from pyhanko_certvalidator.errors import PathBuildingError
from pyhanko_certvalidator.path import ValidationPath
from pyhanko_certvalidator.registry import CertificateRegistry, PathBuilder, SimpleTrustManager

from tokenbridge.rp.certificate import Certificate

T = TypeVar("T")


def run(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine that never waits: with fetching switched off the validator does no I/O, so needs no loop."""
    try:
        coroutine.send(None)
    except StopIteration as done:
        value: T = done.value
        return value
    coroutine.close()
    raise RuntimeError("the certificate validator tried to wait for something")


@dataclass(frozen=True, slots=True)
class _Way:
    """From an anchor down to one CA: `above` is empty when that CA is the anchor itself."""

    anchor: TrustAnchor
    above: tuple[x509.Certificate, ...]
    ca: x509.Certificate

    def to(self, leaf: x509.Certificate) -> ValidationPath | None:
        """The path to `leaf`, unless its authorityKeyIdentifier (RFC 5280, section 4.2.1.1) names another CA."""
        key, serial = leaf.authority_key_identifier, leaf.authority_issuer_serial
        other_key = key and self.ca.key_identifier and key != self.ca.key_identifier
        if other_key or (serial and serial != self.ca.issuer_serial):
            return None
        return ValidationPath(self.anchor, list(self.above), leaf)


class PathIndex:
    """The ways to all known CAs, found once: comparing names costs more than the signatures of a whole path.

    Read-only after construction; names that strangers make up leave nothing behind.
    """

    def __init__(self, manager: SimpleTrustManager, registry: CertificateRegistry, cas: Sequence[Certificate]) -> None:
        self._manager = manager
        self._builder = PathBuilder(trust_manager=manager, registry=registry)
        ways: dict[str, list[_Way]] = defaultdict(list)
        for ca in cas:
            ways[ca.asn1.subject.hashable].extend(self._ways_to(ca.asn1))
        self._by_name = {name: tuple(found) for name, found in ways.items()}
        self._by_der = {ca.asn1.subject.dump(): self._by_name[ca.asn1.subject.hashable] for ca in cas}

    def paths(self, certificate: Certificate) -> list[ValidationPath]:
        """Paths with at least one certificate below the anchor; none for an anchor itself that is not cross-signed."""
        issuer = certificate.asn1.issuer
        ways = self._by_der.get(issuer.dump())
        if ways is None:
            # Another spelling of the name, compared as RFC 5280, section 7.1, has it.
            ways = self._by_name.get(issuer.hashable, ())
        return [path for way in ways if (path := way.to(certificate.asn1)) is not None]

    def _ways_to(self, ca: x509.Certificate) -> list[_Way]:
        anchor = self._manager.as_trust_anchor(AuthorityWithCert(ca))
        if anchor is not None:
            return [_Way(anchor, (), ca)]
        try:
            paths: list[ValidationPath] = run(self._builder.async_build_paths(ca))
        except PathBuildingError:
            return []
        return [
            _Way(path.trust_anchor, tuple(path[place] for place in range(1, path.pkix_len + 1)), ca) for path in paths
        ]
