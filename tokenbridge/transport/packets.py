"""Security keys without a kernel device: packets over a Unix socket, in one process or between two.

A key of this kind is a socket file in a directory that the bridge watches when told to (`key_sockets`). It serves test
benches and demos on machines without /dev/uhid. It gives no power to whoever can make such a file: a relying party
believes signatures, not devices.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import struct
from pathlib import Path
from typing import Final

from tokenbridge.errors import AccessDenied, DeviceBusy, DeviceRemoved, LinkFailed
from tokenbridge.interaction import one_line
from tokenbridge.transport.base import PACKET_SIZE, KeyPlace

SUFFIX: Final = ".key"
BACKLOG: Final = 4


class PacketSocket:
    """A `base.PacketLink` over a connected SOCK_SEQPACKET socket, which keeps packets apart. It owns the socket."""

    def __init__(self, connected: socket.socket) -> None:
        connected.setblocking(False)
        self._socket = connected
        self._poll = select.poll()
        self._poll.register(connected, select.POLLIN)

    def send(self, packet: bytes) -> None:
        if len(packet) > PACKET_SIZE:
            raise LinkFailed(detail=f"packet of {len(packet)} bytes")
        try:
            self._socket.send(packet.ljust(PACKET_SIZE, b"\0"))
        except BlockingIOError as err:
            raise LinkFailed("The other end does not read.", detail=repr(err)) from err
        except OSError as err:
            raise DeviceRemoved(KEY_GONE, detail=repr(err)) from err

    def receive(self, timeout: float | None) -> bytes | None:
        try:
            if not self._poll.poll(None if timeout is None else max(timeout, 0) * 1000):
                return None
            packet = self._socket.recv(PACKET_SIZE)
        except BlockingIOError:
            return None
        except (OSError, ValueError) as err:
            raise DeviceRemoved(KEY_GONE, detail=repr(err)) from err
        if not packet:
            raise DeviceRemoved(KEY_GONE, detail="end of stream")
        return packet

    def close(self) -> None:
        """Also ends a `receive` that waits in another thread."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()


KEY_GONE: Final = "The key was taken out before it had finished."


def pair() -> tuple[PacketSocket, PacketSocket]:
    """The host's end and the key's end, in one process."""
    host, key = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    return PacketSocket(host), PacketSocket(key)


def listen(path: Path) -> socket.socket:
    """Plug a key in at `path` (ends in `SUFFIX`): the socket that hosts connect to, one connection for each host.

    It appears under its name when it can be connected to, not before. Remove the file to unplug.
    """
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    hidden = hidden_name(path)
    try:
        listener.bind(str(hidden))
        hidden.chmod(0o600)
        listener.listen(BACKLOG)
        hidden.rename(path)
    except OSError as err:
        listener.close()
        hidden.unlink(missing_ok=True)
        raise LinkFailed(f"The key can't be plugged in at {path}: {err.strerror or err}.") from err
    return listener


def hidden_name(path: Path) -> Path:
    """Where the socket of `path` is made, before it appears; the process number has as many digits as any."""
    return path.with_name(f".{path.name}.{os.getpid():07}")


def connect(path: str) -> PacketSocket:
    """The host's end of the key at `path`. Raises `DeviceRemoved`, `DeviceBusy`, `AccessDenied` for another user's."""
    connected = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    connected.setblocking(False)
    try:
        connected.connect(path)
        raw = connected.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    except BlockingIOError as err:  # it takes no more hosts now: nothing is waited for here
        connected.close()
        raise DeviceBusy("The security key is busy with other programs.", detail=path) from err
    except OSError as err:
        connected.close()
        raise DeviceRemoved(KEY_GONE, detail=repr(err)) from err
    if struct.unpack("3i", raw)[1] != os.getuid():
        connected.close()
        raise AccessDenied("The key's socket is another user's.", detail=path)
    return PacketSocket(connected)


def keys(directory: Path) -> list[KeyPlace]:
    """The keys whose sockets are in `directory`. A name is `NAME-SERIAL.key` or `NAME.key`."""
    try:
        entries = sorted(os.scandir(directory), key=lambda entry: entry.name)
    except OSError:
        return []
    return [found for entry in entries if (found := _place(entry)) is not None]


def _place(entry: os.DirEntry[str]) -> KeyPlace | None:
    if entry.name.startswith(".") or not entry.name.endswith(SUFFIX):
        return None
    name, _, serial = one_line(entry.name).removesuffix(SUFFIX).rpartition("-")
    try:
        facts = entry.stat(follow_symlinks=False)
    except OSError:  # gone again already
        return None
    instance = f"{facts.st_ino}-{facts.st_ctime_ns}"  # numbers of files are used again
    return KeyPlace(path=entry.path, name=name or serial, serial=serial if name else "", instance=instance)
