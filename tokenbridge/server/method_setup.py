"""Setting fallback methods up and removing them, as people do for themselves. The desk leaves the event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy.orm import Session

from tokenbridge.errors import LastFactor, NotAllowedNow, NotFound, Rejected, RejectReason, Retry, TooMany
from tokenbridge.rp.proof import DEVICES, FALLBACK_METHODS, Method
from tokenbridge.server import keys, numbers
from tokenbridge.server.changes import Changes
from tokenbridge.server.methods.base import Case, Confirms, Enrols, FallbackMethod
from tokenbridge.server.methods.message import setup_ref
from tokenbridge.server.methods.recovery import first_set
from tokenbridge.server.methods.totp import TotpMethod
from tokenbridge.server.notices import Notices
from tokenbridge.server.second_step import Begun, SecondStep
from tokenbridge.server.store import accounts, phone_apps, phones, recovery, sent_codes, sessions, throttle
from tokenbridge.server.store.phone_app_schema import PhoneApp
from tokenbridge.server.store.sessions import Live

CORE: Final = (FALLBACK_METHODS | DEVICES) - {Method.RECOVERY}
"""What makes an account one with MFA: recovery codes are for those who have lost the rest."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """A method that awaits its confirmation: what to show, and where a message went, if one did."""

    shown: Mapping[str, Any]
    begun: Begun | None


@dataclass(frozen=True, slots=True, kw_only=True)
class MethodSetup:
    """It blocks. Every change needs a session that is as strong as the account's strongest factor, and new."""

    changes: Changes
    methods: Mapping[Method, FallbackMethod]
    app: TotpMethod
    second: SecondStep
    notices: Notices

    def listed(self, session_token: str) -> dict[str, Any]:
        """JSON types; numbers are masked."""
        with self.changes.database.read() as tx:
            live = self.changes.live(tx, session_token)
            account, ring = live.account.id, self.changes.keys.ring()
            enrolled = accounts.enrolled(tx, account)
            told = [
                {
                    "id": row.id,
                    "sent_to": numbers.masked(
                        ring.decrypt(row.number, context=numbers.context(account)).decode(),
                    ),
                    "methods": sorted(map(str, phones.methods(row) & self.methods.keys())),
                }
                for row in phones.of(tx, account)
            ]
            return {
                "mfa": bool(enrolled & CORE),
                "methods": sorted(map(str, enrolled)),
                "phones": told,
                "phone_apps": [_told(row) for row in phone_apps.of(tx, account)],
                "recovery_codes_left": recovery.left(tx, account),
                "available": [str(method) for method in Method if method in self.methods],
            }

    def enrol(self, session_token: str, method: Method, given: str, request: str) -> Offer:
        """Begin to set `method` up by a number or an algorithm. Raises `StepUp`, `NumberUnfit`, `SendFailed`, ..."""
        found = self.methods.get(method)
        if not isinstance(found, Enrols):
            raise _not_offered()
        with self.changes.permitted(session_token, f"set up {method}", request) as (tx, live):
            setup = found.enrol(self._case(tx, live, session_token), given)
            event = "recovery-codes-made" if method is Method.RECOVERY else "method-begun"
            self.changes.record(tx, event, live, request, method=str(method))
        if method is Method.RECOVERY:
            self.notices.added(live.account, method)
        begun = self.second.deliver(setup.outgoing) if setup.outgoing is not None else None
        return Offer(shown=setup.shown, begun=begun)

    def pending_app(self, session_token: str) -> Mapping[str, Any]:
        """What was shown of an authenticator app that is not confirmed yet, once more. Raises `NotAllowedNow`."""
        with self.changes.looking(session_token) as (tx, live):
            return self.app.pending(self._case(tx, live, session_token)).shown

    def confirm(
        self, session_token: str, method: Method, code: str, request: str, *, with_codes: bool = False
    ) -> tuple[str, ...]:
        """From now on the method counts. Raises Rejected(CODE_WRONG) when the code is wrong.

        An app takes the place of an older one, so the account's other sessions end. `with_codes`: make recovery codes
        if the account has none, and return them; they are to be shown, once.
        """
        if not isinstance(self.methods.get(method), Confirms):
            raise _not_offered()
        with self.changes.permitted(session_token, f"set up {method}", request) as (tx, live):
            case, found = self._case(tx, live, session_token), self._confirming(tx, live, method)
            if not throttle.allow(tx, throttle.CODES, str(live.account.id), case.now):
                raise TooMany(seconds=throttle.wait(throttle.CODES, case.now))
            problem = found.confirm(case, code)
            detail: dict[str, Any] = {"detail": problem} if problem else {}
            if method is Method.TOTP and not problem:
                detail["sessions_ended"] = sessions.end_others(tx, live, case.now)
            made = first_set(tx, case.account, case.now) if with_codes and not problem else ()
            event = "method-refused" if problem else "method-added"
            self.changes.record(tx, event, live, request, method=str(method), **detail)
        if problem:
            raise wrong_code()
        self.notices.added(live.account, method)
        return made

    def remove_app(self, session_token: str, request: str, *, confirmed: bool) -> None:
        """Raises `NotFound`, `LastFactor`. The account's other sessions end."""
        with self.changes.permitted(session_token, "remove an app", request) as (tx, live):
            if not accounts.remove_totp(tx, live.account.id):
                raise NotFound("There is no app.", next_step="See the list of your methods.")
            self._removed(tx, live, Method.TOTP, request, confirmed=confirmed)
        self.notices.removed(live.account, Method.TOTP)

    def remove_phone(self, session_token: str, phone_id: int, request: str, *, confirmed: bool) -> None:
        """As `remove_app`."""
        with self.changes.permitted(session_token, "remove a number", request) as (tx, live):
            if phones.get(tx, phone_id, live.account.id) is None:
                raise NotFound("There is no such number.", next_step="See the list of your methods.")
            phones.remove(tx, phone_id)
            self._removed(tx, live, Method.SMS, request, confirmed=confirmed)
        self.notices.removed(live.account, Method.SMS)

    def remove_phone_app(self, session_token: str, phone_app_id: int, request: str, *, confirmed: bool) -> None:
        """As `remove_app`."""
        with self.changes.permitted(session_token, "remove a phone app", request) as (tx, live):
            if phone_apps.get(tx, phone_app_id, live.account.id) is None:
                raise NotFound("There is no such phone.", next_step="See the list of your phones.")
            phone_apps.remove(tx, phone_app_id)
            self._removed(tx, live, Method.NUMBER_MATCH, request, confirmed=confirmed)
        self.notices.removed(live.account, Method.NUMBER_MATCH)

    def set_way(self, session_token: str, phone_id: int, method: Method, request: str, *, on: bool) -> None:
        """Whether a number gets WhatsApp messages before text messages, or voice calls. Text messages stay."""
        with self.changes.permitted(session_token, "change a number", request) as (tx, live):
            row = phones.get(tx, phone_id, live.account.id)
            if row is None or row.confirmed_at is None:
                raise NotFound("There is no such number.", next_step="See the list of your methods.")
            if method not in self.methods or not row.text:
                raise NotAllowedNow("This number has one way only.", next_step="Remove the number instead.")
            phones.set_way(tx, phone_id, method, on=on)
            self.changes.record(tx, "method-changed", live, request, method=str(method), on=on)
        self.notices.switched(live.account, method, on=on)

    def _removed(self, tx: Session, live: Live, method: Method, request: str, *, confirmed: bool) -> None:
        tx.expire_all()
        if not accounts.enrolled(tx, live.account.id) & CORE and not confirmed:
            raise LastFactor
        ended = sessions.end_others(tx, live, self.changes.clock())
        self.changes.record(tx, "method-removed", live, request, method=str(method), sessions_ended=ended)

    def _confirming(self, tx: Session, live: Live, method: Method) -> Confirms:
        found = self.methods.get(sent_codes.really_sent(tx, setup_ref(live.account.id), method))
        if not isinstance(found, Confirms):
            raise _not_offered()
        return found

    def _case(self, tx: Session, live: Live, session_token: str) -> Case:
        ref = keys.hash_token(session_token)
        return Case(tx=tx, now=self.changes.clock(), account=live.account.id, ref=ref)


def wrong_code() -> Rejected:
    """Who sets something up may type it again."""
    error = Rejected(RejectReason.CODE_WRONG, "The code is wrong, or it is too old.")
    error.retry, error.hint = Retry.AGAIN, "Type the newest code with care, or begin again."
    return error


def _told(row: PhoneApp) -> dict[str, Any]:
    used = row.used_at.isoformat() if row.used_at is not None else None
    return {"id": row.id, "name": row.name, "device": row.device, "used_at": used}


def _not_offered() -> NotAllowedNow:
    return NotAllowedNow("This server does not offer that method here.", next_step="Choose another one.")


class MethodDesk:
    """`sending` is the pool of the services that send messages."""

    def __init__(self, setup: MethodSetup, sending: ThreadPoolExecutor) -> None:
        self.setup = setup
        self._sending = sending

    async def listed(self, session_token: str) -> dict[str, Any]:
        return await asyncio.to_thread(self.setup.listed, session_token)

    async def enrol(self, session_token: str, method: Method, given: str, request: str) -> Offer:
        run = asyncio.get_running_loop().run_in_executor
        return await run(self._sending, self.setup.enrol, session_token, method, given, request)

    async def pending_app(self, session_token: str) -> Mapping[str, Any]:
        return await asyncio.to_thread(self.setup.pending_app, session_token)

    async def confirm(
        self, session_token: str, method: Method, code: str, request: str, *, with_codes: bool = False
    ) -> tuple[str, ...]:
        confirm = self.setup.confirm
        return await asyncio.to_thread(confirm, session_token, method, code, request, with_codes=with_codes)

    async def remove_app(self, session_token: str, request: str, *, confirmed: bool) -> None:
        await asyncio.to_thread(self.setup.remove_app, session_token, request, confirmed=confirmed)

    async def remove_phone(self, session_token: str, phone_id: int, request: str, *, confirmed: bool) -> None:
        await asyncio.to_thread(self.setup.remove_phone, session_token, phone_id, request, confirmed=confirmed)

    async def remove_phone_app(self, session_token: str, phone_app_id: int, request: str, *, confirmed: bool) -> None:
        remove = self.setup.remove_phone_app
        await asyncio.to_thread(remove, session_token, phone_app_id, request, confirmed=confirmed)

    async def set_way(self, session_token: str, phone_id: int, method: Method, request: str, *, on: bool) -> None:
        await asyncio.to_thread(self.setup.set_way, session_token, phone_id, method, request, on=on)
