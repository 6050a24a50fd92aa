"""The door's port on loopback: opened if it can be, and only for connections of this user's own programs."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from functools import lru_cache
from typing import Any, Final

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

from tokenbridge.daemon import tcp_peer
from tokenbridge.daemon.door import LOOPBACK
from tokenbridge.log import get

HEAD_SECONDS: Final = 5.0
"""For a request's head to arrive."""
MAX_HEAD: Final = 8192
MOST_CONNECTIONS: Final = 32
BACKLOG: Final = 16
STOP_SECONDS: Final = 2.0

_log = get("door")


class OwnUserProtocol(H11Protocol):
    """HTTP for this user's own programs: any other user of the machine reaches the port, and is hung up on.

    Whose a connection is must be known; in doubt it is refused. What is no HTTP gets no answer.
    """

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn itself does
        super().connection_made(transport)
        uid = tcp_peer.owner(transport.get_extra_info("socket"))
        if uid != os.getuid() or len(self.connections) > MOST_CONNECTIONS:
            _tell_once(uid)
            transport.abort()
            return
        self.loop.call_later(HEAD_SECONDS, self._give_up)

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002  uvicorn's signature
        self.transport.abort()

    def _give_up(self) -> None:
        if self.cycle is None:
            self.transport.abort()  # type: ignore[unreachable]  # until a request has come, whatever the type says


@lru_cache(maxsize=64)
def _tell_once(uid: int | None) -> None:
    """Others must not be able to fill the log."""
    _log.warning("a connection was refused (user %s)", "unknown" if uid is None else uid)


class DoorListener:
    """`port` None: no door is wanted. `open` may be tried again as often as one likes."""

    def __init__(self, app: ASGIApp, port: int | None) -> None:
        self.port = port
        self._why = ""
        self._server: asyncio.Server | None = None
        self._opening = asyncio.Lock()
        self._state = ServerState()
        self._config = uvicorn.Config(
            app, http=OwnUserProtocol, ws="none", lifespan="off", log_config=None, access_log=False,
            server_header=False, date_header=False, h11_max_incomplete_event_size=MAX_HEAD,
        )  # fmt: skip

    @property
    def view(self) -> dict[str, Any]:
        """For the status: `state` is `off`, `open` or `shut`, and `why` it is shut."""
        if self.port is None:
            return {"state": "off"}
        state = "open" if self._server is not None else "shut"
        return {"state": state, "address": f"{LOOPBACK}:{self.port}", "why": self._why}

    async def open(self) -> None:
        """Never raises: without its door the bridge is still good for everything else."""
        async with self._opening:
            if self.port is not None and self._server is None:
                await self._open(self.port)

    async def _open(self, port: int) -> None:
        try:
            listening = socket.create_server((LOOPBACK, port), backlog=BACKLOG)
        except OSError as err:
            taken = err.errno == errno.EADDRINUSE
            self._why = "another program, or another user's bridge, has the port" if taken else str(err.strerror)
            _log.error("the door stays shut, %s:%d: %s", LOOPBACK, port, self._why)
            return
        self._config.load()
        self._server = await asyncio.get_running_loop().create_server(self._protocol, sock=listening, backlog=BACKLOG)
        self._why = ""
        _log.info("the door is open at %s:%d", LOOPBACK, port)

    async def close(self) -> None:
        """Refuse what comes, let what runs end."""
        server, self._server = self._server, None
        if server is None:
            return
        server.close()
        for connection in list(self._state.connections):
            connection.shutdown()
        if self._state.tasks:
            await asyncio.wait(list(self._state.tasks), timeout=STOP_SECONDS)

    def _protocol(self) -> OwnUserProtocol:
        return OwnUserProtocol(self._config, self._state, {})
