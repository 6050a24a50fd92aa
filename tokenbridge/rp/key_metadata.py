"""What FIDO metadata says about models of keys, as the server keeps it. The signed blob is read in `metadata_blob`."""

from __future__ import annotations

import datetime as dt
from base64 import b64decode, b64encode
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum, unique
from typing import Any, Final

from cryptography import x509

from tokenbridge.rp.proof import Factor

NO_AAGUID: Final = bytes(16)


@unique
class Level(StrEnum):
    """FIDO's certification levels, from the lowest (MDS 3 section 3.1.4)."""

    L1 = "L1"
    L1_PLUS = "L1plus"
    L2 = "L2"
    L2_PLUS = "L2plus"
    L3 = "L3"
    L3_PLUS = "L3plus"

    @property
    def rank(self) -> int:
        return list(Level).index(self)


UNSAFE: Final = frozenset(
    {
        "REVOKED",
        "USER_VERIFICATION_BYPASS",
        "ATTESTATION_KEY_COMPROMISE",
        "USER_KEY_REMOTE_COMPROMISE",
        "USER_KEY_PHYSICAL_COMPROMISE",
    }
)
"""Reports after which no key of the model is accepted. Later reports do not lift them: firmware is not told apart."""

_LOST: Final = frozenset({"NOT_FIDO_CERTIFIED", "RETIRED"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """One status report. `since` None: since ever. `certificate`, DER in hex: it concerns this attestation key only."""

    status: str
    since: dt.date | None = None
    certificate: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """One model of key. `aaguid` is 16 bytes, or empty for U2F keys, which `key_ids` (SHA-1 of the attestation key,
    hex) tell apart. `verified_by`: the factors of each way in which it can check a person."""

    name: str
    aaguid: bytes = b""
    key_ids: frozenset[str] = frozenset()
    roots: tuple[bytes, ...] = field(default=(), repr=False)
    reports: tuple[Report, ...] = ()
    protection: frozenset[str] = frozenset()
    verified_by: tuple[frozenset[Factor], ...] = ()

    @property
    def hardware(self) -> bool:
        """Its private keys are held by hardware (FIDO registry section 3.2), never by software alone."""
        return "hardware" in self.protection and "software" not in self.protection

    def unsafe(self, today: dt.date, path: Iterable[bytes] = ()) -> str:
        """The report that forbids this model today, or nothing. `path` are the certificates of the key in question."""
        held = {der.hex() for der in path}
        for report in self.reports:
            about_it = not report.certificate or report.certificate in held
            if report.status in UNSAFE and about_it and (report.since is None or report.since <= today):
                return report.status
        return ""

    def level(self, today: dt.date) -> Level | None:
        """The certification that holds today: the newest report about it decides."""
        found: Level | None = None
        for report in sorted(self.reports, key=lambda report: report.since or dt.date.min):
            if report.since is not None and report.since > today:
                continue
            if report.status in _LOST | UNSAFE:
                found = None
            elif report.status.startswith("FIDO_CERTIFIED"):
                found = Level(report.status.removeprefix("FIDO_CERTIFIED").lstrip("_") or Level.L1)
        return found

    def as_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "aaguid": self.aaguid.hex(),
            "key_ids": sorted(self.key_ids),
            "roots": [b64encode(der).decode() for der in self.roots],
            "reports": [
                {"status": r.status, "since": r.since and r.since.isoformat(), "certificate": r.certificate}
                for r in self.reports
            ],
            "protection": sorted(self.protection),
            "verified_by": [sorted(factors) for factors in self.verified_by],
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Model:
        return cls(
            name=data["name"],
            aaguid=bytes.fromhex(data["aaguid"]),
            key_ids=frozenset(data["key_ids"]),
            roots=tuple(b64decode(text) for text in data["roots"]),
            reports=tuple(
                Report(
                    status=r["status"],
                    since=dt.date.fromisoformat(r["since"]) if r["since"] else None,
                    certificate=r["certificate"],
                )
                for r in data["reports"]
            ),
            protection=frozenset(data["protection"]),
            verified_by=tuple(frozenset(Factor(name) for name in factors) for factors in data["verified_by"]),
        )


class Metadata:
    """All models of one blob. `number` is the blob's serial number, `next_update` when a newer one should be there."""

    def __init__(self, *, number: int, next_update: dt.date, models: Iterable[Model]) -> None:
        self.number = number
        self.next_update = next_update
        self.models = tuple(models)
        self._by_aaguid = {model.aaguid: model for model in self.models if model.aaguid}
        self._by_key_id = {key_id: model for model in self.models for key_id in model.key_ids}

    def is_stale(self, today: dt.date) -> bool:
        return today > self.next_update

    def find(self, aaguid: bytes, path: Iterable[x509.Certificate] = ()) -> Model | None:
        """The model of an AAGUID; of a key without one, by its attestation certificates."""
        if aaguid != NO_AAGUID:
            return self._by_aaguid.get(aaguid)
        return next((self._by_key_id[key] for key in map(key_id_of, path) if key in self._by_key_id), None)

    def as_json(self) -> dict[str, Any]:
        return {
            "number": self.number,
            "next_update": self.next_update.isoformat(),
            "models": [model.as_json() for model in self.models],
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Metadata:
        return cls(
            number=data["number"],
            next_update=dt.date.fromisoformat(data["next_update"]),
            models=map(Model.from_json, data["models"]),
        )


def key_id_of(certificate: x509.Certificate) -> str:
    """SHA-1 of the BIT STRING of the certificate's public key, hex (RFC 5280 section 4.2.1.2, method 1)."""
    try:
        return x509.SubjectKeyIdentifier.from_public_key(certificate.public_key()).digest.hex()
    except (ValueError, TypeError):
        return ""
