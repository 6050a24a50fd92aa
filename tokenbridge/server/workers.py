"""Several processes that serve one socket: starts them, replaces one that dies, stops them all. It serves nothing.

The socket is made once and inherited. With a socket for each process (SO_REUSEPORT) the kernel would spread connections
by a hash, also to a process that is busy, and those that wait at a process that dies would be lost with it.
"""

from __future__ import annotations

import os
import select
import signal
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Final, Protocol

from tokenbridge import log
from tokenbridge.errors import SetupError

START_SECONDS: Final = 30
STOP_SECONDS: Final = 15
"""From asking to killing: longer than a server takes to end its last requests."""
SOON: Final = 5.0
MOST_SOON: Final = 5
"""When so many in a row end so soon after they were ready, the next would as well."""

_STOP: Final = frozenset({signal.SIGTERM, signal.SIGINT})
_WATCHED: Final = _STOP | {signal.SIGCHLD}

_log = log.get("server.workers")


class Work(Protocol):
    """What a process does until it gets SIGTERM, or until `lifeline` can be read: then its parent is gone."""

    def __call__(self, *, ready: Callable[[], None], lifeline: int) -> None: ...


@dataclass(kw_only=True)
class Workers:
    """The processes by their ids, with the time at which each was ready.

    `work` runs in the children, which are forks: before, no thread may run and no connection may be open.
    """

    count: int
    work: Work
    _ready_at: dict[int, float] = field(default_factory=dict)
    _short_lived: int = 0
    _lifeline: tuple[int, int] = field(default_factory=os.pipe)

    def run(self, ready: Callable[[], None]) -> None:
        """Serve until SIGINT or SIGTERM; `ready` is called once, when all processes are. Raises `SetupError` when
        one can't start or does not stay."""
        before = signal.pthread_sigmask(signal.SIG_BLOCK, _WATCHED)
        try:
            for _ in range(self.count):
                self._start(before)
            ready()
            while signal.sigwait(_WATCHED) == signal.SIGCHLD:
                self._replace(before)
        finally:
            self._stop()
            signal.pthread_sigmask(signal.SIG_SETMASK, before)

    def _start(self, mask: Iterable[int]) -> None:
        """Start one process and wait until it is ready."""
        reader, writer = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.close(reader)
            self._child(writer, mask)
        os.close(writer)
        self._ready_at[pid] = time.monotonic()
        try:
            told = select.select([reader], [], [], START_SECONDS)[0] and os.read(reader, 1)
        finally:
            os.close(reader)
        if not told:
            raise SetupError("A server process did not start.", next_step="See the server's log.")
        self._ready_at[pid] = time.monotonic()

    def _child(self, writer: int, mask: Iterable[int]) -> None:
        """What a fork does instead of going on; it never returns."""
        code = 1
        try:
            os.close(self._lifeline[1])
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
            self.work(ready=lambda: _tell(writer), lifeline=self._lifeline[0])
            code = 0
        except KeyboardInterrupt:
            code = 0
        except Exception:  # noqa: BLE001 - the end of a process: who started it sees its code only
            _log.exception("a server process failed")
        finally:
            # Not by an exception: whatever is above on the stack belongs to the parent.
            os._exit(code)

    def _replace(self, mask: Iterable[int]) -> None:
        for pid, lived in self._ended():
            _log.error("server process %d has ended; another one takes its place", pid)
            self._short_lived = self._short_lived + 1 if lived < SOON else 0
            if self._short_lived > MOST_SOON:
                raise SetupError("A server process ends again and again.", next_step="See the server's log.")
            self._start(mask)

    def _ended(self) -> list[tuple[int, float]]:
        """The processes that are over since the last look, with the seconds that each was there."""
        over = [pid for pid in self._ready_at if os.waitpid(pid, os.WNOHANG)[0] == pid]
        now = time.monotonic()
        return [(pid, now - self._ready_at.pop(pid)) for pid in over]

    def _stop(self) -> None:
        """Ask all to stop; who has not after a while, or when asked twice, is killed."""
        self._send(signal.SIGTERM)
        deadline = time.monotonic() + STOP_SECONDS
        while self._ready_at:
            self._ended()
            left = deadline - time.monotonic()
            if not self._ready_at:
                break
            got = signal.sigtimedwait(_WATCHED, max(left, 0))
            if got is None or got.si_signo in _STOP:
                self._send(signal.SIGKILL)
                deadline = time.monotonic() + STOP_SECONDS
        for end in self._lifeline:
            os.close(end)

    def _send(self, what: signal.Signals) -> None:
        for pid in self._ready_at:
            os.kill(pid, what)  # not reaped yet, so the id is still this process's


def _tell(writer: int) -> None:
    os.write(writer, b"\1")
    os.close(writer)
