"""Models of security keys: what metadata says of them, whether they are accepted, how many are in use. It blocks."""

from __future__ import annotations

import datetime as dt
import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Final

from cryptography import x509

from tokenbridge.errors import BadRequest
from tokenbridge.rp.key_metadata import Metadata, Model
from tokenbridge.rp.key_models import KeyPolicy
from tokenbridge.rp.metadata_blob import read_blob
from tokenbridge.server import certificate_files
from tokenbridge.server.administration import key_metadata
from tokenbridge.server.administration.authority import Gate, Task
from tokenbridge.server.administration.key_metadata import Change
from tokenbridge.server.key_desk import aaguid_text
from tokenbridge.server.store import metadata, security_keys

PAGE: Final = 50
ACCEPTED: Final = "accepted"


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelLine:
    """One model. `standing` is `accepted`, or one word for why it is not; `status` the newest report of its maker's
    certification or its safety; `keys` how many keys of accounts are of it."""

    name: str
    aaguid: str
    level: str | None
    status: str
    hardware: bool
    standing: str
    keys: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelsView:
    """`number` None: no metadata is loaded. `used` are the models of the accounts' keys, known or not; `found` the
    first 50 others that a search finds."""

    number: int | None
    source: str
    loaded_at: dt.datetime | None
    next_update: dt.date | None
    stale: bool
    models: int
    used: tuple[ModelLine, ...]
    found: tuple[ModelLine, ...]
    more: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelDesk:
    """Raises `NoSession`, `NotFound` and `StepUp` everywhere."""

    gate: Gate

    def view(self, session_token: str, search: str) -> ModelsView:
        policy, today = self.gate.changes.rule.models.policy, self.gate.changes.clock().date()
        with self.gate.looking(session_token, Task.GOVERN) as (tx, _):
            loaded, counts = metadata.current(tx), security_keys.counted_by_model(tx)
        known = loaded.metadata if loaded is not None else None
        used = tuple(_used(known, policy, today, aaguid, keys) for aaguid, keys in counts)
        there = {line.aaguid for line in used}
        others = (line for line in lines(known, policy, today, search) if line.aaguid not in there)
        found = list(islice(others, PAGE + 1))
        return ModelsView(
            number=known.number if known is not None else None,
            source=loaded.source if loaded is not None else "",
            loaded_at=loaded.loaded_at if loaded is not None else None,
            next_update=known.next_update if known is not None else None,
            stale=known is not None and known.is_stale(today),
            models=len(known.models) if known is not None else 0,
            used=used,
            found=tuple(found[:PAGE]),
            more=len(found) > PAGE,
        )

    def load(self, session_token: str, blob: bytes, root: bytes, request: str) -> Change:
        """Check a blob and put it in force. `root` are certificates (PEM or DER) of a metadata service of one's own;
        empty: the FIDO Alliance's. Raises `BadRequest`."""
        roots, signer = (_parsed(root), "") if root else (key_metadata.default_roots(), key_metadata.SIGNER)
        now = self.gate.changes.clock()
        found = read_blob(blob, roots, now, signer=signer)
        source = f"uploaded, SHA-256 {hashlib.sha256(blob).hexdigest()}"
        with self.gate.changing(session_token, Task.GOVERN, request) as (tx, by):
            done = key_metadata.put(tx, found, source, now)
            own_root = hashlib.sha256(root).hexdigest() if root else ""
            told = {"number": done.after, "before": done.before, "models": done.models, "source": source}
            self.gate.record(tx, "metadata-loaded", by, None, request, **told, own_root=own_root)
        return done


def lines(known: Metadata | None, policy: KeyPolicy, today: dt.date, search: str = "") -> Iterator[ModelLine]:
    """The models of metadata whose name or AAGUID holds `search`."""
    for model in known.models if known is not None else ():
        text = aaguid_text(model.aaguid) if model.aaguid else ""
        if search.casefold() in f"{model.name} {text}".casefold():
            yield _line(model, policy, today)


def _line(model: Model, policy: KeyPolicy, today: dt.date, keys: int = 0) -> ModelLine:
    return ModelLine(
        name=model.name,
        aaguid=aaguid_text(model.aaguid) if model.aaguid else "",
        level=model.level(today),
        status=_status(model, today),
        hardware=model.hardware,
        standing=_standing(model, policy, today),
        keys=keys,
    )


def _used(known: Metadata | None, policy: KeyPolicy, today: dt.date, aaguid: bytes, keys: int) -> ModelLine:
    model = known.find(aaguid) if known is not None else None
    if model is not None:
        return _line(model, policy, today, keys)
    return ModelLine(
        name="",
        aaguid=aaguid_text(aaguid),
        level=None,
        status="",
        hardware=False,
        standing="refused" if aaguid in policy.refused else "not known",
        keys=keys,
    )


def _status(model: Model, today: dt.date) -> str:
    past = [report for report in model.reports if report.since is None or report.since <= today]
    newest = max(past, key=lambda report: report.since or dt.date.min, default=None)
    return model.unsafe(today) or (newest.status if newest is not None else "")


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
    return next((word for word, holds in ways.items() if holds), ACCEPTED)


def _parsed(root: bytes) -> Sequence[x509.Certificate]:
    try:
        return [x509.load_der_x509_certificate(der) for der in certificate_files.certificates(root)]
    except ValueError as err:
        raise BadRequest("The root can't be read.", next_step="Choose a certificate.", detail=str(err)) from err
