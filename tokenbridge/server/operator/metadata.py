"""Loads the FIDO Metadata Service's blob from a file or an address. Its signature decides, not where it came from."""

from __future__ import annotations

import datetime as dt
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import certifi
import httpx
from asn1crypto import pem
from cryptography import x509

from tokenbridge.errors import BadRequest, RelyingPartyUnavailable, SetupError
from tokenbridge.rp.key_metadata import Model
from tokenbridge.rp.key_models import KeyPolicy
from tokenbridge.rp.metadata_blob import MAX_BLOB_BYTES, read_blob
from tokenbridge.server import key_rules
from tokenbridge.server.key_desk import aaguid_text
from tokenbridge.server.operator.office import Office
from tokenbridge.server.settings import is_loopback
from tokenbridge.server.store import metadata
from tokenbridge.server.store.metadata import Loaded

ROOTS_SHA256: Final = frozenset(
    {
        "4fa3126d8d3a11d1c4855a4f807cbad6cf919d3a5a88b03bea2c6372d93c40c9",  # GlobalSign Root R46, since August 2026
        "cbb522d7b7f127ad6a0113865bdf1cd4102e7d0759af635a7cf4720dc963c53b",  # GlobalSign Root CA - R3, before
    }
)
"""Roots under which the FIDO Alliance signs (MDS 3.0 section 3.2). They are public: anybody may have a certificate."""
SIGNER: Final = "mds.fidoalliance.org"
SECONDS: Final = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """What came of loading: the serial number before (None: there was none) and after, and how many models."""

    before: int | None
    after: int
    models: int
    next_update: str
    stale: bool


def load(office: Office, source: str, root: Path | None) -> Change:
    """Read, check and keep a blob. Raises `BadRequest`, `SetupError` or `RelyingPartyUnavailable`.

    A blob that is older than the one in force is refused: it may lack a revocation.
    """
    roots, signer = (key_rules.read_roots(root), "") if root is not None else (default_roots(), SIGNER)
    blob = _fetch(source) if "://" in source else _read(Path(source))
    now = office.now()
    found = read_blob(blob, roots, now, signer=signer)
    with office.database.write() as tx:
        before = metadata.current(tx)
        if before is not None and found.number < before.metadata.number:
            raise BadRequest(
                f"This metadata has the number {found.number}; number {before.metadata.number} is in force already.",
                next_step="Fetch the newest blob from the metadata service.",
            )
        metadata.replace(tx, found, source, now)
        office.record(tx, "metadata-loaded", number=found.number, models=len(found.models), source=source[:200])
    return Change(
        before=before.metadata.number if before is not None else None,
        after=found.number,
        models=len(found.models),
        next_update=found.next_update.isoformat(),
        stale=found.is_stale(now.date()),
    )


def shown(office: Office) -> Loaded | None:
    with office.database.read() as tx:
        return metadata.current(tx)


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


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(MAX_BLOB_BYTES + 1)
    except OSError as err:
        raise BadRequest(f"{path} can't be read: {err.strerror}.") from err


def _fetch(url: str) -> bytes:
    parts = urlsplit(url)
    if parts.scheme != "https" and not (parts.scheme == "http" and is_loopback(parts.hostname or "")):
        raise BadRequest(f"{url} is no address to load metadata from.", next_step="Use https://..., or a file.")
    body = bytearray()
    try:
        with (
            httpx.Client(timeout=SECONDS, follow_redirects=True, max_redirects=3) as client,
            client.stream("GET", url) as answer,
        ):
            answer.raise_for_status()
            for part in answer.iter_bytes():
                body += part
                if len(body) > MAX_BLOB_BYTES:
                    raise BadRequest(f"What {url} sends is too large to be metadata.")
    except (httpx.HTTPError, httpx.InvalidURL) as err:
        raise RelyingPartyUnavailable(
            f"The metadata service at {parts.hostname} does not give its blob.", detail=str(err)
        ) from err
    return bytes(body)


def rules(office: Office) -> dict[str, Any]:
    """The operator's rules for keys: JSON types."""
    policy = key_rules.policy_of(office.settings)
    loaded = shown(office)
    return {
        "user_verification": str(policy.user_verification),
        "resident_key": str(policy.resident_key),
        "attested": policy.attested,
        "allowed": sorted(map(aaguid_text, policy.allowed)),
        "refused": sorted(map(aaguid_text, policy.refused)),
        "minimum_level": str(policy.minimum) if policy.minimum is not None else None,
        "stale_metadata": str(policy.stale),
        "own_roots": [root.subject.rfc4514_string() for root in key_rules.roots_of(office.settings)],
        "metadata": loaded.metadata.number if loaded is not None else None,
    }


def models(office: Office, search: str = "") -> list[dict[str, Any]]:
    """What metadata says of each model, and whether it would be accepted: JSON types."""
    loaded, policy, today = shown(office), key_rules.policy_of(office.settings), office.now().date()
    found = []
    for model in loaded.metadata.models if loaded is not None else ():
        text, level = aaguid_text(model.aaguid) if model.aaguid else "", model.level(today)
        if search.casefold() not in f"{model.name} {text}".casefold():
            continue
        facts = {"name": model.name, "aaguid": text, "level": level, "hardware": model.hardware}
        found.append({**facts, "standing": _standing(model, policy, today)})
    return found


def _standing(model: Model, policy: KeyPolicy, today: dt.date) -> str:
    """One word for why a model is refused, or that it is not."""
    level = model.level(today)
    too_low = policy.minimum is not None and (level is None or level.rank < policy.minimum.rank)
    ways = {
        "refused": model.aaguid in policy.refused,
        "unsafe": bool(model.unsafe(today)),
        "not allowed": bool(policy.allowed) and model.aaguid not in policy.allowed,
        "level too low": too_low,
    }
    return next((word for word, holds in ways.items() if holds), "accepted")
