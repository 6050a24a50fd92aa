"""Codes of authenticator apps (RFC 6238) as a fallback method."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import Final

from sqlalchemy import update

from tokenbridge.errors import BadRequest, NotAllowedNow
from tokenbridge.server import totp
from tokenbridge.server.keys import KeyBook
from tokenbridge.server.methods.base import Case, Setup
from tokenbridge.server.store import accounts
from tokenbridge.server.store.method_schema import PendingApp

CONFIRM_WITHIN: Final = dt.timedelta(minutes=15)
MOST_TRIES: Final = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class TotpMethod:
    keys: KeyBook
    issuer: str

    def enrol(self, case: Case, given: str) -> Setup:
        """`given` is the algorithm. The app that is enrolled stays in force until the new one is confirmed."""
        algorithm = given or "sha1"
        account = accounts.by_id(case.tx, case.account)
        if algorithm not in totp.DIGESTS or account is None:
            raise BadRequest("That algorithm is not known.", next_step=f"Known are: {', '.join(totp.DIGESTS)}.")
        secret = totp.new_secret()
        sealed = self.keys.ring().encrypt(secret.encode(), context=totp.context(case.account))
        row = PendingApp(
            account_id=case.account,
            secret=sealed,
            algorithm=algorithm,
            tries=0,
            expires_at=case.now + CONFIRM_WITHIN,
        )
        case.tx.merge(row)
        uri = totp.uri(secret, username=account.username, issuer=self.issuer, algorithm=algorithm)
        return Setup(shown={"secret": secret, "uri": uri, "expires_at": row.expires_at.isoformat()})

    def confirm(self, case: Case, code: str) -> str:
        fits = (PendingApp.account_id == case.account, PendingApp.tries < MOST_TRIES)
        count = update(PendingApp).where(*fits, PendingApp.expires_at > case.now)
        if case.tx.connection().execute(count.values(tries=PendingApp.tries + 1)).rowcount != 1:
            raise NotAllowedNow("There is no app to confirm, or it took too long.", next_step="Begin again.")
        row = case.tx.get_one(PendingApp, case.account)
        secret = self.keys.ring().decrypt(row.secret, context=totp.context(case.account))
        step = totp.step_of(secret.decode(), code, case.now, row.algorithm)
        if step is None:
            return "wrong code"
        accounts.set_totp(case.tx, case.account, row.secret, case.now, row.algorithm)
        case.tx.flush()
        accounts.spend_step(case.tx, case.account, step)
        case.tx.delete(row)
        return ""

    def check(self, case: Case, code: str) -> str:
        row = accounts.totp(case.tx, case.account)
        if row is None:
            return "no app enrolled"
        secret = self.keys.ring().decrypt(row.secret, context=totp.context(case.account)).decode()
        step = totp.step_of(secret, code, case.now, row.algorithm)
        if step is None:
            return "wrong code"
        return "" if accounts.spend_step(case.tx, case.account, step) else "code used before"
