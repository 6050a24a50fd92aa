"""Logger names and the TRAFFIC level. It formats nothing secret: masking is done where the bytes are understood."""

from __future__ import annotations

import logging
import sys
from typing import Any, Final, TextIO

from tokenbridge.interaction import one_line

TRAFFIC: Final = 5
"""Below DEBUG: every APDU and CTAP message, with PIN bytes masked."""

logging.addLevelName(TRAFFIC, "TRAFFIC")

LEVELS: Final = {"error": logging.ERROR, "warning": logging.WARNING, "info": logging.INFO, "debug": logging.DEBUG,
                 "traffic": TRAFFIC}  # fmt: skip


def get(name: str) -> logging.Logger:
    """The logger `tokenbridge.<name>`."""
    return logging.getLogger(f"tokenbridge.{name}")


def audit() -> logging.Logger:
    """Security events, one JSON object a line. It never propagates to a console handler by accident."""
    return logging.getLogger("tokenbridge.audit")


class OneLine(logging.Formatter):
    """Messages hold what sites and cards say: none of it can pose as another line, or draw when the log is shown."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802  logging's name
        return one_line(super().formatMessage(record))

    def formatException(self, ei: Any) -> str:  # noqa: N802  as above
        return "\n".join(one_line(line) for line in super().formatException(ei).split("\n"))


def configure(level: str = "info", stream: TextIO | None = None) -> None:
    """Send tokenbridge's log to `stream` (standard error by default). Called by programs only, never by the library."""
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(OneLine("%(asctime)s %(levelname)-7s %(name)s: %(message)s"))
    root = logging.getLogger("tokenbridge")
    root.handlers[:] = [handler]
    root.setLevel(LEVELS[level])
    root.propagate = False
    if level == "traffic":
        root.warning("TRAFFIC level: this log holds everything cards and keys say, certificates included")
