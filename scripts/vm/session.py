"""The host's end of the agent's port: run commands in the guest, with their output as it comes and their exit code."""

from __future__ import annotations

import base64
import binascii
import json
import secrets
import socket
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Self

from tokenbridge.errors import SetupError, TimedOut

CHUNK: Final = 65536
MAX_LINE: Final = 1 << 20
GRACE_SECONDS: Final = 15
"""The guest ends a late command itself; this much later the host gives up on the guest."""


class Session:
    """One connection; the guest serves one at a time, the next waits."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._buffer = b""

    @classmethod
    def connect(cls, path: Path) -> Self:
        """Raises `SetupError` if no machine listens at `path`."""
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            connection.connect(str(path))
        except OSError as err:
            connection.close()
            raise SetupError(
                "No virtual machine is running here.",
                next_step="Start one with `python -m scripts.vm up`.",
                detail=repr(err),
            ) from err
        return cls(connection)

    def close(self) -> None:
        self._connection.close()

    def wait_ready(self, seconds: float) -> None:
        """Until the guest serves this connection. Raises `TimedOut`, or `SetupError` if the machine has ended."""
        until = time.monotonic() + seconds
        for answer in self._answers(self._send(ping=True), until):
            if answer.get("ready"):
                return

    def power_off(self) -> None:
        """Ask the guest to end; it does not answer."""
        self._send(off=True)

    def run(
        self,
        command: Sequence[str],
        sink: Callable[[int, bytes], None],
        *,
        seconds: float,
        cwd: Path | None = None,
        environ: Mapping[str, str] | None = None,
    ) -> int:
        """Exit code of `command`; 124 if it took longer than `seconds`.

        `sink` gets 1 (standard output) or 2 (error) and what was printed. Raises `SetupError` if the machine ends
        before the command: a code that never came is no success. Raises `TimedOut` if the guest says no more.
        """
        order = self._send(command=list(command), cwd=str(cwd or "/"), environ=dict(environ or {}), seconds=seconds)
        for answer in self._answers(order, time.monotonic() + seconds + GRACE_SECONDS):
            if isinstance(answer.get("data"), str):
                sink(int(answer["stream"]), _decoded(answer["data"]))
            elif isinstance(answer.get("code"), int):
                return int(answer["code"])
        raise AssertionError  # pragma: no cover  the answers end with a code or an exception

    def _send(self, **order: Any) -> str:
        name = secrets.token_hex(8)
        try:
            self._connection.sendall(json.dumps({"id": name, **order}).encode() + b"\n")
        except OSError as err:
            raise _ended(err) from err
        return name

    def _answers(self, order: str, until: float) -> Iterator[dict[str, Any]]:
        """What the guest says to `order`; the end of another host's command may come before."""
        while True:
            answer = json.loads(self._line(until))
            if answer.get("id") == order:
                yield answer

    def _line(self, until: float) -> bytes:
        while b"\n" not in self._buffer:
            if len(self._buffer) > MAX_LINE:
                raise SetupError("The virtual machine's agent talks nonsense.", detail=repr(self._buffer[:80]))
            self._connection.settimeout(max(until - time.monotonic(), 0.001))
            try:
                data = self._connection.recv(CHUNK)
            except TimeoutError as err:
                raise TimedOut("The virtual machine does not answer in time.", detail=repr(err)) from err
            except OSError as err:
                raise _ended(err) from err
            if not data:
                raise _ended(None)
            self._buffer += data
        line, _, self._buffer = self._buffer.partition(b"\n")
        return line


def _ended(err: OSError | None) -> SetupError:
    return SetupError(
        "The virtual machine ended before its command did.",
        next_step="See the log of its console for why.",
        detail=repr(err),
    )


def _decoded(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error as err:
        raise SetupError("The virtual machine's agent talks nonsense.", detail=repr(err)) from err
