"""Setting up a phone app, as both sides of it do: the page that shows a QR code, and the telephone that scans it.

The telephone makes a key and proves that it has it. It then shows two digits, and the page asks for them: whoever has
photographed the code and was faster has a telephone that counts for nothing, and the right one shows no number. It
blocks.
"""

from __future__ import annotations

import datetime as dt
import hmac
from dataclasses import dataclass
from typing import Any

from sqlalchemy.orm import Session

from tokenbridge.errors import (
    BadRequest,
    NotAllowedNow,
    NotAnswered,
    Rejected,
    RejectReason,
    Retry,
    TooMany,
)
from tokenbridge.rp.proof import Method
from tokenbridge.server import codes, keys
from tokenbridge.server.approvals import new_number
from tokenbridge.server.changes import Changes
from tokenbridge.server.notices import Notices
from tokenbridge.server.phone_requests import PublicKey
from tokenbridge.server.store import accounts, audit, phone_apps, throttle
from tokenbridge.server.store.phone_app_schema import PhoneEnrolment
from tokenbridge.server.store.phone_apps import NewPhoneApp
from tokenbridge.server.store.sessions import Live

MAX_NAME = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Claimed:
    """What the telephone shows: whose it is to be, and the number that the page asks for."""

    username: str
    number: str
    expires_at: dt.datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class PhoneAppEnrolment:
    changes: Changes
    notices: Notices

    def begin(self, session_token: str, request: str) -> str:
        """A new code for the QR picture. Raises `NoSession`, `StepUp`, or `NotAllowedNow` when there are enough."""
        code = codes.new_code()
        with self.changes.permitted(session_token, "set up a phone app", request) as (tx, live):
            if len(phone_apps.of(tx, live.account.id)) >= phone_apps.MOST:
                raise NotAllowedNow("There are enough phones on your account.", next_step="Remove one first.")
            phone_apps.begin(tx, live.account.id, _ref(code), self.changes.clock())
            self.changes.record(tx, "method-begun", live, request, method=str(Method.NUMBER_MATCH))
        return code

    def claim(self, code: str, key: PublicKey, name: str, device: str, request: str) -> Claimed:
        """The telephone's half. Raises Rejected(ENROLMENT_CODE_WRONG) for a code that is unknown, too old or was used
        by another telephone, `BadRequest` for an unfit name."""
        name = _fit(name)
        with self.changes.database.read() as tx:  # writing would hold others up, for whoever sends nonsense
            if phone_apps.enrolment(tx, _ref(code), self.changes.clock()) is None:
                raise _wrong_code()
        number, now = new_number(), self.changes.clock()
        with self.changes.database.write() as tx:
            row = phone_apps.enrolment(tx, _ref(code), now)
            account = accounts.by_id(tx, row.account_id) if row is not None else None
            if row is None or account is None or account.disabled:
                raise _wrong_code()
            if phone_apps.find(tx, key.thumbprint) is not None:
                raise NotAllowedNow("This key is set up already.", next_step="Load the page again.")
            new = NewPhoneApp(thumbprint=key.thumbprint, public_key=key.der, name=name, device=device)
            sealed = self.changes.keys.ring().encrypt(number.encode(), context=_context(row.ref))
            if not phone_apps.claim(tx, row, new, sealed, now):
                raise _wrong_code()
            event = audit.Event(
                event="phone-app-scanned",
                account=account.username,
                request=request,
                detail={"name": name, "device": device},
            )
            self.changes.append(tx, event)
        return Claimed(username=account.username, number=number, expires_at=row.expires_at)

    def complete(self, session_token: str, code: str, number: str, request: str) -> None:
        """The page's half: the telephone counts once its number was typed. Raises `NoSession`, `StepUp`, `TooMany`,
        `NotAnswered` before a telephone has used the code, Rejected(CODE_WRONG) for a wrong number, and `NotAllowedNow`
        when the code is too old, or there are no tries left."""
        with self.changes.permitted(session_token, "set up a phone app", request) as (tx, live):
            now = self.changes.clock()
            if not throttle.allow(tx, throttle.CODES, str(live.account.id), now):
                raise TooMany(seconds=throttle.wait(throttle.CODES, now))
            row = phone_apps.enrolment(tx, _ref(code), now)
            if row is None or row.account_id != live.account.id:
                raise NotAllowedNow("That took too long, or was tried too often.", next_step="Begin again.")
            if row.number is None:
                raise NotAnswered("No phone has scanned the code yet.", next_step="Scan it, then type the number.")
            good = self._compare(tx, row, number)
            event, detail = ("method-added", {}) if good else ("method-refused", {"detail": "wrong number"})
            self._record(tx, live, event, request, **detail)
        if not good:
            wrong = Rejected(RejectReason.CODE_WRONG, "That is not the number that your phone shows.")
            wrong.retry, wrong.hint = Retry.AGAIN, "If your phone shows none, somebody else may have used the code."
            raise wrong
        self.notices.added(live.account, Method.NUMBER_MATCH)

    def _compare(self, tx: Session, row: PhoneEnrolment, number: str) -> bool:
        assert row.number is not None
        if not phone_apps.count_try(tx, row.id):
            return False
        right = self.changes.keys.ring().decrypt(row.number, context=_context(row.ref))
        good = hmac.compare_digest(right, number.replace(" ", "").encode("utf-8", "surrogatepass"))
        if good:
            phone_apps.confirm(tx, row, self.changes.clock())
        elif row.tries + 1 >= phone_apps.MOST_TRIES and row.phone_app_id is not None:
            phone_apps.remove(tx, row.phone_app_id)  # and the code with it
        return good

    def _record(self, tx: Session, live: Live, event: str, request: str, **detail: Any) -> None:
        self.changes.record(tx, event, live, request, method=str(Method.NUMBER_MATCH), **detail)


def _fit(name: str) -> str:
    name = " ".join(name.split())
    if not 1 <= len(name) <= MAX_NAME or not name.isprintable():
        raise BadRequest("A phone's name has 1 to 64 printable characters.", next_step="Choose another name.")
    return name


def _wrong_code() -> Rejected:
    wrong = Rejected(RejectReason.ENROLMENT_CODE_WRONG, "This code is too old, or another phone has used it.")
    wrong.hint = "Show a new code on your computer and scan that."
    return wrong


def _ref(code: str) -> str:
    return keys.hash_token(f"phone app:{codes.plain(code)}")


def _context(ref: str) -> str:
    return f"phone enrolment:{ref}"
