"""Recording of what passes a link, one JSON object a line, PIN bytes masked before anything is kept."""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path
from typing import TextIO

from tokenbridge.errors import SetupError
from tokenbridge.log import TRAFFIC, get
from tokenbridge.wire.apdu import masked

_log = get("traffic")


def log_traffic(reader: str, command: bytes, response: bytes, seconds: float) -> None:
    """A `base.Trace` that writes to the log at level TRAFFIC."""
    if _log.isEnabledFor(TRAFFIC):
        _log.log(TRAFFIC, "%s > %s", reader, masked(command).hex())
        _log.log(TRAFFIC, "%s < %s (%.1f ms)", reader, response.hex(), seconds * 1000)


class TraceFile:
    """A `base.Trace` that appends to a file readable by its owner only. Raises `SetupError` if that can't be had."""

    def __init__(self, path: Path) -> None:
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
            os.fchmod(descriptor, 0o600)
        except OSError as err:
            raise SetupError(f"The trace file {path} can't be used: {err.strerror}.") from err
        self._file: TextIO = os.fdopen(descriptor, "w", encoding="ascii")
        self._lock = threading.Lock()

    def __call__(self, reader: str, command: bytes, response: bytes, seconds: float) -> None:
        line = json.dumps(
            {
                "reader": reader,
                "command": masked(command).hex(),
                "response": response.hex(),
                "microseconds": round(seconds * 1e6),
            }
        )
        try:
            with self._lock:
                self._file.write(line + "\n")
                self._file.flush()
        except OSError as err:
            # After the card has answered: a full disk must not undo that.
            _log.warning("a line of the trace is lost: %s", err)

    def close(self) -> None:
        self._file.close()
