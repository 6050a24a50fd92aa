"""Every way from a card's certificate up to an anchor, found by names and key identifiers. Nothing is verified here."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Coroutine, Iterable
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

    Read-only after construction. An issuer's name in a spelling that no known CA uses takes the validator's own,
    slower search, which compares names as RFC 5280, section 7.1, has it.
    """

    def __init__(self, manager: SimpleTrustManager, registry: CertificateRegistry, cas: Iterable[Certificate]) -> None:
        self._manager = manager
        self._builder = PathBuilder(trust_manager=manager, registry=registry)
        known = [ca.asn1 for ca in cas]
        namesakes: dict[str, list[x509.Certificate]] = defaultdict(list)
        for ca in known:
            namesakes[ca.subject.hashable].append(ca)
        self._ways = {
            ca.subject.dump(): tuple(way for same in namesakes[ca.subject.hashable] for way in self._ways_to(same))
            for ca in known
        }

    def paths(self, certificate: Certificate) -> list[ValidationPath]:
        """Paths with at least one certificate below the anchor: an anchor that is presented itself has none."""
        ways = self._ways.get(certificate.asn1.issuer.dump())
        if ways is None:
            return [path for path in self._search(certificate.asn1) if path.pkix_len > 0]
        return [path for way in ways if (path := way.to(certificate.asn1)) is not None]

    def _ways_to(self, ca: x509.Certificate) -> list[_Way]:
        anchor = self._manager.as_trust_anchor(AuthorityWithCert(ca))
        if anchor is not None:
            return [_Way(anchor, (), ca)]
        return [
            _Way(path.trust_anchor, tuple(path[place] for place in range(1, path.pkix_len + 1)), ca)
            for path in self._search(ca)
        ]

    def _search(self, certificate: x509.Certificate) -> list[ValidationPath]:
        try:
            found: list[ValidationPath] = run(self._builder.async_build_paths(certificate))
        except PathBuildingError:
            return []
        return found
