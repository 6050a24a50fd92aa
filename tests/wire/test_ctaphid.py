"""CTAPHID frames: exact bytes, and messages put together again in spite of everything."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokenbridge.wire import ctaphid
from tokenbridge.wire.ctaphid import (
    BROADCAST,
    MAX_MESSAGE,
    Assembler,
    Capability,
    ContinuationPacket,
    FrameError,
    HidCommand,
    HidError,
    InitAnswer,
    InitPacket,
    KeepaliveStatus,
    Message,
)

CHANNEL = 0x01020304
channels = st.integers(0, BROADCAST)


def assembled(packets: list[bytes]) -> Message:
    first = ctaphid.parse(packets[0])
    assert isinstance(first, InitPacket)
    assembler = Assembler(first)
    for raw in packets[1:]:
        packet = ctaphid.parse(raw)
        assert isinstance(packet, ContinuationPacket)
        assembler.feed(packet)
    assert assembler.complete
    return assembler.message()


def test_a_short_message_is_one_packet_with_its_command_bit_set() -> None:
    [packet] = Message(channel=CHANNEL, command=HidCommand.PING, payload=b"abc").packets()
    assert packet == bytes.fromhex("01020304 81 0003 616263").ljust(64, b"\0")


def test_a_long_message_goes_on_in_numbered_packets() -> None:
    payload = bytes(range(120))
    packets = list(Message(channel=CHANNEL, command=HidCommand.CBOR, payload=payload).packets())
    assert [packet[:7] for packet in packets[:1]] == [bytes.fromhex("01020304 90 0078")]
    assert [packet[:5] for packet in packets[1:]] == [bytes.fromhex("0102030400"), bytes.fromhex("0102030401")]
    assert packets[0][7:] + packets[1][5:] + packets[2][5:9] == payload
    assert packets[2][9:] == bytes(55)


def test_the_longest_message_has_7609_bytes_and_a_longer_one_is_refused() -> None:
    assert MAX_MESSAGE == 7609
    packets = list(Message(channel=1, command=HidCommand.PING, payload=bytes(MAX_MESSAGE)).packets())
    assert len(packets) == 129
    assert packets[-1][4] == 0x7F
    with pytest.raises(FrameError) as caught:
        list(Message(channel=1, command=HidCommand.PING, payload=bytes(MAX_MESSAGE + 1)).packets())
    assert caught.value.error is HidError.INVALID_LEN


@given(channels, st.integers(0, 0x7F), st.binary(max_size=MAX_MESSAGE))
def test_what_was_cut_is_put_together_again(channel: int, command: int, payload: bytes) -> None:
    message = Message(channel=channel, command=command, payload=payload)
    packets = list(message.packets())
    assert all(len(packet) == 64 for packet in packets)
    assert assembled(packets) == message


@given(st.binary(min_size=64, max_size=64))
def test_every_packet_of_64_bytes_is_one_and_is_encoded_as_it_was(raw: bytes) -> None:
    assert ctaphid.parse(raw).encode() == raw


@pytest.mark.parametrize("size", [0, 1, 63, 65])
def test_packets_of_other_sizes_are_none(size: int) -> None:
    with pytest.raises(FrameError):
        ctaphid.parse(bytes(size))


def test_a_message_that_says_it_is_too_long_is_refused_before_anything_is_kept() -> None:
    first = InitPacket(channel=CHANNEL, command=HidCommand.CBOR, length=MAX_MESSAGE + 1, data=b"")
    with pytest.raises(FrameError) as caught:
        Assembler(first)
    assert (caught.value.error, caught.value.channel) == (HidError.INVALID_LEN, CHANNEL)


@pytest.mark.parametrize("sequence", [1, 0x7F])
def test_a_packet_out_of_order_is_refused(sequence: int) -> None:
    assembler = Assembler(InitPacket(channel=CHANNEL, command=HidCommand.CBOR, length=200, data=bytes(57)))
    with pytest.raises(FrameError) as caught:
        assembler.feed(ContinuationPacket(channel=CHANNEL, sequence=sequence, data=bytes(59)))
    assert caught.value.error is HidError.INVALID_SEQ


def test_a_packet_too_many_or_of_another_channel_is_refused() -> None:
    assembler = Assembler(InitPacket(channel=CHANNEL, command=HidCommand.CBOR, length=3, data=b"abc"))
    assert assembler.complete
    with pytest.raises(FrameError):
        assembler.feed(ContinuationPacket(channel=CHANNEL, sequence=0, data=bytes(59)))
    with pytest.raises(FrameError) as caught:
        assembler.feed(ContinuationPacket(channel=CHANNEL + 1, sequence=0, data=bytes(59)))
    assert caught.value.error is HidError.INVALID_CHANNEL


def test_padding_after_the_message_is_not_part_of_it() -> None:
    first = InitPacket(channel=1, command=HidCommand.PING, length=2, data=b"ab" + bytes(55))
    assert Assembler(first).message().payload == b"ab"


def test_answer_to_init_has_exact_bytes() -> None:
    answer = InitAnswer(
        nonce=bytes(range(8)),
        channel=CHANNEL,
        capabilities=Capability.WINK | Capability.CBOR,
        device_version=(5, 4, 3),
    )
    assert answer.encode() == bytes.fromhex("0001020304050607 01020304 02 050403 05")
    assert InitAnswer.decode(answer.encode()) == answer
    assert InitAnswer.decode(answer.encode() + b"later") == answer
    with pytest.raises(FrameError):
        InitAnswer.decode(answer.encode()[:-1])


def test_errors_and_keepalives_have_one_byte() -> None:
    assert ctaphid.error_message(1, HidError.CHANNEL_BUSY).payload == b"\x06"
    [packet] = ctaphid.keepalive(1, KeepaliveStatus.UPNEEDED).packets()
    assert packet[:8] == bytes.fromhex("00000001 bb 0001 02")
