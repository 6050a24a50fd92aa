"""uhid: exact bytes of linux/uhid.h, and a socket in the kernel's place. The real kernel is in hw-tests."""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Iterator
from pathlib import Path
from threading import Thread

import pytest

from tests.patience import SECONDS
from tokenbridge.errors import DeviceRemoved, LinkFailed, SetupError
from tokenbridge.transport import uhid
from tokenbridge.transport.hidraw import is_fido
from tokenbridge.transport.uhid import Event, Identity, UhidDevice

IDENTITY = Identity(name="key", uniq="0001", phys="here", vendor=0x1209, product=1, version=0x0100)
CREATE2_SIZE = 4 + 128 + 64 + 64 + 2 + 2 + 4 * 4 + 4096


def event(kind: int, body: bytes = b"") -> bytes:
    """As the kernel hands it out: always a whole struct uhid_event."""
    return (struct.pack("=I", kind) + body).ljust(uhid.EVENT_SIZE, b"\0")


def output(data: bytes) -> bytes:
    return event(Event.OUTPUT, data.ljust(4096, b"\0") + struct.pack("=HB", len(data), 1))


def test_create2_has_the_layout_of_the_header() -> None:
    made = uhid.create2(IDENTITY)
    assert len(made) == CREATE2_SIZE
    assert made[:4] == struct.pack("=I", 11)
    assert made[4:132] == b"key".ljust(128, b"\0")
    assert made[132:196] == b"here".ljust(64, b"\0")
    assert made[196:260] == b"0001".ljust(64, b"\0")
    assert struct.unpack("=HHIIII", made[260:280]) == (len(uhid.FIDO_REPORTS), 3, 0x1209, 1, 0x0100, 0)
    assert made[280:] == uhid.FIDO_REPORTS.ljust(4096, b"\0")


def test_the_report_descriptor_is_a_fido_keys() -> None:
    assert len(uhid.FIDO_REPORTS) == 34
    assert is_fido(uhid.FIDO_REPORTS)


def test_names_are_cut_to_what_the_kernel_takes() -> None:
    made = uhid.create2(Identity(name="n" * 200, uniq="u" * 200))
    assert made[4:132] == b"n" * 127 + b"\0"
    assert made[196:260] == b"u" * 63 + b"\0"


def test_input2_carries_the_packet_and_its_length() -> None:
    assert uhid.input2(bytes(range(64))) == struct.pack("=IH", 12, 64) + bytes(range(64))


def test_output_loses_its_report_number() -> None:
    packet = bytes(range(1, 65))
    assert uhid.output_packet(output(b"\0" + packet)) == packet
    assert uhid.output_packet(output(packet)) == packet
    assert uhid.output_packet(output(b"\0" + packet + b"more")) == packet
    assert uhid.output_packet(event(Event.OPEN)) is None
    assert uhid.output_packet(b"") is None
    assert uhid.output_packet(output(packet)[:100]) is None
    assert uhid.output_packet(event(Event.OUTPUT, bytes(4096) + b"\xff\xff\x01")) is not None


def test_reports_that_hosts_ask_for_are_refused() -> None:
    get = event(Event.GET_REPORT, struct.pack("=IBB", 7, 0, 1))
    assert uhid.refusal(get) == struct.pack("=IIHH", 10, 7, errno.EIO, 0)
    assert uhid.refusal(event(Event.SET_REPORT, struct.pack("=IBBH", 8, 0, 1, 0))) == struct.pack(
        "=IIH", 14, 8, errno.EIO
    )
    assert uhid.refusal(event(Event.OPEN)) is None


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, UhidDevice]]:
    """The kernel's end and the device that was made over the other."""
    kernel, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    kernel.settimeout(10)
    other.setblocking(False)
    with kernel:
        made = UhidDevice(IDENTITY, other.detach())
        yield kernel, made
        made.close()


@pytest.fixture
def kernel(pair: tuple[socket.socket, UhidDevice]) -> socket.socket:
    return pair[0]


@pytest.fixture
def device(pair: tuple[socket.socket, UhidDevice]) -> UhidDevice:
    return pair[1]


def test_a_device_is_created_and_destroyed(device: UhidDevice, kernel: socket.socket) -> None:
    assert kernel.recv(8192) == uhid.create2(IDENTITY)
    device.send(b"abc")
    assert kernel.recv(8192) == uhid.input2(b"abc".ljust(64, b"\0"))
    device.close()
    assert kernel.recv(8192) == uhid.destroy()
    assert kernel.recv(8192) == b""
    with pytest.raises(DeviceRemoved):
        device.send(b"abc")
    with pytest.raises(DeviceRemoved):
        device.receive(0)
    device.close()


def test_packets_come_between_other_events(device: UhidDevice, kernel: socket.socket) -> None:
    kernel.recv(8192)
    packet = bytes(range(64))
    for sent in (event(Event.START), event(Event.OPEN), output(b"\0" + packet), event(Event.CLOSE)):
        kernel.send(sent)
    assert device.receive(10) == packet
    assert device.hosts
    assert device.wait_started(0)
    assert device.receive(0) is None
    assert not device.hosts


def test_a_host_that_asks_for_reports_is_answered(device: UhidDevice, kernel: socket.socket) -> None:
    kernel.recv(8192)
    kernel.send(event(Event.GET_REPORT, struct.pack("=IBB", 9, 0, 1)))
    assert device.receive(0.05) is None
    assert kernel.recv(8192) == struct.pack("=IIHH", 10, 9, errno.EIO, 0)


def test_closing_wakes_who_waits(device: UhidDevice, kernel: socket.socket) -> None:
    ended: list[Exception] = []

    def wait() -> None:
        try:
            device.receive(None)
        except DeviceRemoved as err:
            ended.append(err)

    kernel.recv(8192)
    thread = Thread(target=wait)
    thread.start()
    device.close()
    thread.join(SECONDS)
    assert len(ended) == 1


def test_packets_are_no_longer_than_a_report(device: UhidDevice) -> None:
    with pytest.raises(LinkFailed):
        device.send(bytes(65))


def test_a_kernel_without_uhid(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match="no uhid"):
        UhidDevice.open(IDENTITY, tmp_path / "uhid")


def test_a_kernel_that_refuses(tmp_path: Path) -> None:
    descriptor = os.open("/dev/null", os.O_RDONLY)
    with pytest.raises(LinkFailed):
        UhidDevice(IDENTITY, descriptor)
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(descriptor)
