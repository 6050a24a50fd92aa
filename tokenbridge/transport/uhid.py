"""A security key made by this machine: a HID device of the kernel's uhid, seen by udev and browsers as any other.

The exchange with the kernel is that of linux/uhid.h: packed structs in the machine's byte order. The device lives as
long as the descriptor of /dev/uhid is open.
"""

from __future__ import annotations

import contextlib
import errno
import os
import struct
import threading
import time
from dataclasses import dataclass
from enum import IntEnum, unique
from pathlib import Path
from typing import Final

from tokenbridge.errors import AccessDenied, DeviceRemoved, LinkFailed, SetupError
from tokenbridge.transport.base import PACKET_SIZE
from tokenbridge.transport.gate import Gate

UHID: Final = Path("/dev/uhid")
BUS_USB: Final = 3
MAX_DATA: Final = 4096
"""UHID_DATA_MAX and HID_MAX_DESCRIPTOR_SIZE."""
EVENT_SIZE: Final = 4380
"""sizeof(struct uhid_event): the type and the largest member, uhid_create2_req."""

FIDO_REPORTS: Final = bytes.fromhex(
    "06D0F1"  # usage page: FIDO alliance
    "0901"  # usage: CTAPHID
    "A101"  # collection: application
    "0920 1500 26FF00 7508 9540 8102"  # data in: 64 bytes, absolute
    "0921 1500 26FF00 7508 9540 9102"  # data out: 64 bytes, absolute
    "C0"  # end of collection
)
"""Report descriptor of a FIDO key (CTAP 2.1 section 11.2.8.1)."""
_UNPLUGGED: Final = "The virtual key was unplugged."


@unique
class Event(IntEnum):
    """enum uhid_event_type."""

    DESTROY = 1
    START = 2
    STOP = 3
    OPEN = 4
    CLOSE = 5
    OUTPUT = 6
    GET_REPORT = 9
    GET_REPORT_REPLY = 10
    CREATE2 = 11
    INPUT2 = 12
    SET_REPORT = 13
    SET_REPORT_REPLY = 14


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """What the device says it is. `uniq` is its serial number; names are cut to what the kernel takes."""

    name: str
    uniq: str = ""
    phys: str = ""
    vendor: int = 0
    product: int = 0
    version: int = 0
    country: int = 0


def create2(identity: Identity, reports: bytes = FIDO_REPORTS) -> bytes:
    """The event that makes a device."""
    texts = (_text(identity.name, 128), _text(identity.phys, 64), _text(identity.uniq, 64))
    numbers = (len(reports), BUS_USB, identity.vendor, identity.product, identity.version, identity.country)
    return struct.pack("=I128s64s64sHHIIII4096s", Event.CREATE2, *texts, *numbers, reports)


def input2(packet: bytes) -> bytes:
    """The event that carries a packet to the hosts; without report number, since FIDO reports have none."""
    return struct.pack("=IH", Event.INPUT2, len(packet)) + packet


def destroy() -> bytes:
    return struct.pack("=I", Event.DESTROY)


def refusal(event: bytes) -> bytes | None:
    """The answer EIO to a host that gets or sets a report by itself, None for other events.

    Without an answer that host would wait for five seconds.
    """
    kind = kind_of(event)
    if kind == Event.GET_REPORT:
        return struct.pack("=IIHH", Event.GET_REPORT_REPLY, _request_id(event), errno.EIO, 0)
    if kind == Event.SET_REPORT:
        return struct.pack("=IIH", Event.SET_REPORT_REPLY, _request_id(event), errno.EIO)
    return None


def kind_of(event: bytes) -> int:
    """The event's type, 0 if it is too short to have one."""
    return int(struct.unpack_from("=I", event)[0]) if len(event) >= 4 else 0


def output_packet(event: bytes) -> bytes | None:
    """The packet that a host has sent, None if the event is no OUTPUT. The report number in front of it is dropped."""
    if kind_of(event) != Event.OUTPUT or len(event) < 4 + MAX_DATA + 2:
        return None
    size = min(struct.unpack_from("=H", event, 4 + MAX_DATA)[0], MAX_DATA)
    data = event[4 : 4 + size]
    # hidraw hands on what it was given: the report number, then the report
    return (data[1:] if len(data) > PACKET_SIZE else data)[:PACKET_SIZE]


def _request_id(event: bytes) -> int:
    return int(struct.unpack_from("=I", event, 4)[0]) if len(event) >= 8 else 0


def _text(text: str, size: int) -> bytes:
    """At most `size` - 1 bytes: the kernel wants a zero behind it."""
    return text.encode("utf-8")[: size - 1]


class UhidDevice:
    """A `base.DeviceEnd` whose hosts are those of the kernel's hidraw device. Closing it unplugs the device.

    `receive` belongs to one thread; `close` may come from any.
    """

    def __init__(self, identity: Identity, descriptor: int) -> None:
        """Makes the device over an open, non-blocking descriptor of /dev/uhid, which it owns from now on."""
        self._descriptor = descriptor
        self._gate = Gate(lambda: os.close(descriptor), _UNPLUGGED)
        self._gate.watch(descriptor)
        self._hosts = 0
        self._started = threading.Event()
        try:
            self._write(create2(identity))
        except LinkFailed:
            self.close()
            raise

    @classmethod
    def open(cls, identity: Identity, path: Path = UHID) -> UhidDevice:
        """Raises `SetupError` if the kernel has no uhid, `AccessDenied` without the permission."""
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        except FileNotFoundError as err:
            raise SetupError(
                "This kernel has no uhid.", next_step="Load it with `sudo modprobe uhid`.", detail=repr(err)
            ) from err
        except OSError as err:
            raise AccessDenied(
                f"You may not make virtual keys at {path}.", next_step="Run it as root.", detail=repr(err)
            ) from err
        return cls(identity, descriptor)

    @property
    def hosts(self) -> bool:
        """Whether somebody has the device open."""
        return self._hosts > 0

    def wait_started(self, timeout: float) -> bool:
        """Whether the kernel has taken the device into use before `timeout` seconds were over. `receive` must run."""
        return self._started.wait(timeout)

    def send(self, packet: bytes) -> None:
        if len(packet) > PACKET_SIZE:
            raise LinkFailed(detail=f"packet of {len(packet)} bytes")
        self._write(input2(packet.ljust(PACKET_SIZE, b"\0")))

    def receive(self, timeout: float | None) -> bytes | None:
        deadline = None if timeout is None else time.monotonic() + timeout
        with self._gate.waiting():
            while self._gate.ready(deadline):
                packet = self._event()
                if packet is not None:
                    return packet
        return None

    def close(self) -> None:
        """Unplug the device. Also ends a `receive` that waits in another thread."""
        self._gate.close(self._destroy)

    def _destroy(self) -> None:
        with contextlib.suppress(OSError):
            os.write(self._descriptor, destroy())

    def _event(self) -> bytes | None:
        """Take one event from the kernel; the packet if it is one."""
        try:
            event = os.read(self._descriptor, EVENT_SIZE)
        except BlockingIOError:
            return None
        except OSError as err:
            raise DeviceRemoved(_UNPLUGGED, detail=repr(err)) from err
        match kind_of(event):
            case Event.START:
                self._started.set()
            case Event.OPEN:
                self._hosts += 1
            case Event.CLOSE:
                self._hosts -= 1
            case Event.OUTPUT:
                return output_packet(event)
        answer = refusal(event)
        if answer is not None:
            self._write(answer)
        return None

    def _write(self, event: bytes) -> None:
        with self._gate.using():
            try:
                os.write(self._descriptor, event)
            except OSError as err:
                raise LinkFailed("The kernel's uhid does not take the key's data.", detail=repr(err)) from err
