"""The private daemon and the card's connection to it: restart, crash, quick reinsertion, speed, the foreign card."""

from __future__ import annotations

import os
import statistics
import subprocess
import time
from pathlib import Path

import pytest

from tokenbridge.errors import SetupError
from tokenbridge.rig.faults import Action, Fault
from tokenbridge.rig.pcscd import PrivatePcscd, ports_of
from tokenbridge.rig.plugin import CardMaker, Slots
from tokenbridge.rig.readers import await_card
from tokenbridge.rig.virtual_card import VirtualCard
from tokenbridge.rig.vpcd import VpcdConnection
from tokenbridge.transport.pcsc import PcscLink

pytestmark = pytest.mark.pcscd

SELECT_PIV = "00:A4:04:00:09:A0:00:00:03:08:00:00:10:00:00"
STATUS_QUERY = "00:20:00:80"


def test_seen_by_readers_and_ports(pcscd: PrivatePcscd, slots: Slots, run_tool) -> None:
    assert len(pcscd.ports) == 2
    assert ports_of(pcscd.socket_path) == pcscd.ports
    slots.insert(VirtualCard.create(), slot=1)
    listed = [line.split() for line in run_tool("opensc-tool", "-l").splitlines() if "Virtual PCD" in line]
    assert [(line[0], line[1]) for line in listed] == [("0", "No"), ("1", "Yes")]


def test_every_reinsertion_is_noticed(slots: Slots, run_tool) -> None:
    connection = slots.insert(VirtualCard.create())
    for _ in range(4):
        assert "SW1=0x90, SW2=0x00" in run_tool("opensc-tool", "-c", "default", "-s", SELECT_PIV)
        connection.stop()
        assert "No" in run_tool("opensc-tool", "-l")
        connection.start()


def test_whoever_connects_after_an_insertion_finds_the_card(slots: Slots, make_card: CardMaker) -> None:
    reader = slots.pcscd.readers[0]
    with pytest.raises(SetupError, match="does not appear"):
        await_card(reader, 0.1)
    slots.insert(make_card().card)
    PcscLink(reader).close()


def test_card_comes_back_after_the_daemon_restarts(tmp_path: Path) -> None:
    daemon = PrivatePcscd(tmp_path)
    with daemon, VpcdConnection(VirtualCard.create(), daemon.start().ports[0]) as connection:
        for end in (daemon.stop, daemon.kill):
            before = daemon.ports
            end()
            daemon.start()
            assert daemon.ports == before
            deadline = time.monotonic() + 10
            while "No" in (listed := _readers(daemon)).splitlines()[2]:
                assert time.monotonic() < deadline, listed
        assert connection.inserted


def _readers(daemon: PrivatePcscd) -> str:
    environ = {**os.environ, **daemon.environ}
    return subprocess.run(["opensc-tool", "-l"], env=environ, capture_output=True, text=True, check=True).stdout


def test_pull_in_the_middle_is_an_error_for_the_client(slots: Slots, make_card: CardMaker, run_tool) -> None:
    made = make_card()
    connection = slots.insert(made.card)
    connection.faults.arm(Fault(action=Action.PULL_BEFORE, ins=0x20, at=1))
    run_tool("opensc-tool", "-c", "default", "-s", SELECT_PIV, "-s", STATUS_QUERY, ok=False)
    assert connection.wait_pulled()
    connection.faults.disarm()
    connection.start()
    text = run_tool("opensc-tool", "-c", "default", "-s", SELECT_PIV, "-s", STATUS_QUERY)
    assert "SW1=0x63, SW2=0xC3" in text


def test_a_command_takes_no_naggling_forty_milliseconds(slots: Slots, run_tool) -> None:
    connection = slots.insert(VirtualCard.create())
    ends: list[float] = []
    connection.on_exchange = lambda _: ends.append(time.perf_counter())
    run_tool("opensc-tool", "-c", "default", "-s", SELECT_PIV, *(["-s", STATUS_QUERY] * 50))
    gaps = [after - before for before, after in zip(ends[-50:], ends[-49:], strict=False)]
    assert statistics.median(gaps) < 0.030


@pytest.mark.foreign
def test_foreign_card_is_seen(cac_card, run_tool) -> None:
    assert "Yes" in run_tool("opensc-tool", "-l").splitlines()[3]
    assert "CAC" in run_tool("opensc-tool", "-r", "1", "-n")
    answer = run_tool("opensc-tool", "-r", "1", "-c", "default", "-s", SELECT_PIV)
    assert "SW1=0x6A, SW2=0x82" in answer, "no PIV applet"


@pytest.mark.foreign
def test_foreign_card_signs(cac_card, run_tool, opensc_module: Path, tmp_path: Path) -> None:
    (tmp_path / "message").write_bytes(b"message")
    module = ("pkcs11-tool", "--module", opensc_module, "--slot-index", "1")
    files = ("-i", tmp_path / "message", "-o", tmp_path / "signature")
    run_tool(*module, "-l", "-p", cac_card.pin, "--id", "0001", "--sign", "-m", "SHA256-RSA-PKCS", *files)
    assert len((tmp_path / "signature").read_bytes()) == 256
