"""A server that measures its own CPU in signature checks and SQL, for `server_scale`."""

from __future__ import annotations

import atexit
import json
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sqlalchemy import Connection
from sqlalchemy.engine.base import RootTransaction
from sqlalchemy.pool import Pool

from tokenbridge.cli.server import server
from tokenbridge.server import key_sign_in


class _Clock:
    """Seconds of CPU of the calling threads inside `work`, and seconds by the clock; the outermost call counts."""

    def __init__(self) -> None:
        self.cpu = self.wall = 0.0
        self.calls = 0
        self._inside = threading.local()
        self._lock = threading.Lock()

    def around(self, work: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*args: Any, **more: Any) -> Any:
            if getattr(self._inside, "now", False):
                return work(*args, **more)
            self._inside.now = True
            cpu, wall = time.thread_time(), time.perf_counter()
            try:
                return work(*args, **more)
            finally:
                cpu, wall = time.thread_time() - cpu, time.perf_counter() - wall
                self._inside.now = False
                with self._lock:
                    self.cpu, self.wall, self.calls = self.cpu + cpu, self.wall + wall, self.calls + 1

        return timed


def measured(path: str) -> None:
    """Run the server's command line; at its end the sums stand in the file `path`."""
    signatures, sql = _Clock(), _Clock()
    key_sign_in.verify_signature = signatures.around(key_sign_in.verify_signature)
    for owner, names in ((Connection, ("execute", "exec_driver_sql")), (RootTransaction, ("_do_commit",)),
                         (Pool, ("connect",))):  # fmt: skip
        for name in names:
            setattr(owner, name, sql.around(getattr(owner, name)))
    atexit.register(lambda: _write(Path(path), signatures, sql))
    server()


def _write(path: Path, signatures: _Clock, sql: _Clock) -> None:
    found = {
        "sign-ins": signatures.calls,
        "signature checks": signatures.cpu,
        "SQL": sql.cpu,
        "database waits": sql.wall - sql.cpu,
        "SQL calls": sql.calls,
    }
    path.write_text(json.dumps(found))
