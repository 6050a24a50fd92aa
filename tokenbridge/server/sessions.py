"""Looks up and ends sessions for the API, off the event loop. It opens none: only a sign-in does."""

from __future__ import annotations

import asyncio

from tokenbridge.errors import NoSession
from tokenbridge.server import keys
from tokenbridge.server.keys import KeyBook
from tokenbridge.server.ledger import Clock
from tokenbridge.server.store import audit, sessions
from tokenbridge.server.store.database import Database


class SessionDesk:
    """Every method raises `NoSession` when the token is not that of a valid session."""

    def __init__(self, database: Database, book: KeyBook, clock: Clock) -> None:
        self._database = database
        self._keys = book
        self._clock = clock

    async def look(self, token: str) -> sessions.Live:
        """The session, whose idle limit is moved by this."""
        return await asyncio.to_thread(self._look, token)

    async def end(self, token: str, request: str) -> None:
        """Sign out."""
        await asyncio.to_thread(self._end, token, request)

    def _look(self, token: str) -> sessions.Live:
        now = self._clock()
        with self._database.read() as tx:
            live = sessions.find(tx, keys.hash_token(token), now)
        if live is None:
            raise NoSession
        if sessions.due(live, now):
            with self._database.write_shared() as tx:
                sessions.touch(tx, live, now)
        return live

    def _end(self, token: str, request: str) -> None:
        now = self._clock()
        with self._database.write_shared() as tx:
            live = sessions.find(tx, keys.hash_token(token), now)
            if live is None or not sessions.end(tx, live, now):
                raise NoSession
            event = audit.Event(
                event="signed-out",
                account=live.account.username,
                sign_in=live.sign_in_ref,
                request=request,
                detail={},
            )
            entry = audit.append(tx, now, event, self._keys.ring())
        audit.tell(entry)
