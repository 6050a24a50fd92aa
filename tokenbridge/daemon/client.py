"""The caller's side of the bridge's socket: requests, event streams, and starting the bridge when it does not run.

Imported by the command line at every start: standard library only, and no more of it than needed.
"""

from __future__ import annotations

import json
import os
import select
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from http.client import HTTPConnection, HTTPException, HTTPResponse
from pathlib import Path
from types import TracebackType
from typing import Any, Final
from urllib.parse import quote

from tokenbridge.daemon import paths
from tokenbridge.errors import DaemonUnavailable, RemoteError, SetupError

ANSWER_SECONDS: Final = 60.0
START_SECONDS: Final = 15.0
LAST_LINES: Final = ("done", "error")
MAX_LINE: Final = 1 << 20
MAX_LOG: Final = 5 << 20


class _UnixConnection(HTTPConnection):
    def __init__(self, path: Path, timeout: float | None) -> None:
        super().__init__("bridge")
        self._path = path
        self._seconds = timeout

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self._seconds)
        self.sock.connect(str(self._path))
        _check_owner(self.sock, self._path)


def _check_owner(connected: socket.socket, path: Path) -> None:
    """Raises `SetupError` if another user listens at `path`: whoever does is handed PINs and passwords."""
    raw = connected.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    if struct.unpack("3i", raw)[1] != os.getuid():
        raise SetupError(
            f"{path} is another user's. Nothing was sent.",
            next_step="Find out who made it; set TOKENBRIDGE_RUNTIME_DIR.",
        )


class Stream:
    """Lines of a ceremony under way. Closing it (or leaving the `with`) cancels the ceremony."""

    def __init__(self, bridge: BridgeClient, connection: HTTPConnection, response: HTTPResponse) -> None:
        self._bridge = bridge
        self._connection = connection
        self._response = response
        self.connection_fd = connection.sock.fileno() if connection.sock is not None else response.fileno()
        """Readable when another line is there: so that a prompt can be withdrawn while somebody types."""

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """Raises `DaemonUnavailable` if the bridge goes away before its last line."""
        while True:
            try:
                line = self._response.readline(MAX_LINE)
            except (OSError, HTTPException) as err:
                raise DaemonUnavailable("The bridge went away.", detail=repr(err)) from err
            if not line:
                raise DaemonUnavailable("The bridge went away.", detail="end of stream")
            said = _decode(line)
            if not isinstance(said, dict) or "event" not in said:
                raise _not_understood(line)
            yield said
            if said["event"] in LAST_LINES:
                return

    def answer(self, question: str, value: bytes | bytearray) -> None:
        self._bridge.request("POST", f"/v1/prompts/{quote(question)}", bytes(value))

    def decline(self, question: str) -> None:
        self._bridge.request("DELETE", f"/v1/prompts/{quote(question)}")

    def close(self) -> None:
        self._response.close()
        self._connection.close()

    def __enter__(self) -> Stream:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class BridgeClient:
    """Talks to the bridge at `path`. Every method raises `RemoteError` for what the bridge refuses."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def request(self, method: str, path: str, body: bytes | None = None) -> Any:
        """The JSON of the answer, None if it has no body."""
        connection, response = self._send(method, path, body, ANSWER_SECONDS)
        try:
            content = response.read()
        except (OSError, HTTPException) as err:
            raise DaemonUnavailable(detail=repr(err)) from err
        finally:
            connection.close()
        if response.status >= 400:
            raise _refusal(content)
        return _decode(content) if content else None

    def get(self, path: str, **query: str) -> Any:
        asked = "&".join(f"{key}={quote(value)}" for key, value in query.items() if value)
        return self.request("GET", f"{path}?{asked}" if asked else path)

    def stream(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Stream:
        content = json.dumps(body).encode() if body is not None else None
        connection, response = self._send(method, path, content, None)
        if response.status >= 400:
            try:
                raise _refusal(response.read(MAX_LINE))
            finally:
                connection.close()
        return Stream(self, connection, response)

    def _send(
        self, method: str, path: str, body: bytes | None, timeout: float | None
    ) -> tuple[HTTPConnection, HTTPResponse]:
        connection = _UnixConnection(self._path, timeout)
        try:
            connection.request(method, path, body)
            return connection, connection.getresponse()
        except (OSError, HTTPException) as err:
            connection.close()
            raise DaemonUnavailable(detail=repr(err)) from err
        except SetupError:
            connection.close()
            raise


def _decode(content: bytes) -> Any:
    try:
        return json.loads(content)
    except (ValueError, RecursionError) as err:
        raise _not_understood(content) from err


def _refusal(content: bytes) -> RemoteError | DaemonUnavailable:
    data = _decode(content)
    error = data.get("error") if isinstance(data, dict) else None
    return RemoteError(error) if isinstance(error, dict) else _not_understood(content)


def _not_understood(content: bytes) -> DaemonUnavailable:
    return DaemonUnavailable(
        "The bridge's answer can't be understood.",
        next_step="It may be of another version: `tokenbridge daemon stop`, then retry.",
        detail=repr(content[:200]),
    )


def connect(*, start: bool = True) -> BridgeClient:
    """A client of this user's bridge, which is started if it does not run and `start` is set."""
    path = paths.socket_path()
    if not _answers(path):
        if not start:
            raise DaemonUnavailable("The bridge is not running.", next_step="Start it with `tokenbridge daemon run`.")
        _start(path)
    return BridgeClient(path)


def _answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(ANSWER_SECONDS)
        try:
            probe.connect(str(path))
        except OSError:
            return False
        _check_owner(probe, path)
        return True


def _start(path: Path) -> None:
    """Start the bridge in the background and wait until it listens."""
    log = paths.private_directory(paths.state_directory()) / paths.log_path().name
    if log.exists() and log.stat().st_size > MAX_LOG:
        log.replace(log.with_suffix(".log.1"))
    ready, write_end = os.pipe2(os.O_CLOEXEC)
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    try:
        subprocess.Popen(
            [sys.executable, "-m", "tokenbridge", "daemon", "run", "--ready-fd", str(write_end)],
            stdin=subprocess.DEVNULL,
            stdout=descriptor,
            stderr=descriptor,
            pass_fds=(write_end,),
            start_new_session=True,
            cwd="/",
        )
    finally:
        os.close(write_end)
        os.close(descriptor)
    try:
        _wait_ready(ready, path, log)
    finally:
        os.close(ready)


def _wait_ready(ready: int, path: Path, log: Path) -> None:
    limit = time.monotonic() + START_SECONDS
    readable, _, _ = select.select([ready], [], [], START_SECONDS)
    if readable and os.read(ready, 16):
        return
    # It ended without a word: perhaps another caller was faster and that one is just coming up.
    while time.monotonic() < limit and _held(path.with_name("bridge.lock")):
        if _answers(path):
            return
        time.sleep(0.02)
    raise DaemonUnavailable("The bridge could not be started.", next_step=f"See {log}.", detail="no ready signal")


def _held(lock: Path) -> bool:
    """Whether a bridge holds the lock."""
    import fcntl  # noqa: PLC0415  only on this rare path

    try:
        with lock.open() as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False
