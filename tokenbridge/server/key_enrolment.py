"""Registering a key: who may, what the key is asked for, and the key that comes of it. It blocks."""

from __future__ import annotations

import datetime as dt
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy.orm import Session

from tokenbridge.errors import (
    BadRequest,
    NoSession,
    NotAllowedNow,
    Rejected,
    RejectReason,
    RequestRefused,
)
from tokenbridge.rp.key_models import Make, Need
from tokenbridge.rp.key_options import User, creation_options
from tokenbridge.rp.key_registration import NewKey, Registration, verify_registration
from tokenbridge.rp.refusals import refusal
from tokenbridge.rp.webauthn import Expectation, to_base64url
from tokenbridge.server import keys
from tokenbridge.server.changes import MAX_DETAIL, Changes
from tokenbridge.server.enrolment_gate import EnrolmentGate
from tokenbridge.server.key_book import KeyModelBook
from tokenbridge.server.key_sign_in import KeySite
from tokenbridge.server.ledger import MAX_TOKEN, Ledger
from tokenbridge.server.methods.recovery import first_set
from tokenbridge.server.step_up import Bar
from tokenbridge.server.store import accounts, audit, enrolment, security_keys, sessions
from tokenbridge.server.store.enrolment import Running
from tokenbridge.server.store.key_schema import SecurityKey
from tokenbridge.server.store.schema import Account

CHALLENGE_BYTES: Final = 32
HANDLE_BYTES: Final = 64  # WebAuthn Level 3 section 14.6.1
MAX_NAME: Final = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Begun:
    """A registration that may go on. `token` is shown once."""

    token: str
    username: str
    display_name: str
    options: dict[str, Any]
    expires_at: dt.datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Enrolled:
    """A key that was registered, and whose; `recovery_codes` when they were made with it, to be shown once."""

    row: SecurityKey
    account: Account
    recovery_codes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyEnrolment:
    """Two halves around what the key does. The challenge is spent before the key's answer is looked at."""

    changes: Changes
    models: KeyModelBook
    ledger: Ledger
    origin: str
    at: KeySite

    def begin_signed_in(self, session_token: str, request: str) -> Begun:
        """Raises `NoSession` or `StepUp`."""
        with self.changes.permitted(session_token, "register a key", request) as (tx, live):
            return self._begin(tx, live.account, keys.new_token(), live.id)

    def begin_with_code(self, username: str, code: str, request: str) -> Begun:
        """Raises Rejected(ENROLMENT_CODE_WRONG), for unknown names as well, or `TooMany`."""
        gate = EnrolmentGate(changes=self.changes, ledger=self.ledger)
        token = keys.new_token()
        with gate.by_code(username, code, token, request) as (tx, account):
            return self._begin(tx, account, token, None)

    def complete(self, token: str, raw: Mapping[str, Any], name: str | None, request: str) -> Enrolled:
        """Raises `Rejected`, `NoSession`, `StepUp`; it is over then, and an enrolment code may be used again."""
        asked = clean_name(name) if name is not None else ""
        running = self._take(token)
        try:
            new = verify_registration(Registration.parse(raw), self._expectation(running))
            standing = self.models.current().judge(
                Make(aaguid=new.aaguid, path=new.statement.path, at=self.changes.clock()), self.changes.clock()
            )
            return self._store(running, new, asked or standing.name[:MAX_NAME] or "Security key", request)
        except (Rejected, RequestRefused) as err:
            self._refused(running, err, request)
            raise

    def cancel(self, token: str) -> None:
        """Give a registration up; one that is over is as good."""
        with self.changes.database.write_shared() as tx:
            enrolment.take(tx, keys.hash_token(token[:MAX_TOKEN]))

    def _begin(self, tx: Session, account: Account, token: str, session_id: int | None) -> Begun:
        now, challenge = self.changes.clock(), secrets.token_bytes(CHALLENGE_BYTES)
        registered = security_keys.offered(tx, account.id)
        if len(registered) >= security_keys.MOST_KEYS:
            raise NotAllowedNow(
                f"This account has {security_keys.MOST_KEYS} keys already.", next_step="Remove one of them first."
            )
        handle = security_keys.handle(tx, account.id, secrets.token_bytes(HANDLE_BYTES))
        running = Running(
            token_hash=keys.hash_token(token),
            account_id=account.id,
            session_id=session_id,
            challenge=to_base64url(challenge),
            expires_at=now + dt.timedelta(seconds=self.at.seconds),
        )
        enrolment.begin(tx, running, now)
        user = User(handle=handle, name=account.username, display_name=account.display_name)
        policy, seconds = self.models.policy, self.at.seconds
        return Begun(
            token=token,
            username=account.username,
            display_name=account.display_name,
            options=creation_options(self.at.site, user, challenge, registered, policy, seconds=seconds),
            expires_at=running.expires_at,
        )

    def _take(self, token: str) -> Running:
        with self.changes.database.write_shared() as tx:
            running = enrolment.take(tx, keys.hash_token(token)) if len(token) <= MAX_TOKEN else None
        if running is None:
            raise Rejected(RejectReason.CHALLENGE_UNKNOWN, "There is no such registration.")
        if running.expires_at <= self.changes.clock():
            raise Rejected(RejectReason.CHALLENGE_EXPIRED, "The registration took too long.")
        return running

    def _expectation(self, running: Running) -> Expectation:
        return Expectation(
            challenge=running.challenge,
            origin=self.origin,
            rp_id=self.at.site.rp_id,
            user_verification=self.models.policy.user_verification is Need.REQUIRED,
        )

    def _store(self, running: Running, new: NewKey, name: str, request: str) -> Enrolled:
        now, bar = self.changes.clock(), self.changes.rule.current()
        with self.changes.database.write() as tx:
            account = accounts.by_id(tx, running.account_id)
            if account is None or account.disabled:
                raise NotAllowedNow("The account was removed or disabled meanwhile.")
            self._check_still_permitted(tx, running, bar, now)
            row = security_keys.add(tx, account.id, new, name, now)
            made = first_set(tx, account.id, now)
            by = "session" if running.session_id is not None else "enrolment code"
            detail = {"key": row.id, "name": name, "aaguid": new.aaguid.hex(), "attestation": row.attestation, "by": by}
            self._record(tx, "key-registered", account.username, request, detail)
        return Enrolled(row=row, account=account, recovery_codes=made)

    def _check_still_permitted(self, tx: Session, running: Running, bar: Bar, now: dt.datetime) -> None:
        """Another key, a card or another code may have come in between; the session may be a few minutes older."""
        if running.session_id is not None:
            live = sessions.by_id(tx, running.session_id, now)
            if live is None:
                raise NoSession
            if (weak := bar.weakness(tx, live, now)) is not None:
                raise weak
        elif not enrolment.consume(tx, running.account_id, running.token_hash, now):
            raise refusal(RejectReason.ENROLMENT_CODE_WRONG, "void, used, or begun again elsewhere")

    def _refused(self, running: Running, err: Rejected | RequestRefused, request: str) -> None:
        with self.changes.database.write_shared() as tx:
            account = accounts.by_id(tx, running.account_id)
            why = err.reason if isinstance(err, Rejected) else err.code
            detail = {"detail": f"{why}: {err.detail or err.message}"[:MAX_DETAIL]}
            self._record(tx, "key-refused", account.username if account is not None else "", request, detail)

    def _record(self, tx: Session, event: str, account: str, request: str, detail: dict[str, Any]) -> None:
        what = audit.Event(event=event, account=account, request=request, detail=detail)
        self.changes.append(tx, what)


def clean_name(name: str) -> str:
    """What a person calls a key or a password of theirs. Raises `BadRequest`."""
    found = " ".join(name.split())[:MAX_NAME] if name.isprintable() else ""
    if not found:
        raise BadRequest("That can't be a name.", next_step=f"Use 1 to {MAX_NAME} printable characters.")
    return found
