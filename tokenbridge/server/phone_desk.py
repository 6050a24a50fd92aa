"""What a phone app may do once it is set up: see what it is asked, answer, and say where pushes go.

The desk leaves the event loop; every request is signed (`phone_requests`).
"""

from __future__ import annotations

import asyncio
import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy.orm import Session

from tokenbridge.errors import BadRequest, NotAllowedNow, PhoneUnknown, Rejected, RejectReason, Retry
from tokenbridge.rp.proof import Method
from tokenbridge.server import push_keys
from tokenbridge.server.approval_sign_in import ApprovalSignIn
from tokenbridge.server.countries import Countries
from tokenbridge.server.notices import Notices
from tokenbridge.server.phone_requests import PhoneRequests
from tokenbridge.server.push_keys import PushKeys, PushServices
from tokenbridge.server.self_service.phone_apps import PhoneAppEnrolment
from tokenbridge.server.store import accounts, approvals, audit, phone_apps
from tokenbridge.server.store.approval_schema import Approval
from tokenbridge.server.store.approvals import Stage
from tokenbridge.server.store.phone_app_schema import PhoneApp
from tokenbridge.server.store.schema import Account

MAX_CODE = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class PhoneParts:
    """Put together in the composition root. `local_push`: where the app subscribes while there is a development outbox
    instead of push services."""

    requests: PhoneRequests
    enrolment: PhoneAppEnrolment
    sign_ins: ApprovalSignIn
    notices: Notices
    countries: Countries
    push_keys: PushKeys
    services: PushServices
    local_push: str = ""


class PhoneDesk:
    """`signed` is a JWS of the telephone's. All methods raise `BadRequest`, `NonceStale` or `PhoneUnknown`."""

    def __init__(self, parts: PhoneParts) -> None:
        self._parts = parts
        self._database, self._clock = parts.requests.database, parts.requests.clock

    def nonce(self) -> str:
        return self._parts.requests.nonce()

    async def enrol(self, signed: str, device: str, request: str) -> dict[str, Any]:
        """Use the code of a QR picture; `device` is what the browser says of itself. Raises `Rejected` too."""
        return await asyncio.to_thread(self._enrol, signed, device, request)

    async def look(self, signed: str) -> dict[str, Any]:
        """Whose telephone it is, and what it is asked now."""
        return await asyncio.to_thread(self._look, signed)

    async def answer(self, signed: str, request: str) -> None:
        """Approve by the number, or deny. Raises Rejected(CODE_WRONG) for a wrong number, and `NotAllowedNow` when the
        question is not open any more."""
        await asyncio.to_thread(self._answer, signed, request)

    async def subscribe(self, signed: str) -> None:
        """Take a push subscription, or none."""
        await asyncio.to_thread(self._subscribe, signed)

    def _enrol(self, signed: str, device: str, request: str) -> dict[str, Any]:
        key, payload = self._parts.requests.of_new_key(signed, "enrol")
        code, name = (_text(payload, part, MAX_CODE) for part in ("code", "name"))
        claimed = self._parts.enrolment.claim(code, key, name, device, request)
        return {
            "phone": key.thumbprint,
            "account": claimed.username,
            "number": claimed.number,
            "expires_at": claimed.expires_at.isoformat(),
        }

    def _look(self, signed: str) -> dict[str, Any]:
        app, _ = self._parts.requests.of_phone(signed, "look")
        now = self._clock()
        with self._database.read() as tx:
            account = accounts.by_id(tx, app.account_id)
            if account is None:
                raise PhoneUnknown
            row = approvals.open_of(tx, account.id, Method.NUMBER_MATCH, now) if app.confirmed_at else None
        return {
            "account": account.username,
            "name": app.name,
            "confirmed": app.confirmed_at is not None,
            "request": self._told(row, now) if row is not None else None,
            "push": {
                "key": self._parts.push_keys.public(),
                "subscribed": app.subscription is not None,
                "service": self._parts.local_push,
            },
        }

    def _told(self, row: Approval, now: dt.datetime) -> dict[str, Any]:
        """A question, for the person to judge by; the number is not in it."""
        return {
            "approval": row.handle,
            "client": row.client,
            "address": row.address,
            "country": self._parts.countries.of(row.address),
            "device": row.device,
            "asked_at": row.created_at.isoformat(),
            "seconds_left": int((row.expires_at - now).total_seconds()),
            "tries_left": approvals.MOST_TRIES - row.tries,
        }

    def _answer(self, signed: str, request: str) -> None:
        app, payload = self._parts.requests.of_phone(signed, "answer")
        handle, decision = _text(payload, "approval", 64), _text(payload, "decision", 16)
        if decision not in ("approve", "deny"):
            raise BadRequest("An answer is either approve or deny.")
        approve, number = decision == "approve", _text(payload, "number", 8) if decision == "approve" else ""
        with self._database.write_shared() as tx:
            # Read again: it may have been removed since its signature was checked.
            app_now, account = phone_apps.find(tx, app.thumbprint), accounts.by_id(tx, app.account_id)
            if app_now is None or app_now.confirmed_at is None or account is None:
                raise PhoneUnknown
            row = approvals.by_handle(tx, handle, account.id)
            if row is None or row.method != Method.NUMBER_MATCH:
                raise _over()
            wrong = self._approve(tx, row, number) if approve else None
            if not approve:
                self._deny(tx, row)
            if wrong is None:
                phone_apps.used(tx, app_now.id, self._clock())
            entry = self._record(tx, account, app_now, row, request, _event(approve=approve, wrong=wrong))
        audit.tell(entry)
        if not approve:
            self._parts.sign_ins.decline(row, request)
            self._parts.notices.declined(account, row.address)
        if wrong is not None:
            raise wrong

    def _approve(self, tx: Session, row: Approval, number: str) -> Rejected | None:
        now = self._clock()
        left = approvals.count_try(tx, row.id, now)
        if left is None:
            raise _over()
        if self._parts.sign_ins.questions.fits(row, number.replace(" ", "")):
            if not approvals.answer(tx, row.id, Stage.APPROVED, now):
                raise _over()
            return None
        if not left:
            approvals.mark(tx, row.id, Stage.ASKED, Stage.FAILED)
        return _wrong_number(left)

    def _deny(self, tx: Session, row: Approval) -> None:
        """Also when it is too late to approve: that it was not the person is worth knowing."""
        if not approvals.mark(tx, row.id, Stage.ASKED, Stage.DENIED):
            raise _over()

    def _record(
        self, tx: Session, account: Account, app: PhoneApp, row: Approval, request: str, event: str
    ) -> audit.Entry:
        detail = {"method": str(Method.NUMBER_MATCH), "client": row.client, "address": row.address, "name": app.name}
        told = audit.Event(event=event, account=account.username, sign_in=row.ref, request=request, detail=detail)
        return audit.append(tx, self._clock(), told, self._parts.requests.keys.ring())

    def _subscribe(self, signed: str) -> None:
        app, payload = self._parts.requests.of_phone(signed, "subscribe")
        raw, sealed = payload.get("subscription"), None
        if raw is not None:
            found = self._parts.services.read(raw)
            sealed = push_keys.seal(self._parts.requests.keys.ring(), found, app.account_id)
        with self._database.write() as tx:
            phone_apps.subscribe(tx, app.id, sealed)


def _event(*, approve: bool, wrong: Rejected | None) -> str:
    if not approve:
        return "approval-denied"
    return "approval-given" if wrong is None else "approval-wrong-number"


def _over() -> NotAllowedNow:
    return NotAllowedNow("This request is over.", next_step="If you are signing in, send a new one there.")


def _wrong_number(left: int) -> Rejected:
    error = Rejected(RejectReason.CODE_WRONG, "That is not the number on the sign-in page.")
    error.retry = Retry.AGAIN if left else Retry.NEVER
    tries = f"{left} {'try' if left == 1 else 'tries'} left"
    error.hint = f"Look at the number again: {tries}." if left else "Send a new request on the sign-in page."
    return error


def _text(payload: Mapping[str, Any], name: str, most: int) -> str:
    value = payload.get(name)
    if not isinstance(value, str) or len(value) > most:
        raise BadRequest(f"{name} is missing or too long.")
    return value
