"""HTTP connections that can't be held for nothing: their number is bounded, and so is the wait for a request."""

from __future__ import annotations

import asyncio
import resource
from typing import Final

from uvicorn.protocols.http.h11_impl import H11Protocol

HEADER_SECONDS: Final = 15.0
"""From the start of a connection, or from the first byte of a later request, to the end of the request's headers."""
MOST: Final = 1000
MANY_FILES: Final = 65_536
RESERVED_FILES: Final = 100
"""Descriptors for everything that is no client: database, revocation data, listeners."""


def guarded() -> type[asyncio.Protocol]:
    """The protocol to serve with, for as many clients at once as this process has room for."""

    class Bounded(Guarded):
        most = max(1, min(MOST, _files() - RESERVED_FILES))

    return Bounded


def _files() -> int:
    """How many files this process may open; the limit is raised as far as it may be, since TLS greetings count too."""
    soft, hard = (MANY_FILES if limit == resource.RLIM_INFINITY else limit
                  for limit in resource.getrlimit(resource.RLIMIT_NOFILE))  # fmt: skip
    wanted = min(MANY_FILES, hard)
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    return max(soft, wanted)


class Guarded(H11Protocol):
    """Uvicorn's protocol, which by itself waits for ever for a request that never comes or never ends."""

    most: int = MOST

    _deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Beyond `most` connections the newest is hung up on: those who were first are served."""
        assert isinstance(transport, asyncio.Transport)
        super().connection_made(transport)
        if len(self.connections) > self.most:
            transport.abort()
            return
        self._expect_request()

    def data_received(self, data: bytes) -> None:
        seen = self.cycle
        if self._deadline is None and (seen is None or seen.response_complete):
            self._expect_request()
        super().data_received(data)
        if self.cycle is not seen:
            self._no_deadline()

    def connection_lost(self, exc: Exception | None) -> None:
        self._no_deadline()
        super().connection_lost(exc)

    def _expect_request(self) -> None:
        self._deadline = self.loop.call_later(HEADER_SECONDS, self.transport.abort)

    def _no_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
