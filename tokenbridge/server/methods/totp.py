"""Codes of authenticator apps (RFC 6238) as a fallback method."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import Final

from sqlalchemy import delete, update

from tokenbridge.errors import BadRequest, NotAllowedNow
from tokenbridge.server import totp
from tokenbridge.server.keys import KeyBook
from tokenbridge.server.methods.base import Case, Setup
from tokenbridge.server.store import accounts
from tokenbridge.server.store.method_schema import PendingApp

CONFIRM_WITHIN: Final = dt.timedelta(minutes=30)
"""People have to find, install and open an app meanwhile."""
MOST_TRIES: Final = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class TotpMethod:
    keys: KeyBook
    issuer: str

    def enrol(self, case: Case, given: str) -> Setup:
        """`given` is the algorithm. The app that is enrolled stays in force until the new one is confirmed."""
        algorithm = given or "sha1"
        if algorithm not in totp.DIGESTS:
            raise BadRequest("That algorithm is not known.", next_step=f"Known are: {', '.join(totp.DIGESTS)}.")
        secret = totp.new_secret()
        row = PendingApp(
            account_id=case.account,
            secret=self.keys.ring().encrypt(secret.encode(), context=totp.context(case.account)),
            algorithm=algorithm,
            begun_by=case.ref,
            tries=0,
            expires_at=case.now + CONFIRM_WITHIN,
        )
        case.tx.merge(row)
        return self._shown(case, row, secret)

    def pending(self, case: Case) -> Setup:
        """What `enrol` showed, once more, for as long as it can be confirmed. Raises `NotAllowedNow`."""
        row = case.tx.get(PendingApp, case.account)
        if row is None or row.begun_by != case.ref or row.tries >= MOST_TRIES or row.expires_at <= case.now:
            raise _nothing_to_confirm()
        return self._shown(case, row, self._secret(case, row.secret))

    def confirm(self, case: Case, code: str) -> str:
        """Raises `NotAllowedNow` when nothing awaits it: after five tries, or too late."""
        mine = (PendingApp.account_id == case.account, PendingApp.begun_by == case.ref)
        fits = (*mine, PendingApp.tries < MOST_TRIES, PendingApp.expires_at > case.now)
        count = update(PendingApp).where(*fits).values(tries=PendingApp.tries + 1)
        if case.tx.connection().execute(count).rowcount != 1:
            raise _nothing_to_confirm()
        row = case.tx.get_one(PendingApp, case.account, populate_existing=True)
        step = totp.step_of(self._secret(case, row.secret), code, case.now, row.algorithm)
        if step is None:
            return "wrong code"
        if case.tx.connection().execute(delete(PendingApp).where(*mine)).rowcount != 1:
            raise _nothing_to_confirm()
        accounts.set_totp(case.tx, case.account, row.secret, case.now, row.algorithm)
        case.tx.flush()
        accounts.spend_step(case.tx, case.account, step)
        return ""

    def check(self, case: Case, code: str) -> str:
        row = accounts.totp(case.tx, case.account)
        if row is None:
            return "no app enrolled"
        step = totp.step_of(self._secret(case, row.secret), code, case.now, row.algorithm)
        if step is None:
            return "wrong code"
        return "" if accounts.spend_step(case.tx, case.account, step) else "code used before"

    def _shown(self, case: Case, row: PendingApp, secret: str) -> Setup:
        account = accounts.by_id(case.tx, case.account)
        if account is None:
            raise NotAllowedNow("The account was removed meanwhile.")
        uri = totp.uri(secret, username=account.username, issuer=self.issuer, algorithm=row.algorithm)
        return Setup(shown={"secret": secret, "uri": uri, "expires_at": row.expires_at.isoformat()})

    def _secret(self, case: Case, sealed: bytes) -> str:
        return self.keys.ring().decrypt(sealed, context=totp.context(case.account)).decode()


def _nothing_to_confirm() -> NotAllowedNow:
    return NotAllowedNow(
        "There is no app to confirm: it took too long, or was tried too often.", next_step="Begin again."
    )
