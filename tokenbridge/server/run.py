"""Runs the server: listens, says that it is ready, stops gracefully. What is served is put together in `app`."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable
from typing import Final

import uvicorn

from tokenbridge.errors import SetupError
from tokenbridge.server import app, keys, policy_book, tls
from tokenbridge.server.connections import guarded
from tokenbridge.server.settings import Settings, changed, is_loopback
from tokenbridge.server.store.database import Database
from tokenbridge.server.store.upgrade import upgrade
from tokenbridge.server.workers import Workers

GRACE_SECONDS: Final = 10
KEEP_ALIVE_SECONDS: Final = 15
BACKLOG: Final = 256
ACCEPT_AT_ONCE: Final = 2
"""Of several processes on one socket none takes all that wait: who wakes up first would have all of them."""
HANG_UP_SECONDS: Final = 0.2


def run(settings: Settings, ready: Callable[[str], None]) -> None:
    """Serve until SIGINT or SIGTERM; `ready` gets the local address once the socket accepts. Raises `SetupError`."""
    server, listener = assemble(settings, ready)
    if settings.workers == 1:
        server.run(sockets=[listener])
        return

    def serve(*, ready: Callable[[], None], lifeline: int) -> None:
        server.serve_as_child(listener, ready, lifeline)

    with listener:
        Workers(count=settings.workers, work=serve).run(lambda: ready(server.address))


def assemble(settings: Settings, ready: Callable[[str], None]) -> tuple[Server, socket.socket]:
    """A server and the socket that it is to serve; see `run`. No thread runs and no connection is open after it."""
    keys.load(settings.key_file)  # says what to do when there was no `init`
    policy_book.read(settings.policy_file)
    database = Database(settings.database_url)
    try:
        upgrade(database)
    finally:
        database.close()
    listener = _listen(settings)
    # With port 0 the system has chosen one, and the origin follows it unless it was set.
    settings = changed(settings, port=listener.getsockname()[1])
    files = tls.prepare(settings, app.utc_now())
    application = app.build(settings)
    config = uvicorn.Config(
        application,
        http=guarded(),
        ws="none",
        ssl_certfile=files.certificate if files else None,
        ssl_keyfile=files.key if files else None,
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        lifespan="on",
        backlog=BACKLOG if settings.workers == 1 else ACCEPT_AT_ONCE,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=GRACE_SECONDS,
    )
    config.load()
    if config.ssl is not None:
        config.ssl.minimum_version = ssl.TLSVersion.TLSv1_2  # whatever the machine's OpenSSL settings say
    address = f"{settings.scheme}://{_host(settings)}:{settings.port}"
    return Server(config, application.state.database, address, ready), listener


class Server(uvicorn.Server):
    """Uvicorn that tells when it listens, and does not wait for idle clients when it stops."""

    def __init__(self, config: uvicorn.Config, database: Database, address: str, ready: Callable[[str], None]) -> None:
        super().__init__(config)
        self.address = address
        self._database = database
        self._ready: Callable[[], None] = lambda: ready(address)
        self._lifeline: int | None = None

    def serve_as_child(self, listener: socket.socket, ready: Callable[[], None], lifeline: int) -> None:
        """As `run`, in a fork; it stops as well when `lifeline` ends, because the parent is gone."""
        self._database.forked()
        self._ready, self._lifeline = ready, lifeline
        self.run(sockets=[listener])

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets=sockets)
        for listener in sockets or ():
            listener.listen(BACKLOG)  # asyncio has set it to how many it accepts at once
        if self._lifeline is not None:
            asyncio.get_running_loop().add_reader(self._lifeline, self._orphaned, self._lifeline)
        if self.started:
            self._ready()

    def _orphaned(self, lifeline: int) -> None:
        asyncio.get_running_loop().remove_reader(lifeline)
        self.should_exit = True

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        hang_up = asyncio.create_task(self._hang_up())
        try:
            await super().shutdown(sockets=sockets)
        finally:
            hang_up.cancel()

    async def _hang_up(self) -> None:
        """Cut connections on which nothing is left to say: a TLS client that is idle does not answer a goodbye."""
        while self.server_state.connections:
            await asyncio.sleep(HANG_UP_SECONDS)
            if not self.server_state.tasks:
                for connection in tuple(self.server_state.connections):
                    transport = getattr(connection, "transport", None)
                    if transport is not None and transport.get_write_buffer_size() == 0:
                        transport.abort()


def _listen(settings: Settings) -> socket.socket:
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    # The protocol is named because asyncio sets TCP_NODELAY only on sockets that say they are TCP; without it every
    # answer waits 40 ms for the client's delayed acknowledgement.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((settings.host, settings.port))
        listener.listen(BACKLOG)
    except (OSError, OverflowError) as err:
        listener.close()
        raise SetupError(
            f"{settings.host} port {settings.port} can't be listened on: {err}.",
            next_step="Stop the program that has the port, or set another port.",
        ) from err
    return listener


def _host(settings: Settings) -> str:
    """The name under which this machine reaches the server."""
    return "localhost" if is_loopback(settings.host) else settings.host
