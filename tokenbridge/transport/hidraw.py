"""Security keys at /dev/hidrawN: which of them are FIDO keys, whether they may be opened, packets to and from them.

A key is recognised by its report descriptor in sysfs, without opening it: a key that this user may not open is told
apart from no key at all.
"""

from __future__ import annotations

import errno
import os
import select
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Final

from tokenbridge.errors import AccessDenied, DeviceError, DeviceRemoved, LinkFailed
from tokenbridge.interaction import one_line
from tokenbridge.transport.base import PACKET_SIZE, KeyPlace
from tokenbridge.transport.packets import KEY_GONE

SYSFS: Final = Path("/sys/class/hidraw")
DEVICES: Final = Path("/dev")
MAX_DESCRIPTOR: Final = 4096
"""HID_MAX_DESCRIPTOR_SIZE of the kernel."""
MAX_UEVENT: Final = 4096
MAX_NAME: Final = 128
"""HID_NAME's length in the kernel."""

FIDO_USAGE_PAGE: Final = 0xF1D0
FIDO_USAGE_CTAPHID: Final = 0x01
"""CTAP 2.1 section 11.2.8.2."""
USAGE_PAGE_TAG: Final = 0x04
USAGE_TAG: Final = 0x08
LONG_ITEM: Final = 0xFE
"""Prefixes of HID 1.11 section 6.2.2, size bits aside."""

_NO_ACCESS: Final = "You may not open the security key."
_GRANT: Final = "Ask IT to run `sudo tokenbridge setup udev`, then plug the key in again."


def keys(sysfs: Path = SYSFS) -> list[KeyPlace]:
    """Every FIDO key that is plugged in."""
    try:
        names = sorted(os.listdir(sysfs))
    except OSError:
        return []
    return [found for name in names if (found := key_at(name, sysfs)) is not None]


def key_at(name: str, sysfs: Path = SYSFS) -> KeyPlace | None:
    """The FIDO key behind `hidrawN`, or None: gone, or no FIDO device."""
    device = sysfs / name / "device"
    try:
        descriptor = _read(device / "report_descriptor", MAX_DESCRIPTOR)
        facts = _read(device / "uevent", MAX_UEVENT)
        instance = device.resolve(strict=True).name
    except OSError:
        return None
    if not is_fido(descriptor):
        return None
    path = DEVICES / name
    place = _place(str(path), facts.decode("utf-8", "replace"))
    return replace(place, instance=instance, usable=may_open(str(path)))


def may_open(path: str) -> bool:
    """Whether this user may open the device at `path`; it is not opened."""
    return os.access(path, os.R_OK | os.W_OK)


def is_fido(descriptor: bytes) -> bool:
    """Whether a report descriptor has the FIDO usage page with the usage CTAPHID; malformed ones have not."""
    page = 0
    for tag, value in _items(descriptor):
        if tag == USAGE_PAGE_TAG:
            page = value
        elif tag == USAGE_TAG and (page, value) == (FIDO_USAGE_PAGE, FIDO_USAGE_CTAPHID):
            return True
    return False


def _items(descriptor: bytes) -> Iterator[tuple[int, int]]:
    """(prefix without size bits, value) of each short item (HID 1.11 section 6.2.2.2)."""
    position = 0
    while position < len(descriptor):
        prefix = descriptor[position]
        if prefix == LONG_ITEM:
            position += 3 + (descriptor[position + 1] if position + 1 < len(descriptor) else 0)
            continue
        size = (0, 1, 2, 4)[prefix & 0x03]
        yield prefix & 0xFC, int.from_bytes(descriptor[position + 1 : position + 1 + size], "little")
        position += 1 + size


def _read(path: Path, limit: int) -> bytes:
    with path.open("rb", buffering=0) as file:
        return file.read(limit)


def _place(path: str, facts: str) -> KeyPlace:
    """From the HID device's uevent: `HID_ID=BUS:VENDOR:PRODUCT` in hexadecimal, `HID_NAME`, `HID_UNIQ`."""
    found = dict(line.split("=", 1) for line in facts.split("\n") if "=" in line)
    numbers = [*found.get("HID_ID", "").split(":"), "", "", ""][1:3]
    vendor, product = (int(number, 16) & 0xFFFF if _is_hex(number) else 0 for number in numbers)
    return KeyPlace(
        path=path,
        name=_text(found.get("HID_NAME", "")),
        serial=_text(found.get("HID_UNIQ", "")),
        vendor=vendor,
        product=product,
    )


def _text(said: str) -> str:
    """What the key says of itself over USB, where it may say anything."""
    return one_line(said.strip()[:MAX_NAME])


def _is_hex(text: str) -> bool:
    return 0 < len(text) <= 8 and all(char in "0123456789abcdefABCDEF" for char in text)


class HidrawLink:
    """A `base.PacketLink` to the key at `path`. Raises `AccessDenied`, `DeviceRemoved`, `LinkFailed`."""

    def __init__(self, path: str) -> None:
        try:
            self._descriptor = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as err:
            raise _failure(err) from err
        self._poll = select.poll()
        self._poll.register(self._descriptor, select.POLLIN)

    def send(self, packet: bytes) -> None:
        if len(packet) > PACKET_SIZE:
            raise LinkFailed(detail=f"packet of {len(packet)} bytes")
        try:
            # FIDO reports have no number: hidraw wants a zero in its place (hidraw.txt of the kernel).
            os.write(self._descriptor, b"\0" + packet.ljust(PACKET_SIZE, b"\0"))
        except OSError as err:
            raise _failure(err) from err

    def receive(self, timeout: float | None) -> bytes | None:
        try:
            if not self._poll.poll(None if timeout is None else max(timeout, 0) * 1000):
                return None
            packet = os.read(self._descriptor, PACKET_SIZE)
        except BlockingIOError:
            return None
        except OSError as err:
            raise _failure(err) from err
        if not packet:
            raise DeviceRemoved(KEY_GONE, next_step=_REPLUG, detail="end of file")
        return packet

    def close(self) -> None:
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)


_REPLUG: Final = "Plug the key in again and retry."


def _failure(err: OSError) -> DeviceError:
    """The one table of what the kernel says about a hidraw device."""
    match err.errno:
        case errno.EACCES | errno.EPERM:
            return AccessDenied(_NO_ACCESS, next_step=_GRANT, detail=repr(err))
        case errno.ENOENT | errno.ENODEV | errno.ENXIO | errno.EIO | errno.ESHUTDOWN | errno.EBADF:
            return DeviceRemoved(KEY_GONE, next_step=_REPLUG, detail=repr(err))
        case _:
            return LinkFailed("The security key does not answer.", detail=repr(err))
