"""Faults of virtual keys: each one does what it says, and the key is itself again afterwards."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tokenbridge.errors import DeviceRemoved
from tokenbridge.rig.key_faults import KeyAction, KeyFault, KeyFaultPlan
from tokenbridge.rig.key_person import Touch
from tokenbridge.rig.virtual_key import VirtualKey
from tokenbridge.transport.packets import PacketSocket
from tokenbridge.wire import ctaphid
from tokenbridge.wire.ctaphid import (
    BROADCAST,
    Assembler,
    ContinuationPacket,
    FrameError,
    HidCommand,
    HidError,
    InitAnswer,
    InitPacket,
    KeepaliveStatus,
    Message,
)

GET_INFO = b"\x04"
SELECTION = b"\x0b"


class Host:
    """Packets and nothing else, so that faults can be seen as they are."""

    def __init__(self, link: PacketSocket) -> None:
        self.link = link
        self.channel = 0

    def open(self) -> None:
        nonce = os.urandom(8)
        self.send(HidCommand.INIT, nonce, BROADCAST)
        while True:
            packet = self.packet()
            if isinstance(packet, InitPacket) and packet.data.startswith(nonce):
                self.channel = InitAnswer.decode(packet.data).channel
                return

    def send(self, command: int, payload: bytes, channel: int | None = None) -> None:
        number = self.channel if channel is None else channel
        for packet in Message(channel=number, command=command, payload=payload).packets():
            self.link.send(packet)

    def packet(self, seconds: float = 10.0) -> InitPacket | ContinuationPacket:
        raw = self.link.receive(seconds)
        assert raw is not None, "the key is silent"
        return ctaphid.parse(raw)

    def message(self) -> Message:
        first = self.packet()
        assert isinstance(first, InitPacket)
        assembler = Assembler(first)
        while not assembler.complete:
            following = self.packet()
            assert isinstance(following, ContinuationPacket)
            assembler.feed(following)
        return assembler.message()

    def ask(self, payload: bytes = GET_INFO) -> Message:
        self.send(HidCommand.CBOR, payload)
        return self.message()


@pytest.fixture
def key() -> Iterator[VirtualKey]:
    made = VirtualKey.create()
    yield made
    made.close()


@pytest.fixture
def host(key: VirtualKey) -> Iterator[Host]:
    made = Host(key.plug_in_process())
    made.open()
    yield made
    made.link.close()


def test_the_key_leaves_before_it_looks_at_a_packet(key: VirtualKey, host: Host) -> None:
    key.faults.arm(KeyFault(action=KeyAction.PULL_IN, at=2))
    assert host.ask().payload[0] == 0
    key.counts.clear()
    host.send(HidCommand.CBOR, GET_INFO)
    with pytest.raises(DeviceRemoved):
        host.packet()
    assert key.counts == {}
    assert key.wait_until_unplugged(10)
    assert not key.plugged


def test_the_key_leaves_after_each_packet_of_its_own(key: VirtualKey, host: Host) -> None:
    key.faults.arm()
    host.ask()
    packets = key.faults.packets_out
    assert packets > 3
    for at in range(1, packets + 1):
        cut = Host(key.plug_in_process())
        cut.open()
        key.faults.arm(KeyFault(action=KeyAction.PULL_OUT, at=at))
        cut.send(HidCommand.CBOR, GET_INFO)
        for _ in range(at):
            cut.packet()
        with pytest.raises(DeviceRemoved):
            cut.packet()
        assert key.wait_until_unplugged(10)
        cut.link.close()


def test_another_channel(key: VirtualKey, host: Host) -> None:
    key.faults.arm(KeyFault(action=KeyAction.WRONG_CHANNEL))
    assert host.ask().channel != host.channel
    assert host.ask().channel == host.channel


def test_another_sequence_also_where_the_answer_is_short(key: VirtualKey, host: Host) -> None:
    for payload in (GET_INFO, SELECTION):
        key.faults.arm(KeyFault(action=KeyAction.WRONG_SEQUENCE))
        host.send(HidCommand.CBOR, payload)
        with pytest.raises(FrameError) as caught:
            host.message()
        assert caught.value.error is HidError.INVALID_SEQ
        host.link.close()
        host.link = key.plug_in_process()
        host.open()


def test_a_length_beyond_all_bounds(key: VirtualKey, host: Host) -> None:
    key.faults.arm(KeyFault(action=KeyAction.OVERSIZE))
    host.send(HidCommand.CBOR, GET_INFO)
    first = host.packet()
    assert isinstance(first, InitPacket)
    assert first.length == 0xFFFF


def test_keepalives_for_ever_until_the_host_begins_anew(key: VirtualKey, host: Host) -> None:
    key.faults.arm(KeyFault(action=KeyAction.KEEPALIVE))
    host.send(HidCommand.CBOR, GET_INFO)
    keepalive = ctaphid.keepalive(host.channel, KeepaliveStatus.PROCESSING)
    assert [host.message() for _ in range(4)] == [keepalive] * 4
    host.send(HidCommand.CANCEL, b"")
    assert host.message() == keepalive
    host.open()
    assert host.ask().payload[0] == 0


def test_answers_that_lie(key: VirtualKey, host: Host) -> None:
    key.faults.arm(KeyFault(action=KeyAction.ANSWER, answer=b"\x00\xff\xff", command=0x04, at=2))
    assert host.ask(SELECTION).payload == b"\x00"
    assert len(host.ask().payload) > 50
    assert host.ask().payload == b"\x00\xff\xff"
    key.faults.arm(KeyFault(action=KeyAction.TRUNCATE, length=20, repeat=True))
    assert [len(host.ask().payload) for _ in range(3)] == [20] * 3
    key.faults.arm(KeyFault(action=KeyAction.ERROR, error=HidError.CHANNEL_BUSY))
    assert host.ask() == ctaphid.error_message(host.channel, HidError.CHANNEL_BUSY)
    key.faults.disarm()
    assert len(host.ask().payload) > 50


def test_half_an_answer_and_none_at_all(key: VirtualKey, host: Host) -> None:
    key.faults.arm(KeyFault(action=KeyAction.HALF), KeyFault(action=KeyAction.SILENCE, at=2))
    host.send(HidCommand.CBOR, SELECTION)
    first = host.packet()
    assert isinstance(first, InitPacket)
    assert first.length > len(first.data)
    host.send(HidCommand.CBOR, SELECTION)
    assert host.link.receive(0.2) is None
    assert host.ask().payload[0] == 0


def test_packets_of_others_come_in_between(key: VirtualKey, host: Host) -> None:
    key.faults.arm(KeyFault(action=KeyAction.FOREIGN))
    host.send(HidCommand.CBOR, GET_INFO)
    channels = [host.packet().channel for _ in range(4)]
    assert [channel == host.channel for channel in channels] == [False, True, False, True]


def test_a_late_answer(key: VirtualKey, host: Host) -> None:
    key.faults.arm(KeyFault(action=KeyAction.DELAY, seconds=0.2))
    host.send(HidCommand.CBOR, GET_INFO)
    assert host.link.receive(0.1) is None
    assert host.message().payload[0] == 0


def test_faults_of_init_are_chosen_by_command_zero(key: VirtualKey, host: Host) -> None:
    key.faults.arm(KeyFault(action=KeyAction.ANSWER, answer=b"", command=0))
    assert host.ask().payload[0] == 0
    host.send(HidCommand.INIT, bytes(8), BROADCAST)
    assert host.message().payload == b""


def test_keepalives_are_no_answers(key: VirtualKey, host: Host) -> None:
    key.person.mode, key.person.seconds = Touch.LATE, 0.25
    key.faults.arm(KeyFault(action=KeyAction.ANSWER, answer=b"\x7f"))
    host.send(HidCommand.CBOR, SELECTION)
    seen = [host.message()]
    while seen[-1].command == HidCommand.KEEPALIVE:
        seen.append(host.message())
    assert len(seen) > 2
    assert seen[-1].payload == b"\x7f"


def test_a_plan_counts_from_when_it_was_armed() -> None:
    plan = KeyFaultPlan()
    plan.arm(KeyFault(action=KeyAction.SILENCE, at=2), KeyFault(action=KeyAction.PULL_IN, at=3))
    assert [plan.on_answer(4) is not None for _ in range(3)] == [False, True, False]
    assert [plan.pulls_in() for _ in range(4)] == [False, False, True, False]
    assert plan.packets_in == 4
    plan.arm(KeyFault(action=KeyAction.SILENCE))
    assert plan.packets_in == 0
    assert plan.on_answer(4) is not None
