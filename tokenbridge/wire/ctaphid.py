"""CTAPHID frames for both roles: packets, messages cut into packets and put together again. No I/O and no clock.

Client to Authenticator Protocol (CTAP) 2.1 section 11.2.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum, IntFlag, unique
from typing import Final

PACKET_SIZE: Final = 64
INIT_DATA: Final = PACKET_SIZE - 7
CONTINUATION_DATA: Final = PACKET_SIZE - 5
MAX_SEQUENCE: Final = 0x7F
MAX_MESSAGE: Final = INIT_DATA + (MAX_SEQUENCE + 1) * CONTINUATION_DATA
"""7609 bytes (section 11.2.4)."""
RESERVED_CHANNEL: Final = 0
BROADCAST: Final = 0xFFFFFFFF
NONCE_SIZE: Final = 8
INIT_ANSWER_SIZE: Final = 17
PROTOCOL_VERSION: Final = 2
KEEPALIVE_SECONDS: Final = 0.1
"""Section 11.2.9.2.1: a keepalive at least every 100 ms while a request is processed."""
MESSAGE_SECONDS: Final = 0.5
"""Longest wait for the next packet of a message."""
MAX_LOCK_SECONDS: Final = 10

_TYPE_INIT: Final = 0x80


@unique
class HidCommand(IntEnum):
    """Section 11.2.9, without the type bit."""

    PING = 0x01
    MSG = 0x03
    LOCK = 0x04
    INIT = 0x06
    WINK = 0x08
    CBOR = 0x10
    CANCEL = 0x11
    KEEPALIVE = 0x3B
    ERROR = 0x3F


@unique
class HidError(IntEnum):
    """Section 11.2.9.1.6."""

    INVALID_CMD = 0x01
    INVALID_PAR = 0x02
    INVALID_LEN = 0x03
    INVALID_SEQ = 0x04
    MSG_TIMEOUT = 0x05
    CHANNEL_BUSY = 0x06
    LOCK_REQUIRED = 0x0A
    INVALID_CHANNEL = 0x0B
    OTHER = 0x7F


@unique
class KeepaliveStatus(IntEnum):
    """Section 11.2.9.2.1."""

    PROCESSING = 1
    UPNEEDED = 2


class Capability(IntFlag):
    """Flags of the INIT answer (section 11.2.9.1.3). `NMSG`: no CTAP1."""

    WINK = 0x01
    CBOR = 0x04
    NMSG = 0x08


class FrameError(ValueError):
    """The bytes are not a packet, or do not continue the message."""

    def __init__(self, error: HidError, channel: int) -> None:
        self.error = error
        self.channel = channel
        super().__init__(f"{error.name} on channel {channel:08x}")


@dataclass(frozen=True, slots=True, kw_only=True)
class InitPacket:
    """Begins a message. `command` has no type bit and may be unknown; `length` is the whole message's."""

    channel: int
    command: int
    length: int
    data: bytes

    def encode(self) -> bytes:
        head = self.channel.to_bytes(4, "big") + bytes([_TYPE_INIT | self.command]) + self.length.to_bytes(2, "big")
        return (head + self.data).ljust(PACKET_SIZE, b"\0")


@dataclass(frozen=True, slots=True, kw_only=True)
class ContinuationPacket:
    """Goes on with a message; `sequence` counts from 0 to 127."""

    channel: int
    sequence: int
    data: bytes

    def encode(self) -> bytes:
        return (self.channel.to_bytes(4, "big") + bytes([self.sequence]) + self.data).ljust(PACKET_SIZE, b"\0")


Packet = InitPacket | ContinuationPacket


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One whole message of either direction. `command` may be none of `HidCommand`."""

    channel: int
    command: int
    payload: bytes = b""

    def packets(self) -> Iterator[bytes]:
        """The packets of `PACKET_SIZE` bytes that carry it; raises `FrameError` beyond `MAX_MESSAGE` bytes."""
        if len(self.payload) > MAX_MESSAGE:
            raise FrameError(HidError.INVALID_LEN, self.channel)
        first, rest = self.payload[:INIT_DATA], self.payload[INIT_DATA:]
        yield InitPacket(channel=self.channel, command=self.command, length=len(self.payload), data=first).encode()
        for sequence, start in enumerate(range(0, len(rest), CONTINUATION_DATA)):
            data = rest[start : start + CONTINUATION_DATA]
            yield ContinuationPacket(channel=self.channel, sequence=sequence, data=data).encode()


def error_message(channel: int, error: HidError) -> Message:
    return Message(channel=channel, command=HidCommand.ERROR, payload=bytes([error]))


def keepalive(channel: int, status: KeepaliveStatus) -> Message:
    return Message(channel=channel, command=HidCommand.KEEPALIVE, payload=bytes([status]))


def parse(packet: bytes) -> Packet:
    """One packet; `length` of the message is not checked here. Raises `FrameError` if the size is wrong."""
    if len(packet) != PACKET_SIZE:
        raise FrameError(HidError.INVALID_LEN, RESERVED_CHANNEL)
    channel = int.from_bytes(packet[:4], "big")
    if packet[4] & _TYPE_INIT:
        length = int.from_bytes(packet[5:7], "big")
        return InitPacket(channel=channel, command=packet[4] & ~_TYPE_INIT, length=length, data=packet[7:])
    return ContinuationPacket(channel=channel, sequence=packet[4], data=packet[5:])


class Assembler:
    """Puts one message of one channel together. Never holds more than `MAX_MESSAGE` bytes.

    It serves one message at a time: who may begin one, and what becomes of other channels' packets, is the caller's.
    """

    def __init__(self, first: InitPacket) -> None:
        """Raises `FrameError` if the message would be too long."""
        if first.length > MAX_MESSAGE:
            raise FrameError(HidError.INVALID_LEN, first.channel)
        self.channel = first.channel
        self.command = first.command
        self._length = first.length
        self._data = bytearray(first.data[: first.length])
        self._sequence = 0

    @property
    def complete(self) -> bool:
        return len(self._data) >= self._length

    def feed(self, packet: ContinuationPacket) -> None:
        """Raises `FrameError` if it belongs to another channel or is not the next one."""
        if packet.channel != self.channel:
            raise FrameError(HidError.INVALID_CHANNEL, packet.channel)
        if packet.sequence != self._sequence or self.complete:
            raise FrameError(HidError.INVALID_SEQ, self.channel)
        self._sequence += 1
        self._data += packet.data[: self._length - len(self._data)]

    def message(self) -> Message:
        """The message, once it is `complete`."""
        return Message(channel=self.channel, command=self.command, payload=bytes(self._data))


@dataclass(frozen=True, slots=True, kw_only=True)
class InitAnswer:
    """What a device answers to INIT (section 11.2.9.1.3)."""

    nonce: bytes
    channel: int
    capabilities: Capability
    version: int = PROTOCOL_VERSION
    device_version: tuple[int, int, int] = (0, 0, 0)

    def encode(self) -> bytes:
        return (
            self.nonce
            + self.channel.to_bytes(4, "big")
            + bytes([self.version, *self.device_version, int(self.capabilities)])
        )

    @classmethod
    def decode(cls, payload: bytes) -> InitAnswer:
        """Raises `FrameError` if it is too short; later versions may be longer."""
        if len(payload) < INIT_ANSWER_SIZE:
            raise FrameError(HidError.INVALID_LEN, BROADCAST)
        major, minor, build = payload[13:16]
        return cls(
            nonce=payload[:8],
            channel=int.from_bytes(payload[8:12], "big"),
            version=payload[12],
            device_version=(major, minor, build),
            capabilities=Capability(payload[16]),
        )
