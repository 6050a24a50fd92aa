"""CTAPHID at the device: channels, order, keepalives, cancellation, time-outs. The clock stands still unless told."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

import pytest
from fido2 import cbor

from tokenbridge.authenticator.commands import CommandByte
from tokenbridge.authenticator.hid import HidDevice
from tokenbridge.authenticator.ports import StoreFault
from tokenbridge.authenticator.status import Status
from tokenbridge.rig.key_person import Touch
from tokenbridge.wire import ctaphid
from tokenbridge.wire.apdu import SW
from tokenbridge.wire.ctaphid import (
    BROADCAST,
    Assembler,
    Capability,
    HidCommand,
    HidError,
    InitAnswer,
    InitPacket,
    KeepaliveStatus,
    Message,
)

from .conftest import CHALLENGE_U2F, DIGEST, RP_HASH, Bench, register

NONCE = bytes(range(8))


class ManualJobs:
    """Jobs are done when the test says so."""

    def __init__(self, *, at_once: bool = True) -> None:
        self.at_once = at_once
        self.open: list[tuple[Callable[[], Any], Future[Any]]] = []

    def start(self, job: Callable[[], Any]) -> Future[Any]:
        future: Future[Any] = Future()
        self.open.append((job, future))
        if self.at_once:
            self.finish()
        return future

    def finish(self) -> None:
        for job, future in self.open:
            try:
                future.set_result(job())
            except StoreFault as err:
                future.set_exception(err)
        self.open.clear()


class Host:
    """Speaks to one device; `now` is the bench's clock."""

    def __init__(self, bench: Bench, jobs: ManualJobs | None = None) -> None:
        self.bench = bench
        self.jobs = jobs or ManualJobs()
        self.heard: list[Message] = []
        self.device = HidDevice(bench.device, bench.person, self.jobs, on_command=self.heard.append)

    def packet(self, packet: bytes) -> list[Message]:
        return messages(self.device.feed(packet, self.bench.clock.now()))

    def send(self, channel: int, command: int, payload: bytes = b"") -> list[Message]:
        answers: list[Message] = []
        for packet in Message(channel=channel, command=command, payload=payload).packets():
            answers += self.packet(packet)
        return answers

    def tick(self, seconds: float = 0.0) -> list[Message]:
        self.bench.clock.advance(seconds)
        return messages(self.device.tick(self.bench.clock.now()))

    def open(self) -> int:
        [answer] = self.send(BROADCAST, HidCommand.INIT, NONCE)
        return InitAnswer.decode(answer.payload).channel

    def wakeup(self) -> float | None:
        return self.device.next_wakeup(self.bench.clock.now())


def messages(packets: list[bytes]) -> list[Message]:
    found: list[Message] = []
    assembler: Assembler | None = None
    for raw in packets:
        packet = ctaphid.parse(raw)
        if isinstance(packet, InitPacket):
            assembler = Assembler(packet)
        else:
            assert assembler is not None
            assembler.feed(packet)
        if assembler.complete:
            found.append(assembler.message())
    return found


def error(channel: int, code: HidError) -> list[Message]:
    return [ctaphid.error_message(channel, code)]


@pytest.fixture
def host(bench: Bench) -> Host:
    return Host(bench)


@pytest.fixture
def waiting(host: Host) -> tuple[Host, int]:
    """A host whose registration waits for a touch, and its channel."""
    host.bench.person.mode = Touch.COMMAND
    channel = host.open()
    [keepalive] = host.send(channel, HidCommand.CBOR, b"\x01" + cbor.encode(register()))
    assert keepalive == ctaphid.keepalive(channel, KeepaliveStatus.UPNEEDED)
    return host, channel


# --- channels ----------------------------------------------------------------------------------------------------


def test_each_broadcast_init_gives_another_channel(host: Host) -> None:
    [answer] = host.send(BROADCAST, HidCommand.INIT, NONCE)
    said = InitAnswer.decode(answer.payload)
    assert (answer.channel, said.nonce, said.version) == (BROADCAST, NONCE, 2)
    assert said.capabilities == Capability.WINK | Capability.CBOR
    channels = {said.channel} | {host.open() for _ in range(5)}
    assert len(channels) == 6
    assert not channels & {0, BROADCAST}


def test_a_device_without_ctap1_says_so(make_bench: Callable[..., Bench]) -> None:
    host = Host(make_bench(u2f=False))
    [answer] = host.send(BROADCAST, HidCommand.INIT, NONCE)
    assert InitAnswer.decode(answer.payload).capabilities & Capability.NMSG
    assert host.send(host.open(), HidCommand.MSG, bytes([0, 3, 0, 0])) == error(host.open() - 1, HidError.INVALID_CMD)


@pytest.mark.parametrize("channel", [0, BROADCAST, 12345])
def test_channels_that_were_not_given_are_invalid(host: Host, channel: int) -> None:
    assert host.send(channel, HidCommand.PING, b"x") == error(channel, HidError.INVALID_CHANNEL)


def test_init_on_a_channel_that_was_not_given_is_refused(host: Host) -> None:
    assert host.send(4711, HidCommand.INIT, NONCE) == error(4711, HidError.INVALID_CHANNEL)


@pytest.mark.parametrize("nonce", [b"", bytes(7), bytes(9)])
def test_init_has_a_nonce_of_eight_bytes(host: Host, nonce: bytes) -> None:
    assert host.send(BROADCAST, HidCommand.INIT, nonce) == error(BROADCAST, HidError.INVALID_LEN)


def test_the_oldest_channels_are_forgotten_in_the_end(host: Host) -> None:
    first = host.open()
    for _ in range(1 << 16):
        last = host.open()
    assert host.send(first, HidCommand.PING, b"x") == error(first, HidError.INVALID_CHANNEL)
    assert host.send(last, HidCommand.PING, b"x")[0].payload == b"x"


# --- messages ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 1, 57, 58, 116, 117, 1000, 7609])
def test_ping_gives_back_what_it_got(host: Host, size: int) -> None:
    payload = bytes(i & 0xFF for i in range(size))
    channel = host.open()
    assert host.send(channel, HidCommand.PING, payload) == [
        Message(channel=channel, command=HidCommand.PING, payload=payload)
    ]


def test_wink(host: Host) -> None:
    channel = host.open()
    assert host.send(channel, HidCommand.WINK) == [Message(channel=channel, command=HidCommand.WINK)]
    assert host.bench.person.winks == 1
    assert host.send(channel, HidCommand.WINK, b"x") == error(channel, HidError.INVALID_LEN)


@pytest.mark.parametrize("command", [0x02, 0x3B, 0x3F, 0x40, 0x7F])
def test_unknown_commands(host: Host, command: int) -> None:
    channel = host.open()
    assert host.send(channel, command, b"x") == error(channel, HidError.INVALID_CMD)


@pytest.mark.parametrize("command", [HidCommand.CBOR, HidCommand.MSG])
def test_empty_requests(host: Host, command: HidCommand) -> None:
    channel = host.open()
    assert host.send(channel, command) == error(channel, HidError.INVALID_LEN)


def test_a_message_that_says_it_is_too_long(host: Host) -> None:
    channel = host.open()
    packet = InitPacket(channel=channel, command=HidCommand.CBOR, length=7610, data=b"").encode()
    assert host.packet(packet) == error(channel, HidError.INVALID_LEN)
    assert host.wakeup() is None


@pytest.mark.parametrize("size", [0, 1, 63, 65, 128])
def test_packets_of_other_sizes_are_ignored(host: Host, size: int) -> None:
    assert host.packet(bytes(size)) == []


def test_a_packet_out_of_order_ends_the_message(host: Host) -> None:
    channel = host.open()
    first, second, third = Message(channel=channel, command=HidCommand.PING, payload=bytes(150)).packets()
    assert host.packet(first) == []
    assert host.packet(third) == error(channel, HidError.INVALID_SEQ)
    assert host.packet(second) == []
    assert host.send(channel, HidCommand.PING, b"x")[0].payload == b"x"


def test_a_new_message_inside_another_ends_it(host: Host) -> None:
    channel = host.open()
    first, *_ = Message(channel=channel, command=HidCommand.PING, payload=bytes(150)).packets()
    host.packet(first)
    assert host.packet(first) == error(channel, HidError.INVALID_SEQ)
    assert host.packet(first) == []


def test_a_message_that_does_not_go_on_times_out(host: Host) -> None:
    channel = host.open()
    first, second, _ = Message(channel=channel, command=HidCommand.PING, payload=bytes(150)).packets()
    host.packet(first)
    assert host.wakeup() == pytest.approx(0.5)
    assert host.tick(0.4) == []
    assert host.packet(second) == []
    assert host.tick(0.4) == []
    assert host.tick(0.11) == error(channel, HidError.MSG_TIMEOUT)
    assert host.wakeup() is None


def test_init_on_the_channel_starts_it_afresh(host: Host) -> None:
    channel = host.open()
    first, *_ = Message(channel=channel, command=HidCommand.PING, payload=bytes(150)).packets()
    host.packet(first)
    [answer] = host.send(channel, HidCommand.INIT, NONCE)
    assert InitAnswer.decode(answer.payload).channel == channel
    assert host.send(channel, HidCommand.PING, b"x")[0].payload == b"x"


def test_while_one_message_comes_in_others_have_to_wait(host: Host) -> None:
    mine, other = host.open(), host.open()
    first, second, third = Message(channel=mine, command=HidCommand.PING, payload=bytes(150)).packets()
    host.packet(first)
    assert host.send(other, HidCommand.PING, b"x") == error(other, HidError.CHANNEL_BUSY)
    stray = ctaphid.ContinuationPacket(channel=other, sequence=0, data=bytes(59)).encode()
    assert host.packet(stray) == []
    host.open()
    assert host.packet(second) == []
    assert host.packet(third)[0].payload == bytes(150)


# --- a request that waits ----------------------------------------------------------------------------------------


def test_a_touch_answers(waiting: tuple[Host, int]) -> None:
    host, channel = waiting
    assert host.tick(0.05) == []
    host.bench.person.touch()
    [answer] = host.tick(0.01)
    assert (answer.channel, answer.command, answer.payload[0]) == (channel, HidCommand.CBOR, Status.OK)
    assert host.bench.person.asked is None
    assert host.wakeup() is None


def test_keepalives_come_every_hundred_milliseconds(waiting: tuple[Host, int]) -> None:
    host, channel = waiting
    keepalive = ctaphid.keepalive(channel, KeepaliveStatus.UPNEEDED)
    assert [host.tick(0.0625) for _ in range(4)] == [[], [keepalive], [], [keepalive]]
    assert host.wakeup() == pytest.approx(0.05)
    assert [host.tick(0.125) for _ in range(100)] == [[keepalive]] * 100


def test_after_thirty_seconds_nobody_is_waited_for(waiting: tuple[Host, int]) -> None:
    host, _ = waiting
    host.tick(29.9)
    [answer] = host.tick(0.1)
    assert answer.payload == bytes([Status.USER_ACTION_TIMEOUT])
    assert host.bench.person.asked is None


def test_cancel_ends_it_and_has_no_answer_of_its_own(waiting: tuple[Host, int]) -> None:
    host, channel = waiting
    assert host.send(channel, HidCommand.CANCEL) == [
        Message(channel=channel, command=HidCommand.CBOR, payload=bytes([Status.KEEPALIVE_CANCEL]))
    ]
    assert host.bench.person.asked is None
    assert host.send(channel, HidCommand.CANCEL) == []
    assert host.send(channel, HidCommand.PING, b"x")[0].payload == b"x"


def test_another_channel_can_neither_cancel_nor_come_in_between(waiting: tuple[Host, int]) -> None:
    host, channel = waiting
    other = host.open()
    assert host.send(other, HidCommand.CANCEL) == []
    assert host.send(other, HidCommand.CBOR, b"\x04") == error(other, HidError.CHANNEL_BUSY)
    assert host.send(channel, HidCommand.PING, b"x") == error(channel, HidError.CHANNEL_BUSY)
    [answer] = host.send(other, HidCommand.INIT, NONCE)
    assert InitAnswer.decode(answer.payload).channel == other
    host.bench.person.touch()
    assert host.tick()[0].payload[0] == Status.OK


def test_init_on_its_channel_gives_it_up_without_an_answer(waiting: tuple[Host, int]) -> None:
    host, channel = waiting
    [answer] = host.send(channel, HidCommand.INIT, NONCE)
    assert answer.command == HidCommand.INIT
    assert host.bench.person.asked is None
    assert host.tick(1.0) == []
    assert host.bench.memory.counter == 0


def test_power_lost_while_waiting(waiting: tuple[Host, int]) -> None:
    host, _ = waiting
    host.device.power_down()
    assert host.bench.person.asked is None
    assert host.tick(1.0) == []


def test_a_slow_job_is_told_as_processing(bench: Bench) -> None:
    host = Host(bench, ManualJobs(at_once=False))
    channel = host.open()
    request = b"\x01" + cbor.encode(register(algorithms=[{"alg": -257, "type": "public-key"}]))
    assert host.send(channel, HidCommand.CBOR, request) == []
    assert host.wakeup() == pytest.approx(0.02)
    assert host.tick(0.1) == [ctaphid.keepalive(channel, KeepaliveStatus.PROCESSING)]
    host.jobs.finish()
    assert host.tick() == []
    host.jobs.finish()
    assert host.tick()[0].payload[0] == Status.OK


def test_a_slow_job_can_be_cancelled_and_its_result_is_dropped(bench: Bench) -> None:
    host = Host(bench, ManualJobs(at_once=False))
    channel = host.open()
    host.send(channel, HidCommand.CBOR, b"\x01" + cbor.encode(register(options={"rk": True})))
    assert host.send(channel, HidCommand.CANCEL)[0].payload == bytes([Status.KEEPALIVE_CANCEL])
    host.jobs.finish()
    assert host.tick() == []
    assert bench.memory.credentials == []


# --- lock and CTAP1 ----------------------------------------------------------------------------------------------


def test_a_lock_keeps_others_out_for_a_while(host: Host) -> None:
    mine, other = host.open(), host.open()
    assert host.send(mine, HidCommand.LOCK, b"\x05") == [Message(channel=mine, command=HidCommand.LOCK)]
    assert host.send(other, HidCommand.PING, b"x") == error(other, HidError.CHANNEL_BUSY)
    assert host.send(mine, HidCommand.PING, b"x")[0].payload == b"x"
    host.bench.clock.advance(5)
    assert host.send(other, HidCommand.PING, b"x")[0].payload == b"x"


def test_a_lock_is_given_back_and_has_its_limits(host: Host) -> None:
    mine, other = host.open(), host.open()
    host.send(mine, HidCommand.LOCK, b"\x05")
    host.send(mine, HidCommand.LOCK, b"\x00")
    assert host.send(other, HidCommand.PING, b"x")[0].payload == b"x"
    assert host.send(mine, HidCommand.LOCK, b"\x0b") == error(mine, HidError.INVALID_PAR)
    assert host.send(mine, HidCommand.LOCK) == error(mine, HidError.INVALID_LEN)


U2F_REGISTER = bytes([0, 1, 0, 0, 0, 0, 64]) + CHALLENGE_U2F + RP_HASH + bytes(2)


def test_ctap1_is_answered_at_once_and_the_touch_counts_for_the_next_try(host: Host) -> None:
    person = host.bench.person
    person.mode = Touch.COMMAND
    channel = host.open()
    not_yet = SW.CONDITIONS_NOT_SATISFIED.to_bytes(2, "big")
    assert host.send(channel, HidCommand.MSG, U2F_REGISTER)[0].payload == not_yet
    assert person.asked is not None
    person.touch()
    host.bench.clock.advance(0.2)
    [answer] = host.send(channel, HidCommand.MSG, U2F_REGISTER)
    assert answer.payload[-2:] == b"\x90\x00"
    assert person.asked is None


def test_a_late_touch_by_someone_who_wanted_something_else(host: Host) -> None:
    """`LATE` counts from the first time the host asked, until it stops asking."""
    person = host.bench.person
    person.mode, person.seconds = Touch.LATE, 1.0
    channel = host.open()
    words = []
    for _ in range(6):
        words.append(host.send(channel, HidCommand.MSG, U2F_REGISTER)[0].payload[-2:])
        host.bench.clock.advance(0.25)
    assert words == [b"\x69\x85"] * 4 + [b"\x90\x00"] + [b"\x69\x85"]
    host.bench.clock.advance(5)
    assert host.send(channel, HidCommand.MSG, U2F_REGISTER)[0].payload == b"\x69\x85"


def test_a_ctap1_host_that_stops_asking_leaves_no_blinking_key(host: Host) -> None:
    person = host.bench.person
    person.mode = Touch.NEVER
    host.send(host.open(), HidCommand.MSG, U2F_REGISTER)
    assert host.wakeup() == pytest.approx(2.0)
    assert host.tick(1.9) == []
    assert person.asked is not None
    assert host.tick(0.2) == []
    assert person.asked is None
    assert host.wakeup() is None


def test_every_whole_message_is_told(host: Host) -> None:
    channel = host.open()
    host.send(channel, HidCommand.CBOR, bytes([CommandByte.GET_INFO]))
    assert [(one.command, one.payload) for one in host.heard] == [(HidCommand.INIT, NONCE), (HidCommand.CBOR, b"\x04")]
    assert len(DIGEST) == 32
