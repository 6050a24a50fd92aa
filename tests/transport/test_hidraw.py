"""Which hidraw devices are FIDO keys, as sysfs describes them; and packets over sockets that stand for keys."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.patience import SECONDS
from tokenbridge.errors import AccessDenied, DeviceBusy, DeviceRemoved, LinkFailed
from tokenbridge.transport import hidraw, packets
from tokenbridge.transport.base import PACKET_SIZE, KeyPlace
from tokenbridge.transport.hidraw import HidrawLink, is_fido
from tokenbridge.transport.packets import PacketSocket

# HID report descriptor of CTAP 2.1 section 11.2.8.2.
FIDO = bytes.fromhex("06d0f10901a1010920150026ff00750895408102092115002 6ff00750895409102c0".replace(" ", ""))
KEYBOARD = bytes.fromhex("05010906a101050719e029e715002501750195088102c0")


class Sysfs:
    """A copy of what sysfs shows of hidraw devices."""

    def __init__(self, root: Path) -> None:
        self.root = root / "class"
        self.devices = root / "devices"
        self.root.mkdir()
        self.number = 0

    def plug(self, name: str, descriptor: bytes = FIDO, *, serial: str = "", product: str = "0402") -> None:
        self.number += 1
        device = self.devices / f"0003:1050:{product}.{self.number:04X}"
        device.mkdir(parents=True)
        (device / "report_descriptor").write_bytes(descriptor)
        facts = f"DRIVER=hid-generic\nHID_ID=0003:00001050:0000{product}\nHID_NAME=Test Key\nHID_UNIQ={serial}\n"
        (device / "uevent").write_text(facts)
        (self.root / name).mkdir()
        (self.root / name / "device").symlink_to(device)

    def unplug(self, name: str) -> None:
        (self.root / name / "device").unlink()
        (self.root / name).rmdir()


@pytest.fixture
def sysfs(tmp_path: Path) -> Sysfs:
    return Sysfs(tmp_path)


def test_keys_are_told_from_keyboards(sysfs: Sysfs) -> None:
    sysfs.plug("hidraw0", KEYBOARD)
    sysfs.plug("hidraw1", serial="0A1B")
    (found,) = hidraw.keys(sysfs.root)
    assert found == KeyPlace(
        path="/dev/hidraw1",
        name="Test Key",
        serial="0A1B",
        vendor=0x1050,
        product=0x0402,
        instance="0003:1050:0402.0002",
        usable=os.access("/dev/hidraw1", os.R_OK | os.W_OK),
    )


def test_no_hidraw_at_all(tmp_path: Path) -> None:
    assert hidraw.keys(tmp_path / "nothing") == []


def test_a_device_that_goes_while_it_is_looked_at(sysfs: Sysfs) -> None:
    sysfs.plug("hidraw0")
    (sysfs.root / "hidraw0" / "device").unlink()
    assert hidraw.keys(sysfs.root) == []


@pytest.mark.parametrize(
    "descriptor",
    [b"", KEYBOARD, FIDO[:3], FIDO.replace(b"\xd0\xf1", b"\xd1\xf1"), FIDO.replace(b"\x09\x01", b"\x09\x02"), b"\xfe"],
)
def test_what_is_no_key(descriptor: bytes) -> None:
    assert not is_fido(descriptor)


def test_a_long_item_before_the_usage() -> None:
    assert is_fido(b"\xfe\x02\x10\xaa\xbb" + FIDO)


@given(st.binary(max_size=200))
def test_any_descriptor_is_read_to_its_end(descriptor: bytes) -> None:
    is_fido(descriptor)


@pytest.mark.parametrize("facts", ["", "HID_ID=", "HID_ID=0003", "HID_ID=x:y:z", "HID_ID=1:2:" + "F" * 400, "==\n="])
def test_odd_facts_of_a_device(facts: str) -> None:
    place = hidraw._place("/dev/hidraw0", facts)
    assert 0 <= place.vendor <= 0xFFFF
    assert 0 <= place.product <= 0xFFFF


def test_opening_what_is_not_there() -> None:
    with pytest.raises(DeviceRemoved):
        HidrawLink("/dev/hidraw-none")


def test_opening_what_may_not_be_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    """root may open anything, so the kernel's refusal is played."""

    def refuse(*_: object) -> int:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(AccessDenied) as caught:
        HidrawLink("/dev/hidraw0")
    assert "setup udev" in caught.value.hint


# --- packets over sockets ------------------------------------------------------------------------------------------


def test_packets_go_both_ways_and_stay_apart() -> None:
    host, key = packets.pair()
    host.send(b"one")
    host.send(b"two")
    assert key.receive(1) == b"one".ljust(PACKET_SIZE, b"\0")
    assert key.receive(1) == b"two".ljust(PACKET_SIZE, b"\0")
    assert key.receive(0) is None
    key.send(b"x" * PACKET_SIZE)
    assert host.receive(1) == b"x" * PACKET_SIZE
    for end in (host, key):
        end.close()


def test_the_other_end_is_gone() -> None:
    host, key = packets.pair()
    key.close()
    with pytest.raises(DeviceRemoved):
        host.receive(1)
    with pytest.raises(DeviceRemoved):
        host.send(b"x")
    host.close()


def test_closing_ends_a_wait() -> None:
    host, key = packets.pair()
    ended = threading.Event()

    def wait() -> None:
        with pytest.raises(DeviceRemoved):
            host.receive(None)
        ended.set()

    thread = threading.Thread(target=wait)
    thread.start()
    key.close()
    assert ended.wait(SECONDS)
    thread.join()
    host.close()


def test_a_packet_that_is_too_long() -> None:
    host, key = packets.pair()
    with pytest.raises(LinkFailed):
        host.send(b"x" * (PACKET_SIZE + 1))
    for end in (host, key):
        end.close()


def test_a_flood_is_an_error_and_not_a_wait() -> None:
    host, key = packets.pair()
    with pytest.raises(LinkFailed):
        _flood(host)
    for end in (host, key):
        end.close()


def _flood(end: PacketSocket) -> None:
    for _ in range(100_000):
        end.send(b"x")


def test_a_key_between_processes(tmp_path: Path) -> None:
    path = tmp_path / "blue-0A1B.key"
    listener = packets.listen(path)
    assert [(place.name, place.serial) for place in packets.keys(tmp_path)] == [("blue", "0A1B")]
    host = packets.connect(str(path))
    accepted, _ = listener.accept()
    key = PacketSocket(accepted)
    host.send(b"hello")
    assert (key.receive(1) or b"")[:5] == b"hello"
    for end in (host, key):
        end.close()
    listener.close()
    path.unlink()
    assert packets.keys(tmp_path) == []
    with pytest.raises(DeviceRemoved):
        packets.connect(str(path))


def test_names_of_sockets(tmp_path: Path) -> None:
    for name in ("plain.key", ".hidden.key", "a-b-C9.key", "other.sock"):
        (tmp_path / name).touch()
    found = [(place.name, place.serial) for place in packets.keys(tmp_path)]
    assert found == [("a-b", "C9"), ("plain", "")]


def test_a_place_that_cannot_be_listened_at(tmp_path: Path) -> None:
    with pytest.raises(LinkFailed):
        packets.listen(tmp_path / "missing" / "blue.key")


def test_what_a_key_says_of_itself_draws_nothing_and_is_short() -> None:
    place = hidraw._place(
        "/dev/hidraw0", "HID_NAME=\x1b[2J\u202eKey\u2028HID_UNIQ=1\x85" + "x" * 500 + "\nHID_UNIQ=\x07"
    )
    assert place.name == ("?[2J?Key?HID_UNIQ=1?" + "x" * 500)[:128]
    assert place.serial == "?"


def test_a_socket_that_takes_no_more_hosts_is_not_waited_for(tmp_path: Path) -> None:
    with packets.listen(tmp_path / "full.key"):
        hosts = [packets.connect(str(tmp_path / "full.key")) for _ in range(packets.BACKLOG + 1)]
        with pytest.raises(DeviceBusy):
            packets.connect(str(tmp_path / "full.key"))
        for host in hosts:
            host.close()
