"""Ports of loopback that stay free between being chosen and being listened at."""

from __future__ import annotations

import secrets
import socket
from typing import Final

from tokenbridge.errors import SetupError

LOOPBACK: Final = "127.0.0.1"
CHOICE: Final = range(20000, 32768)
"""Linux gives none of these to outgoing connections, nor to who asks for any port (ip_local_port_range, ip(7))."""
TRIES: Final = 100


def free_port() -> int:
    """One at which nobody listens, by chance, so that two who choose at the same time hardly choose the same.

    Raises `SetupError` when none is found.
    """
    for _ in range(TRIES):
        port = secrets.choice(CHOICE)
        try:
            socket.create_server((LOOPBACK, port)).close()
        except OSError:
            continue
        return port
    raise SetupError("No free port of loopback was found.", next_step="Close some programs and retry.")
