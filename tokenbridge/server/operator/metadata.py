"""Loads the FIDO Metadata Service's blob from a file or an address. Its signature decides, not where it came from."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import httpx

from tokenbridge.errors import BadRequest, RelyingPartyUnavailable
from tokenbridge.rp.metadata_blob import MAX_BLOB_BYTES, read_blob
from tokenbridge.server import key_rules
from tokenbridge.server.administration import key_metadata, key_models
from tokenbridge.server.administration.key_metadata import SIGNER, Change, default_roots
from tokenbridge.server.key_desk import aaguid_text
from tokenbridge.server.operator.office import Office
from tokenbridge.server.settings import is_loopback
from tokenbridge.server.store import metadata
from tokenbridge.server.store.metadata import Loaded

SECONDS: Final = 60.0


def load(office: Office, source: str, root: Path | None) -> Change:
    """Read, check and keep a blob. Raises `BadRequest`, `SetupError` or `RelyingPartyUnavailable`.

    A blob that is older than the one in force is refused: it may lack a revocation.
    """
    roots, signer = (key_rules.read_roots(root), "") if root is not None else (default_roots(), SIGNER)
    blob = _fetch(source) if "://" in source else _read(Path(source))
    now = office.now()
    found = read_blob(blob, roots, now, signer=signer)
    with office.database.write() as tx:
        done = key_metadata.put(tx, found, source, now)
        office.record(tx, "metadata-loaded", number=done.after, models=done.models, source=source[:200])
    return done


def shown(office: Office) -> Loaded | None:
    with office.database.read() as tx:
        return metadata.current(tx)


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
    loaded, today = shown(office), office.now().date()
    known = loaded.metadata if loaded is not None else None
    told = ("name", "aaguid", "level", "hardware", "standing")
    found = key_models.lines(known, key_rules.policy_of(office.settings), today, search)
    return [{name: getattr(line, name) for name in told} for line in found]
