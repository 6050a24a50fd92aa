"""Setting up and removing an authenticator app. It blocks.

A secret that is being set up is not stored: the page carries it, encrypted by the key file and bound to the account,
so that every server process can go on with it, and nothing is left of set-ups that were given up.
"""

from __future__ import annotations

import datetime as dt
import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy.orm import Session

from tokenbridge import log
from tokenbridge.errors import (
    BadRequest,
    LastFactor,
    NotAllowedNow,
    NotFound,
    Rejected,
    RejectReason,
    Retry,
    SetupError,
)
from tokenbridge.rp.proof import Method
from tokenbridge.rp.refusals import refusal
from tokenbridge.server import codes, keys, totp
from tokenbridge.server.changes import Changes
from tokenbridge.server.enrolment_gate import EnrolmentGate
from tokenbridge.server.store import accounts, audit, enrolment, recovery, sessions
from tokenbridge.server.store.schema import Account

LIVES: Final = dt.timedelta(minutes=30)
"""People have to find, install and open an app meanwhile."""
MAX_SEALED: Final = 1024

_CONTEXT: Final = "authenticator set-up"


@dataclass(frozen=True, slots=True, kw_only=True)
class SetUp:
    """A secret to be scanned. `sealed` goes to the page and comes back with the code."""

    secret: str
    uri: str
    sealed: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AuthenticatorEnrolment:
    """Two halves around what the person does with the app."""

    changes: Changes
    gate: EnrolmentGate
    issuer: str

    def begin(self, session_token: str, request: str) -> SetUp:
        """Raises `NoSession` or `StepUp`."""
        with self.changes.permitted(session_token, "set up an authenticator app", request) as (_, live):
            return self._new(live.account, "")

    def resume(self, sealed: str) -> SetUp:
        """The same set-up again, after a mistyped code. Raises `NotAllowedNow` when it took too long."""
        opened = self._open(sealed)
        uri = totp.uri(opened["secret"], username=opened["username"], issuer=self.issuer)
        return SetUp(secret=opened["secret"], uri=uri, sealed=sealed)

    def complete(self, session_token: str, sealed: str, code: str, request: str) -> tuple[str, ...]:
        """Store the secret if `code` is right; an older app stops working, and the account's other sessions end.

        Returns new recovery codes where the account had none. Raises `NoSession`, `StepUp`, Rejected(CODE_WRONG) or
        `NotAllowedNow`.
        """
        opened = self._open(sealed)
        with self.changes.permitted(session_token, "set up an authenticator app", request) as (tx, live):
            self._check_owner(opened, live.account.id, by_code=False)
            made = self._store(tx, live.account, opened, code)
            ended = sessions.end_others(tx, live, self.changes.clock())
            self.changes.record(tx, "totp-set", live, request, by="session", sessions_ended=ended)
        return made

    def begin_with_code(self, username: str, code: str, request: str) -> SetUp:
        """As `begin`, with an enrolment code. Raises Rejected(ENROLMENT_CODE_WRONG) or `TooMany`."""
        token = keys.new_token()
        with self.gate.by_code(username, code, token, request) as (_, account):
            return self._new(account, token)

    def complete_with_code(self, sealed: str, code: str, request: str) -> tuple[str, ...]:
        """As `complete`, which uses the enrolment code up."""
        opened, now = self._open(sealed), self.changes.clock()
        with self.changes.database.write() as tx:
            account = accounts.by_id(tx, opened["account"])
            if account is None or account.disabled:
                raise NotAllowedNow("The account was removed or disabled meanwhile.")
            self._check_owner(opened, account.id, by_code=True)
            made = self._store(tx, account, opened, code)
            if not enrolment.consume(tx, account.id, keys.hash_token(opened["token"]), now):
                raise refusal(RejectReason.ENROLMENT_CODE_WRONG, "void, used, or begun again elsewhere")
            sessions.end_all(tx, account.id, now)
            event = audit.Event(
                event="totp-set", account=account.username, request=request, detail={"by": "enrolment code"}
            )
            entry = audit.append(tx, now, event, self.changes.keys.ring())
        log.audit().info(json.dumps(entry.as_dict()))
        return made

    def remove(self, session_token: str, request: str, *, confirmed: bool) -> None:
        """The last factor beside the password goes only when `confirmed`. The account's other sessions end.

        Raises `NoSession`, `StepUp`, `NotFound` or `LastFactor`.
        """
        with self.changes.permitted(session_token, "remove the authenticator app", request) as (tx, live):
            if not accounts.remove_totp(tx, live.account.id):
                raise NotFound("There is no authenticator app on this account.", next_step="See your methods.")
            if not accounts.enrolled(tx, live.account.id) - {Method.RECOVERY} and not confirmed:
                raise LastFactor
            ended = sessions.end_others(tx, live, self.changes.clock())
            self.changes.record(tx, "totp-removed", live, request, sessions_ended=ended)

    def _new(self, account: Account, token: str) -> SetUp:
        secret = totp.new_secret()
        until = int((self.changes.clock() + LIVES).timestamp())
        content = {
            "secret": secret,
            "account": account.id,
            "username": account.username,
            "token": token,
            "until": until,
        }
        sealed = self.changes.keys.ring().encrypt(json.dumps(content).encode(), context=_CONTEXT)
        uri = totp.uri(secret, username=account.username, issuer=self.issuer)
        return SetUp(secret=secret, uri=uri, sealed=urlsafe_b64encode(sealed).decode("ascii"))

    def _open(self, sealed: str) -> dict[str, Any]:
        try:
            raw = urlsafe_b64decode(sealed[:MAX_SEALED].encode("ascii"))
            content: dict[str, Any] = json.loads(self.changes.keys.ring().decrypt(raw, context=_CONTEXT))
        except (SetupError, ValueError) as err:
            raise BadRequest("That is no set-up of this server.", next_step="Start the set-up again.") from err
        if content["until"] < self.changes.clock().timestamp():
            raise NotAllowedNow("The set-up took too long.", next_step="Start the set-up again.")
        return content

    def _check_owner(self, opened: dict[str, Any], account: int, *, by_code: bool) -> None:
        if opened["account"] != account or bool(opened["token"]) != by_code:
            raise BadRequest("That set-up belongs to somebody else.", next_step="Start the set-up again.")

    def _store(self, tx: Session, account: Account, opened: dict[str, Any], code: str) -> tuple[str, ...]:
        now = self.changes.clock()
        step = totp.step_of(opened["secret"], code, now)
        if step is None:
            wrong = Rejected(RejectReason.CODE_WRONG, "The code is wrong.")
            wrong.retry, wrong.hint = Retry.AGAIN, "Type the six digits that the app shows for this account now."
            raise wrong
        sealed = self.changes.keys.ring().encrypt(opened["secret"].encode(), context=totp.context(account.id))
        accounts.set_totp(tx, account.id, sealed, now)
        tx.flush()
        accounts.spend_step(tx, account.id, step)
        if recovery.left(tx, account.id):
            return ()
        made = codes.new_set()
        recovery.replace(tx, account.id, (codes.hash_code(each, account=account.id) for each in made), now)
        return made
