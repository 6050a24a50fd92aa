"""Which models of keys are accepted, by policy and metadata: at registration, and again at every sign-in.

Rules are data. What a key says about itself counts only when the maker's certificate vouches for it; a claim that
speaks against the key counts in any case.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum, unique
from functools import lru_cache
from typing import Final

from cryptography import x509

from tokenbridge.errors import RejectReason, UndecidedReason
from tokenbridge.rp.key_metadata import Level, Metadata, Model
from tokenbridge.rp.proof import Factor
from tokenbridge.rp.refusals import refusal
from tokenbridge.rp.x509_path import PathError, find_root, parse_certificates

CACHED_PATHS: Final = 4096


@unique
class Need(StrEnum):
    """A requirement as WebAuthn writes it (sections 5.4.6 and 5.8.6)."""

    DISCOURAGED = "discouraged"
    PREFERRED = "preferred"
    REQUIRED = "required"


@unique
class StaleRule(StrEnum):
    """What metadata that is out of date means for a key that is judged by it."""

    DOUBT = "doubt"
    ACCEPT = "accept"


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyPolicy:
    """The operator's rules. AAGUIDs are 16 bytes.

    `attested`: a maker must vouch. `allowed`: these models only, attested; empty: all. `refused` goes before
    everything. `minimum`: the least FIDO certification. A model in `allowed` whose maker's root is configured by the
    operator (not known from metadata) counts as hardware: the operator vouches for it.
    """

    user_verification: Need = Need.PREFERRED
    resident_key: Need = Need.PREFERRED
    attested: bool = False
    allowed: frozenset[bytes] = frozenset()
    refused: frozenset[bytes] = frozenset()
    minimum: Level | None = None
    stale: StaleRule = StaleRule.DOUBT


@dataclass(frozen=True, slots=True, kw_only=True)
class Make:
    """What is known of a key's make. `path` (DER, leaf first) was verified to speak for this very credential.

    `at` is when it was registered: certificates of attestation have to be valid then, not for ever.
    """

    aaguid: bytes
    path: tuple[bytes, ...] = field(default=(), repr=False)
    at: dt.datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """An accepted make. `attested`: a trusted maker vouches. `verified_by`: as in metadata; empty when not known."""

    name: str
    attested: bool
    hardware: bool
    verified_by: tuple[frozenset[Factor], ...] = ()
    doubts: tuple[UndecidedReason, ...] = ()


class KeyModels:
    """The rules, the operator's own roots and the metadata in force. Never changes, so threads may share it."""

    def __init__(
        self, policy: KeyPolicy, *, roots: Sequence[x509.Certificate] = (), metadata: Metadata | None = None
    ) -> None:
        self.policy = policy
        self.metadata = metadata
        self._roots = tuple(roots)
        # Certificates say the same at every sign-in; only their model's reports change with the day.
        self._vouched = lru_cache(maxsize=CACHED_PATHS)(self._find_vouched)

    def judge(self, make: Make, now: dt.datetime) -> Standing:
        """The standing of a key today.

        Raises Rejected: MODEL_REFUSED, MODEL_REVOKED, MODEL_LEVEL or ATTESTATION_UNTRUSTED.
        """
        today, policy = now.astimezone(dt.UTC).date(), self.policy
        if make.aaguid in policy.refused:
            raise refusal(RejectReason.MODEL_REFUSED, f"refused model {make.aaguid.hex()}")
        model, attested, by_operator = self._vouched(make)
        if model is not None and (report := model.unsafe(today, make.path)):
            raise refusal(RejectReason.MODEL_REVOKED, f"{model.name}: {report}")
        # Metadata speaks for a key whose maker it knows; the operator's own root may vouch for any model.
        known = model if attested and not by_operator else None
        self._check_rules(make, known, today, attested=attested)
        stale = known is not None and self._is_doubtful(today)
        return Standing(
            name=model.name if model is not None and attested else "",
            attested=attested,
            hardware=(known is not None and known.hardware) or (by_operator and make.aaguid in policy.allowed),
            verified_by=known.verified_by if known else (),
            doubts=(UndecidedReason.METADATA_STALE,) if stale else (),
        )

    def is_attested(self, make: Make) -> bool:
        """Whether a trusted maker vouches for the key, accepted or not."""
        return self._vouched(make)[1]

    def _check_rules(self, make: Make, model: Model | None, today: dt.date, *, attested: bool) -> None:
        policy = self.policy
        if not attested and (policy.attested or policy.allowed or policy.minimum is not None):
            raise refusal(RejectReason.ATTESTATION_UNTRUSTED, f"no trusted path for model {make.aaguid.hex()}")
        if policy.allowed and make.aaguid not in policy.allowed:
            raise refusal(RejectReason.MODEL_REFUSED, f"model {make.aaguid.hex()} is not in the list")
        if policy.minimum is not None:
            level = model.level(today) if model is not None else None
            if level is None or level.rank < policy.minimum.rank:
                raise refusal(RejectReason.MODEL_LEVEL, f"certified {level}, {policy.minimum} is needed")

    def _is_doubtful(self, today: dt.date) -> bool:
        stale = self.metadata is not None and self.metadata.is_stale(today)
        return stale and self.policy.stale is StaleRule.DOUBT

    def _find_vouched(self, make: Make) -> tuple[Model | None, bool, bool]:
        """The model, whether a trusted root vouches for the key, and whether that root is the operator's own."""
        try:
            path = parse_certificates(make.path) if make.path else ()
        except PathError:
            path = ()
        model = self.metadata.find(make.aaguid, path) if self.metadata is not None else None
        if not path:
            return model, False, False
        if model is not None and find_root(path, _parsed(model.roots), make.at) is not None:
            return model, True, False
        own = find_root(path, self._roots, make.at) is not None
        return model, own, own


def _parsed(roots: Sequence[bytes]) -> tuple[x509.Certificate, ...]:
    """The roots that can be read; a metadata statement may hold some that can't."""
    found: list[x509.Certificate] = []
    for der in roots:
        try:
            found += parse_certificates([der])
        except PathError:
            continue
    return tuple(found)
