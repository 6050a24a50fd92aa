"""Changing one's own password. The slow hashing leaves the event loop by the pool that is given; the rest blocks."""

from __future__ import annotations

import asyncio
from concurrent.futures import Executor
from dataclasses import dataclass

from tokenbridge.errors import BadRequest, Rejected, RejectReason, Retry, TooMany
from tokenbridge.server import passwords
from tokenbridge.server.changes import Changes
from tokenbridge.server.notices import Notices
from tokenbridge.server.store import enrolment, sessions, throttle


@dataclass(frozen=True, slots=True, kw_only=True)
class PasswordChange:
    """Asks for the present password, which counts as an attempt to sign in."""

    changes: Changes
    hashing: Executor
    notices: Notices

    async def change(self, session_token: str, current: str, new: str, request: str) -> int:
        """Change the password, end the account's other sessions and return how many there were.

        Raises `NoSession`, `StepUp`, `TooMany`, `BadRequest` for a new one that is unfit, and
        Rejected(CREDENTIALS_WRONG) for a present one that is wrong.
        """
        loop = asyncio.get_running_loop()
        encoded = await asyncio.to_thread(self._counted, session_token, request)
        good = await loop.run_in_executor(self.hashing, passwords.verify, encoded, current)
        if not good:
            await asyncio.to_thread(self._refused, session_token, request)
        if new == current:
            raise BadRequest("The new password is the old one.", next_step="Choose another one.")
        made = await loop.run_in_executor(self.hashing, passwords.hash_password, new)
        return await asyncio.to_thread(self._store, session_token, encoded, made, request)

    def _counted(self, session_token: str, request: str) -> str | None:
        with self.changes.permitted(session_token, "change the password", request) as (tx, live):
            now = self.changes.clock()
            if not throttle.allow(tx, throttle.PASSWORDS, live.account.username, now):
                raise TooMany(seconds=throttle.wait(throttle.PASSWORDS, now))
            return live.account.password_hash

    def _refused(self, session_token: str, request: str) -> None:
        with self.changes.database.write() as tx:
            live = self.changes.live(tx, session_token)
            self.changes.record(tx, "password-change-refused", live, request, detail="wrong password")
        wrong = Rejected(RejectReason.CREDENTIALS_WRONG, "The current password is wrong.")
        wrong.retry, wrong.hint = Retry.AGAIN, "Type the password that you signed in with."
        raise wrong

    def _store(self, session_token: str, seen: str | None, made: str, request: str) -> int:
        with self.changes.permitted(session_token, "change the password", request) as (tx, live):
            if live.account.password_hash != seen:
                raise Rejected(RejectReason.CREDENTIALS_WRONG, "The password was changed meanwhile.")
            live.account.password_hash = made
            enrolment.void(tx, live.account.id)
            ended = sessions.end_others(tx, live, self.changes.clock())
            self.changes.record(tx, "password-changed", live, request, sessions_ended=ended)
        self.notices.password_changed(live.account)
        return ended
