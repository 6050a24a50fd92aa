"""Composition root of the bridge: makes the parts, binds the socket, serves until told to stop."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import signal
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any, Final

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from tokenbridge import log
from tokenbridge.daemon import paths, settings
from tokenbridge.daemon.api import Services, make_app
from tokenbridge.daemon.devices import Devices
from tokenbridge.daemon.door import Door
from tokenbridge.daemon.door_listener import DoorListener
from tokenbridge.daemon.known_cards import KnownCards
from tokenbridge.daemon.runner import Bridge
from tokenbridge.daemon.settings import Settings
from tokenbridge.daemon.site import Sites
from tokenbridge.daemon.workstation import WorkstationNames
from tokenbridge.errors import AlreadyRunning, SetupError
from tokenbridge.transport.base import Trace
from tokenbridge.transport.key_monitor import KeyMonitor
from tokenbridge.transport.monitor import Monitor
from tokenbridge.transport.trace import TraceFile, log_traffic

LISTEN_FDS_START: Final = 3
"""First descriptor of systemd's socket activation (sd_listen_fds(3))."""
BACKLOG: Final = 64
STOP_SECONDS: Final = 3
SETTLE_SECONDS: Final = 2

_log = log.get("daemon")


class SameUserProtocol(H11Protocol):
    """HTTP for peers of this user only: others are hung up on, whatever the socket's file allows.

    The peer's program and process id, as the kernel reports them, become the request's client.
    """

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn itself does
        super().connection_made(transport)
        pid, uid = peer(transport.get_extra_info("socket"))
        if uid != os.getuid():
            _log.warning("user %d was refused", uid)
            transport.abort()
            return
        self.client = (program_name(pid), pid)


def peer(connection: Any) -> tuple[int, int]:
    """(process id, user id) of the other end of a Unix socket."""
    raw = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    pid, uid, _ = struct.unpack("3i", raw)
    return pid, uid


def program_name(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text("utf-8", "replace").strip()
    except OSError:
        return "a program"


class QuietServer(uvicorn.Server):
    """uvicorn without its ten wake-ups a second: it sleeps until it is told to stop."""

    def __init__(self, config: uvicorn.Config, services: Services, ready_fd: int | None) -> None:
        super().__init__(config)
        self._ready_fd = ready_fd
        self._stopping = services.stopping
        self._settled = services.bridge.devices.settled
        self._loop = asyncio.get_running_loop()

    async def main_loop(self) -> None:
        with contextlib.suppress(TimeoutError):  # ready means that the first question gets a true answer
            await asyncio.wait_for(self._settled.wait(), SETTLE_SECONDS)
        if self._ready_fd is not None:
            with contextlib.suppress(OSError):  # who started the bridge has lost patience: others may need it
                os.write(self._ready_fd, b"ready\n")
                os.close(self._ready_fd)
        await self._stopping.wait()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:  # noqa: ARG002  uvicorn's signature
        # Not uvicorn's own: it raises the signal again at the end, which would be before the rest has been tidied up.
        self.force_exit = self.should_exit and sig == signal.SIGINT
        self.should_exit = True
        self._loop.call_soon_threadsafe(self._stopping.set)


def run(*, ready_fd: int | None = None) -> None:
    """Serve until SIGTERM, SIGINT or a stop request. Raises `SetupError`, `AlreadyRunning`."""
    chosen = settings.load()
    log.configure(chosen.log_level)
    directory = paths.private_directory(paths.runtime_directory())
    with _single(directory), _listener(directory) as listener:
        asyncio.run(_serve(chosen, listener, ready_fd))


async def _serve(chosen: Settings, listener: socket.socket, ready_fd: int | None) -> None:
    state = paths.private_directory(paths.state_directory())
    trace: Trace = TraceFile(chosen.trace_file) if chosen.trace_file is not None else log_traffic
    devices = Devices(asyncio.get_running_loop(), chosen, trace)
    known = KnownCards(state / "cards.json" if chosen.remember_cards else None)
    sites = Sites(chosen.site_seconds, chosen.ca_file)
    stopping = asyncio.Event()
    names = WorkstationNames(state)
    bridge = Bridge(devices=devices, known=known)
    services = Services(settings=chosen, bridge=bridge, sites=sites, stopping=stopping, names=names)
    services.door = door = _door(services)
    config = uvicorn.Config(
        make_app(services), http=SameUserProtocol, ws="none", lifespan="off", log_config=None, access_log=False,
        server_header=False, date_header=False, timeout_graceful_shutdown=STOP_SECONDS,
    )  # fmt: skip
    server = QuietServer(config, services, ready_fd)
    monitor, key_monitor = Monitor(devices.sink), KeyMonitor(devices.sink, chosen.key_sockets)
    monitor.start()
    key_monitor.start()
    closing = asyncio.create_task(_close_streams(services))
    await door.open()
    try:
        _log.info("listening on %s", listener.getsockname())
        await server.serve(sockets=[listener])
    finally:
        stopping.set()
        await closing
        await door.close()
        await asyncio.to_thread(monitor.stop)
        await asyncio.to_thread(key_monitor.stop)
        await devices.stop()
        await sites.close()
        _log.info("stopped")


def _door(services: Services) -> DoorListener:
    chosen = services.settings
    app = Door(bridge=services.bridge, sites=services.sites, streams=services.streams, settings=chosen)
    return DoorListener(app, chosen.door_port if chosen.door_origins else None)


async def _close_streams(services: Services) -> None:
    """Before uvicorn waits for its connections to end, end the streams that would not by themselves."""
    await services.stopping.wait()
    await services.streams.close()


@contextmanager
def _single(directory: Path) -> Iterator[None]:
    """One bridge per user: whoever holds the lock may replace a socket left over from a crash."""
    descriptor = os.open(directory / "bridge.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise AlreadyRunning() from None
    try:
        yield
    finally:
        os.close(descriptor)


@contextmanager
def _listener(directory: Path) -> Iterator[socket.socket]:
    """systemd's socket if it passed one, else our own, 0600, removed at the end."""
    if os.environ.get("LISTEN_PID") == str(os.getpid()) and os.environ.get("LISTEN_FDS") == "1":
        with socket.socket(fileno=LISTEN_FDS_START) as passed:
            yield passed
        return
    path = directory / "bridge.sock"
    path.unlink(missing_ok=True)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as own:
        previous = os.umask(0o177)
        try:
            own.bind(str(path))
        except OSError as err:
            raise SetupError(
                f"The socket {path} can't be made: {err}.", next_step="Set TOKENBRIDGE_RUNTIME_DIR to a short path."
            ) from err
        finally:
            os.umask(previous)
        own.listen(BACKLOG)
        try:
            yield own
        finally:
            path.unlink(missing_ok=True)
