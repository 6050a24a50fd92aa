"""Netlink uevents: exact messages of the kernel and of udev, and whatever else arrives."""

from __future__ import annotations

import socket
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokenbridge.transport.uevents import UDEV_HEADER, Uevent, UeventSocket, _from_root, parse

KERNEL = (
    b"add@/devices/virtual/misc/uhid/0003:1050:0402.0001/hidraw/hidraw0\0ACTION=add\0"
    b"DEVPATH=/devices/virtual/misc/uhid/0003:1050:0402.0001/hidraw/hidraw0\0SUBSYSTEM=hidraw\0"
    b"MAJOR=241\0MINOR=0\0DEVNAME=hidraw0\0SEQNUM=1234\0"
)
PROPERTIES = (
    b"ACTION=remove\0DEVPATH=/devices/x/hidraw/hidraw12\0SUBSYSTEM=hidraw\0DEVNAME=/dev/hidraw12\0"
    b"ID_FIDO_TOKEN=1\0TAGS=:uaccess:\0"
)


def by_udev(properties: bytes = PROPERTIES, *, magic: int = 0xFEEDCAFE, offset: int = 40, length: int = -1) -> bytes:
    header = UDEV_HEADER.pack(
        b"libudev\0", socket.htonl(magic), 40, offset, len(properties) if length < 0 else length
    ).ljust(40, b"\0")
    return header + properties


def test_the_kernels_message() -> None:
    assert parse(KERNEL) == Uevent(action="add", name="hidraw0")


def test_udevs_message() -> None:
    assert parse(by_udev()) == Uevent(action="remove", name="hidraw12")


@pytest.mark.parametrize(
    "message",
    [
        b"",
        b"libudev\0",
        KERNEL.replace(b"SUBSYSTEM=hidraw", b"SUBSYSTEM=usb"),
        KERNEL.replace(b"DEVNAME=hidraw0", b"DEVNAME=sda"),
        KERNEL.replace(b"ACTION=add\0", b""),
        by_udev(magic=0xFEEDFACE),
        by_udev(offset=4),
        by_udev(offset=4000),
        by_udev(length=4000),
    ],
)
def test_messages_that_say_nothing_of_keys(message: bytes) -> None:
    assert parse(message) is None


@given(st.binary(max_size=300))
def test_any_bytes(message: bytes) -> None:
    for given_message in (message, b"libudev\0" + message, by_udev(message)):
        found = parse(given_message)
        assert found is None or found.name.startswith("hidraw")


@pytest.mark.parametrize(("user", "believed"), [(0, True), (1000, False)])
def test_only_root_is_believed(user: int, believed: bool) -> None:
    credentials = struct.pack("3i", 1, user, user)
    assert _from_root([(socket.SOL_SOCKET, socket.SCM_CREDENTIALS, credentials)]) is believed
    assert not _from_root([])
    assert not _from_root([(socket.SOL_SOCKET, socket.SCM_CREDENTIALS, credentials[:4])])


def test_an_idle_socket_has_nothing_to_read() -> None:
    uevents = UeventSocket()
    try:
        assert all(event.name.startswith("hidraw") or event.lost for event in uevents.read())
    finally:
        uevents.close()
