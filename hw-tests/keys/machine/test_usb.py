"""Real USB devices of the kernel: a smartcard reader, and a key at the other end of a USB cable (dummy_hcd, f_hid)."""

from __future__ import annotations

import os
import re
import select
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tokenbridge.errors import DeviceRemoved, LinkFailed
from tokenbridge.fido.session import KeySession
from tokenbridge.rig.virtual_key import AAGUID, Profile, VirtualKey
from tokenbridge.transport import uhid
from tokenbridge.transport.base import PACKET_SIZE, EventKind
from tokenbridge.transport.uevents import KOBJECT_UEVENT, UDEV_GROUP

SECONDS = 60
READER = "8e6/4433/"
"""Vendor and product of QEMU's reader, as uevents write them: a Gemalto."""
GADGETS = Path("/sys/kernel/config/usb_gadget")
VENDOR, PRODUCT = "0x20a0", "0x42b1"
"""A Nitrokey FIDO2."""
NAMES = {"manufacturer": "tokenbridge", "product": "virtual key on a cable", "serialnumber": "cable-1"}
FIDO_RULES = [
    Path(f"{root}/udev/{name}") for root in ("/usr/lib", "/lib") for name in ("rules.d/60-fido-id.rules", "fido_id")
]


@pytest.fixture
def udev_says() -> Iterator[Callable[[bytes], bytes]]:
    """`udev_says(words)` waits for udev's next event that has them."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, KOBJECT_UEVENT) as listener:
        listener.bind((0, UDEV_GROUP))
        until = time.monotonic() + SECONDS

        def wait(words: bytes) -> bytes:
            while True:
                listener.settimeout(max(until - time.monotonic(), 0.001))
                message = listener.recv(1 << 16)
                if words in message:
                    return message

        yield wait


def _run(*command: str) -> str:
    return subprocess.run(command, check=True, timeout=SECONDS, stdout=subprocess.PIPE, text=True).stdout


def _modprobe(*names: str) -> None:
    for name in names:
        _run("modprobe", name)


def test_the_person_at_the_seat_gets_the_reader(
    udev: Any, udev_says: Callable[[bytes], bytes], install: Any, alice: Any, bob: Any
) -> None:
    udev.without(*(Path(f"{root}/udev/rules.d/70-uaccess.rules") for root in ("/usr/lib", "/lib")))
    udev.seat(alice.user)
    install()
    _modprobe("uhci-hcd")
    event = udev_says(f"DEVTYPE=usb_device\0PRODUCT={READER}".encode())
    try:
        node = re.search(rb"DEVNAME=([^\0]+)", event)
        assert node is not None
        path = node[1].decode()
        assert ":0b" in udev.properties(path)["ID_USB_INTERFACES"]
        udev("settle")
        assert alice.may_open(path)
        assert not bob.may_open(path)
    finally:
        _run("modprobe", "-r", "uhci-hcd")


class GadgetEnd:
    """The key's end of the cable: a `transport.base.PacketLink` over /dev/hidg0."""

    def __init__(self, path: str) -> None:
        self._descriptor = os.open(path, os.O_RDWR | os.O_NONBLOCK)
        self._wake = os.eventfd(0, os.EFD_NONBLOCK)

    def send(self, packet: bytes) -> None:
        select.select([], [self._descriptor], [], SECONDS)
        try:
            os.write(self._descriptor, packet.ljust(PACKET_SIZE, b"\0"))
        except OSError as err:
            raise LinkFailed(detail=repr(err)) from err

    def receive(self, timeout: float | None) -> bytes | None:
        ready = select.select([self._descriptor, self._wake], [], [], timeout)[0]
        if self._wake in ready:
            raise DeviceRemoved
        try:
            return os.read(self._descriptor, PACKET_SIZE) if ready else None
        except OSError as err:
            raise DeviceRemoved(detail=repr(err)) from err

    def close(self) -> None:
        """Ends a `receive` that waits in another thread."""
        os.eventfd_write(self._wake, 1)

    def release(self) -> None:
        """Once nobody waits."""
        os.close(self._descriptor)
        os.close(self._wake)


class Cable:
    """A USB gadget with the FIDO report descriptor. `plug` and `pull` are what the host sees."""

    def __init__(self) -> None:
        _modprobe("dummy_hcd", "libcomposite", "usb_f_hid")
        if not GADGETS.is_dir():
            _run("mount", "-t", "configfs", "configfs", str(GADGETS.parent))
        self._gadget = GADGETS / "tokenbridge"
        self._function = self._gadget / "functions/hid.usb0"
        strings, config = self._gadget / "strings/0x409", self._gadget / "configs/c.1"
        for folder in (self._gadget, strings, self._function, config):
            folder.mkdir()
        for name, value in {"idVendor": VENDOR, "idProduct": PRODUCT, "bcdUSB": "0x0200"}.items():
            (self._gadget / name).write_text(value)
        for name, value in NAMES.items():
            (strings / name).write_text(value)
        for name, value in {"protocol": "0", "subclass": "0", "report_length": str(PACKET_SIZE)}.items():
            (self._function / name).write_text(value)
        (self._function / "report_desc").write_bytes(uhid.FIDO_REPORTS)
        (config / "hid.usb0").symlink_to(self._function)

    def plug(self) -> None:
        (self._gadget / "UDC").write_text("dummy_udc.0")

    def pull(self) -> None:
        if (self._gadget / "UDC").read_text().strip():
            (self._gadget / "UDC").write_text("\n")

    def device(self) -> str:
        """The key's own end."""
        major, minor = (self._function / "dev").read_text().strip().split(":")
        return os.path.realpath(f"/dev/char/{major}:{minor}")

    def close(self) -> None:
        self.pull()
        (self._gadget / "configs/c.1/hid.usb0").unlink()
        for folder in ("configs/c.1", "functions/hid.usb0", "strings/0x409", ""):
            (self._gadget / folder).rmdir()


@pytest.fixture
def cable(udev: Any) -> Iterator[Cable]:
    made = Cable()
    yield made
    made.close()


def test_a_key_on_a_cable(cable: Cable, watch: Any, udev: Any, install: Any, bob: Any) -> None:
    """Found, named and granted by its numbers where udev can't tell what it is; libfido2 and the bridge speak to it."""
    udev.without(*FIDO_RULES)
    install()
    cable.plug()
    place = watch.next(EventKind.KEY_ADDED, lambda key: key.serial == NAMES["serialnumber"]).key
    udev("settle")
    assert (f"{place.vendor:#06x}", f"{place.product:#06x}") == (VENDOR, PRODUCT)
    assert place.name == f"{NAMES['manufacturer']} {NAMES['product']}"
    assert udev.properties(place.path)["ID_FIDO_TOKEN"] == "1"
    assert bob.may_open(place.path)
    key, end = VirtualKey.create(Profile(aaguid=AAGUID)), GadgetEnd(cable.device())
    key.plug(end)
    try:
        assert f"({NAMES['manufacturer']} {NAMES['product']})" in _run("fido2-token", "-L")
        assert AAGUID.hex() in _run("fido2-token", "-I", place.path)
        session = KeySession.open(place, lambda *_: None)
        assert session.facts.versions
        session.close()
        cable.pull()
        watch.next(EventKind.KEY_REMOVED, lambda gone: gone.path == place.path)
    finally:
        key.close()
        end.release()
