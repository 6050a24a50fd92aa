"""Netlink uevents of hidraw devices, from the kernel and from udev: an idle workstation is not woken by anything else.

The kernel tells of a device before udev has given this user access to it; udev tells once it has. Both are listened to,
so that a key counts as soon as it can be opened, also on a machine without udev.
"""

from __future__ import annotations

import contextlib
import socket
import struct
from dataclasses import dataclass
from typing import Final

from tokenbridge.errors import SetupError

KOBJECT_UEVENT: Final = 15
"""NETLINK_KOBJECT_UEVENT of linux/netlink.h."""
KERNEL_GROUP: Final = 1
UDEV_GROUP: Final = 2
RECEIVE_BUFFER: Final = 1 << 20
MAX_MESSAGE: Final = 8192
MAX_BATCH: Final = 64

UDEV_PREFIX: Final = b"libudev\0"
UDEV_MAGIC: Final = 0xFEEDCAFE
UDEV_HEADER: Final = struct.Struct("=8sIIII")
"""Prefix, magic (big-endian on the wire), size of the header, offset and length of the properties."""
CREDENTIALS: Final = struct.Struct("3i")


@dataclass(frozen=True, slots=True, kw_only=True)
class Uevent:
    """`name` is the device node's, e.g. "hidraw3"; `lost` stands for events that the kernel could not deliver."""

    action: str = ""
    name: str = ""
    lost: bool = False


def parse(message: bytes) -> Uevent | None:
    """The event in one netlink message; None for another subsystem's, and for what is malformed."""
    if message.startswith(UDEV_PREFIX):
        body = _udev_properties(message)
    else:
        _, _, body = message.partition(b"\0")  # "ACTION@DEVPATH" comes first
    facts = {}
    for part in body.split(b"\0"):
        key, equals, value = part.partition(b"=")
        if equals:
            facts[key] = value.decode("utf-8", "replace")
    if facts.get(b"SUBSYSTEM") != "hidraw":
        return None
    name = facts.get(b"DEVNAME", "").rpartition("/")[2]
    action = facts.get(b"ACTION", "")
    return Uevent(action=action, name=name) if name.startswith("hidraw") and action else None


def _udev_properties(message: bytes) -> bytes:
    if len(message) < UDEV_HEADER.size:
        return b""
    _, magic, _, offset, length = UDEV_HEADER.unpack_from(message)
    if socket.ntohl(magic) != UDEV_MAGIC or offset < UDEV_HEADER.size or offset + length > len(message):
        return b""
    return message[offset : offset + length]


class UeventSocket:
    """A netlink socket. Raises `SetupError` where the kernel does not allow one."""

    def __init__(self) -> None:
        try:
            self._socket = socket.socket(
                socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK, KOBJECT_UEVENT
            )
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
            with contextlib.suppress(OSError):  # the kernel's limit will do
                self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
            self._socket.bind((0, KERNEL_GROUP | UDEV_GROUP))
        except OSError as err:
            raise SetupError("The kernel does not tell when keys are plugged in.", detail=repr(err)) from err

    def fileno(self) -> int:
        return self._socket.fileno()

    def read(self) -> list[Uevent]:
        """What has arrived; a bounded number at a time."""
        events = []
        for _ in range(MAX_BATCH):
            try:
                message, ancillary, _, _ = self._socket.recvmsg(MAX_MESSAGE, socket.CMSG_SPACE(CREDENTIALS.size))
            except BlockingIOError:
                break
            except OSError:  # ENOBUFS: more came than the buffer holds
                events.append(Uevent(lost=True))
                continue
            if _from_root(ancillary) and (event := parse(message)) is not None:
                events.append(event)
        return events

    def close(self) -> None:
        self._socket.close()


def _from_root(ancillary: list[tuple[int, int, bytes]]) -> bool:
    """Anybody may send to this socket. An event only makes us look at sysfs, but that is not for anybody to order."""
    for level, kind, data in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_CREDENTIALS) and len(data) >= CREDENTIALS.size:
            _, user, _ = CREDENTIALS.unpack_from(data)
            return bool(user == 0)
    return False
