"""Whose socket is at the other end of a loopback connection, as the kernel's tables show it (proc_pid_net(5)).

A Unix socket tells its peer's user; a TCP socket does not. The table has both ends of a connection within the machine.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Final

TCP: Final = Path("/proc/net/tcp")
TCP6: Final = Path("/proc/net/tcp6")
ESTABLISHED: Final = "01"
MAPPED: Final = b"\0" * 10 + b"\xff\xff"
"""An IPv6 socket that speaks IPv4 (RFC 4291 section 2.5.5.2): some programs open no others."""


def owner(connection: socket.socket) -> int | None:
    """The user id of the other end of an IPv4 connection; None if the table does not show it: closed, another machine.

    Only an open connection counts: one that is being closed has lost its owner in the table, and reads as root's.
    """
    try:
        ours, theirs = connection.getsockname(), connection.getpeername()
        for path, prefix in ((TCP, b""), (TCP6, MAPPED)):
            local, remote = _place(theirs, prefix), _place(ours, prefix)
            for row in _rows(path):
                if row[1:4] == [local, remote, ESTABLISHED]:
                    return int(row[7])
    except (OSError, ValueError, IndexError):
        return None
    return None


def _rows(path: Path) -> Iterator[list[str]]:
    """Columns: number, local, remote, state, queues, timer, retransmissions, user id, ..."""
    with path.open(encoding="ascii") as table:
        next(table, None)
        for line in table:
            yield line.split()


def _place(address: tuple[str, int], prefix: bytes) -> str:
    """`0100007F:71F5`: each four bytes as a number of this machine's byte order, then the port."""
    host, port = address
    raw = prefix + socket.inet_aton(host)
    words = struct.unpack(f"={len(raw) // 4}I", raw)
    return "".join(f"{word:08X}" for word in words) + f":{port:04X}"
