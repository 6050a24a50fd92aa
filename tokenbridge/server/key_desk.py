"""Security keys as the API sees them. Blocking work leaves the event loop here; no rule of verification stands here."""

from __future__ import annotations

import asyncio
import datetime as dt
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy.orm import Session

from tokenbridge.errors import NotFound
from tokenbridge.rp.assurance import AAL
from tokenbridge.rp.key_models import KeyModels
from tokenbridge.rp.proof import Method
from tokenbridge.server import suspending
from tokenbridge.server.holdings import key_level
from tokenbridge.server.key_enrolment import Begun, KeyEnrolment, clean_name
from tokenbridge.server.notices import Notices
from tokenbridge.server.store import recovery, security_keys, sessions
from tokenbridge.server.store.key_schema import SecurityKey
from tokenbridge.server.store.sessions import Live


@dataclass(frozen=True, slots=True, kw_only=True)
class Added:
    """A new key as the API tells it, and the recovery codes that were made with it."""

    key: dict[str, Any]
    sentence: str
    recovery_codes: tuple[str, ...]


class KeyDesk:
    """All methods raise `NoSession`, `StepUp`, `Rejected`, `NotFound`, `NotAllowedNow`, `TooMany` or `SetupError`."""

    def __init__(self, enrolment: KeyEnrolment, notices: Notices) -> None:
        self._enrolment = enrolment
        self._changes = enrolment.changes
        self._notices = notices

    async def begin_signed_in(self, session_token: str, request: str) -> Begun:
        return await asyncio.to_thread(self._enrolment.begin_signed_in, session_token, request)

    async def begin_with_code(self, username: str, code: str, request: str) -> Begun:
        return await asyncio.to_thread(self._enrolment.begin_with_code, username, code, request)

    async def complete(self, token: str, raw: Mapping[str, Any], name: str | None, request: str) -> Added:
        return await asyncio.to_thread(self._complete, token, raw, name, request)

    async def cancel(self, token: str) -> None:
        await asyncio.to_thread(self._enrolment.cancel, token)

    async def listed(self, session_token: str) -> dict[str, Any]:
        return await asyncio.to_thread(self._listed, session_token)

    async def rename(self, session_token: str, key_id: int, name: str, request: str) -> dict[str, Any]:
        return await asyncio.to_thread(self._rename, session_token, key_id, name, request)

    async def remove(self, session_token: str, key_id: int, request: str, *, confirmed: bool) -> None:
        """The last factor beside the password goes only when `confirmed`. The account's other sessions end."""
        await asyncio.to_thread(self._remove, session_token, key_id, request, confirmed)

    def _complete(self, token: str, raw: Mapping[str, Any], name: str | None, request: str) -> Added:
        done = self._enrolment.complete(token, raw, name, request)
        self._notices.added(done.account, Method.KEY)
        models, now = self._enrolment.models.current(), self._now()
        told = describe(done.row, models, now)
        return Added(key=told, sentence=_sentence(done.row, AAL(told["level"])), recovery_codes=done.recovery_codes)

    def _listed(self, session_token: str) -> dict[str, Any]:
        models, now = self._enrolment.models.current(), self._now()
        with self._changes.looking(session_token) as (tx, live):
            rows = security_keys.of(tx, live.account.id)
            left = recovery.left(tx, live.account.id)
        return {"keys": [describe(row, models, now) for row in rows], "recovery_codes_left": left}

    def _rename(self, session_token: str, key_id: int, name: str, request: str) -> dict[str, Any]:
        models, now, wanted = self._enrolment.models.current(), self._now(), clean_name(name)
        with self._changes.database.write() as tx:
            live = self._changes.live(tx, session_token)
            row = _get(tx, key_id, live)
            row.name = wanted
            self._changes.record(tx, "key-renamed", live, request, key=row.id, name=wanted)
            tx.flush()
            return describe(row, models, now)

    def _remove(self, session_token: str, key_id: int, request: str, confirmed: bool) -> None:
        trust = self._changes.rule.trust.current()
        with self._changes.permitted(session_token, "remove a key", request) as (tx, live):
            name = _get(tx, key_id, live).name
            security_keys.remove(tx, key_id)
            suspending.check_left(tx, live.account, trust, confirmed=confirmed)
            ended = sessions.end_others(tx, live, self._now())
            self._changes.record(tx, "key-removed", live, request, key=key_id, name=name, sessions_ended=ended)
        self._notices.removed(live.account, Method.KEY)

    def _now(self) -> dt.datetime:
        return self._changes.clock()


def describe(row: SecurityKey, models: KeyModels, now: dt.datetime) -> dict[str, Any]:
    """A key as the API and the operator's commands tell it: JSON types."""
    level = key_level(row, models, now)
    model = models.metadata.find(row.aaguid) if models.metadata is not None else None
    return {
        "id": row.id,
        "name": row.name,
        "model": model.name if model is not None else "",
        "aaguid": aaguid_text(row.aaguid),
        "level": int(level),
        "created": row.registered_at.isoformat(),
        "last_used": row.last_used.isoformat() if row.last_used else None,
        "suspended_at": row.suspended_at.isoformat() if row.suspended_at else None,
        "synced": row.backup_eligible,
        "discoverable": row.discoverable,
        "attestation": row.attestation,
        "trusted": level is not AAL.NONE and models.is_attested(security_keys.make_of(row)),
        "transports": list(row.transports),
        "cred_protect": row.cred_protect,
        "min_pin_length": row.min_pin_length,
    }


def aaguid_text(aaguid: bytes) -> str:
    """`01020304-0506-0708-a1a2-a3a4a5a6a7a8`."""
    return str(uuid.UUID(bytes=aaguid))


def _get(tx: Session, key_id: int, live: Live) -> SecurityKey:
    row = security_keys.get(tx, key_id, live.account.id)
    if row is None:
        raise NotFound("There is no such key in this account.", next_step="See the list of your keys.")
    return row


def _sentence(row: SecurityKey, level: AAL) -> str:
    told = {
        AAL.AAL1: "touching it counts as one factor, and the password is asked as well",
        AAL.AAL2: "with its PIN or fingerprint it signs in at AAL2",
        AAL.AAL3: "with its PIN or fingerprint it signs in at AAL3",
    }
    return f"Registered {row.name}: {told.get(level, 'it can sign in when its model is accepted again')}."
