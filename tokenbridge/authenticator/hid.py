"""The authenticator behind CTAPHID: packets in, packets out (CTAP 2.1 section 11.2). Sans-I/O: time is a parameter.

One message is received, carried out and answered at a time. Meanwhile keepalives go out, CANCEL and INIT are heard and
all else is told that the channel is busy. Memory is bounded: one message, and three numbers for all channels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

from tokenbridge.authenticator.authenticator import Authenticator
from tokenbridge.authenticator.execution import Execution
from tokenbridge.authenticator.ports import Jobs, Presence
from tokenbridge.wire import ctaphid
from tokenbridge.wire.ctaphid import (
    BROADCAST,
    MAX_LOCK_SECONDS,
    MESSAGE_SECONDS,
    RESERVED_CHANNEL,
    Assembler,
    Capability,
    ContinuationPacket,
    FrameError,
    HidCommand,
    HidError,
    InitAnswer,
    InitPacket,
    Message,
)

MAX_CHANNELS: Final = 1 << 16
"""Channels that are valid at a time: the numbers go round, and the oldest are forgotten."""


class HidDevice:
    """One device at one connection. All methods belong to one thread; each returns the packets to send, in order.

    `on_command` is told the channel and each message that was received whole.
    """

    def __init__(
        self,
        authenticator: Authenticator,
        presence: Presence,
        jobs: Jobs,
        *,
        on_command: Callable[[Message], None] | None = None,
    ) -> None:
        self._authenticator = authenticator
        self._presence = presence
        self._execution = Execution(presence, jobs)
        self._on_command = on_command or (lambda _message: None)
        random = authenticator.core.world.random
        self._first = int.from_bytes(random.bytes(3), "big") + 1
        self._given = 0
        self._assembler: Assembler | None = None
        self._assemble_until = 0.0
        self._lock: tuple[int, float] | None = None

    # --- in -------------------------------------------------------------------------------------------------

    def feed(self, packet: bytes, now: float) -> list[bytes]:
        """A packet from the host. Nothing raises, whatever it holds."""
        try:
            messages = self._received(ctaphid.parse(packet), now)
        except FrameError as error:
            messages = self._refused(error)
        return _packets(messages)

    def tick(self, now: float) -> list[bytes]:
        """Time has passed: time-outs, keepalives, people who touched, jobs that are done."""
        messages: list[Message] = []
        if self._assembler is not None and now >= self._assemble_until:
            messages.append(ctaphid.error_message(self._assembler.channel, HidError.MSG_TIMEOUT))
            self._assembler = None
        messages += self._execution.proceed(now)
        return _packets(messages)

    def next_wakeup(self, now: float) -> float | None:
        """Seconds until `tick` is wanted, None if only a packet can change anything."""
        moments = [] if self._assembler is None else [self._assemble_until]
        moment = self._execution.next_moment(now)
        moments += [] if moment is None else [moment]
        return max(0.0, min(moments) - now) if moments else None

    def power_down(self) -> None:
        """The device loses its power: whatever was asked of a person is asked no more."""
        self._assembler = None
        self._execution.power_down()

    # --- packets --------------------------------------------------------------------------------------------

    def _received(self, packet: InitPacket | ContinuationPacket, now: float) -> list[Message]:
        if isinstance(packet, ContinuationPacket):
            return self._continued(packet, now)
        if packet.command == HidCommand.INIT:
            return self._init(packet)
        if packet.channel == BROADCAST or not self._known(packet.channel):
            raise FrameError(HidError.INVALID_CHANNEL, packet.channel)
        if packet.command == HidCommand.CANCEL:
            return self._execution.cancel(packet.channel)
        return self._begun(packet, now)

    def _begun(self, packet: InitPacket, now: float) -> list[Message]:
        """The first packet of a message that may have to wait its turn."""
        if self._assembler is not None:
            # section 11.2.5.4: the same channel is out of step, another one is too early
            same = self._assembler.channel == packet.channel
            raise FrameError(HidError.INVALID_SEQ if same else HidError.CHANNEL_BUSY, packet.channel)
        if self._execution.channel is not None or self._locked_out(packet.channel, now):
            raise FrameError(HidError.CHANNEL_BUSY, packet.channel)
        self._assembler = Assembler(packet)
        return self._assembled(now)

    def _continued(self, packet: ContinuationPacket, now: float) -> list[Message]:
        """One that belongs to no message is ignored (section 11.2.5.3)."""
        if self._assembler is None or packet.channel != self._assembler.channel:
            return []
        self._assembler.feed(packet)
        return self._assembled(now)

    def _assembled(self, now: float) -> list[Message]:
        if self._assembler is None or not self._assembler.complete:
            self._assemble_until = now + MESSAGE_SECONDS
            return []
        message, self._assembler = self._assembler.message(), None
        self._on_command(message)
        return self._execute(message, now)

    def _refused(self, error: FrameError) -> list[Message]:
        """Packets of the wrong size can't be answered: it is not known to whom."""
        if self._assembler is not None and self._assembler.channel == error.channel:
            self._assembler = None
        if error.channel == RESERVED_CHANNEL and error.error is HidError.INVALID_LEN:
            return []
        return [ctaphid.error_message(error.channel, error.error)]

    # --- channels -------------------------------------------------------------------------------------------

    def _known(self, channel: int) -> bool:
        newest = self._first + self._given
        return max(self._first, newest - MAX_CHANNELS) <= channel < newest

    def _init(self, packet: InitPacket) -> list[Message]:
        """A new channel for the broadcast one, a fresh start for one that exists (section 11.2.9.1.3)."""
        if packet.length != ctaphid.NONCE_SIZE:
            raise FrameError(HidError.INVALID_LEN, packet.channel)
        channel = packet.channel
        if channel == BROADCAST:
            channel = self._first + self._given
            self._given += 1
        elif self._known(channel):
            self._resync(channel)
        else:
            raise FrameError(HidError.INVALID_CHANNEL, channel)
        core = self._authenticator.core
        answer = InitAnswer(
            nonce=packet.data[: ctaphid.NONCE_SIZE],
            channel=channel,
            capabilities=Capability.WINK | Capability.CBOR | (Capability(0) if core.speaks_u2f else Capability.NMSG),
            device_version=core.profile.device_version,
        )
        message = Message(channel=packet.channel, command=HidCommand.INIT, payload=answer.encode())
        self._on_command(Message(channel=packet.channel, command=HidCommand.INIT, payload=answer.nonce))
        return [message]

    def _resync(self, channel: int) -> None:
        """Whatever the channel was at is given up, without an answer."""
        if self._assembler is not None and self._assembler.channel == channel:
            self._assembler = None
        if self._execution.channel == channel:
            self._execution.abandon()

    def _locked_out(self, channel: int, now: float) -> bool:
        if self._lock is not None and now >= self._lock[1]:
            self._lock = None
        return self._lock is not None and self._lock[0] != channel

    # --- commands -------------------------------------------------------------------------------------------

    def _execute(self, message: Message, now: float) -> list[Message]:
        match message.command:
            case HidCommand.PING:
                return [message]
            case HidCommand.WINK:
                return self._wink(message)
            case HidCommand.LOCK:
                return self._take_lock(message, now)
            case HidCommand.CBOR if message.payload:
                operation = self._authenticator.start(message.payload, message.channel)
            case HidCommand.MSG if self._authenticator.core.speaks_u2f and message.payload:
                operation = self._authenticator.start_ctap1(message.payload)
            case HidCommand.CBOR | HidCommand.MSG if not message.payload:
                raise FrameError(HidError.INVALID_LEN, message.channel)
            case _:
                raise FrameError(HidError.INVALID_CMD, message.channel)
        return self._execution.start(message, operation, now)

    def _wink(self, message: Message) -> list[Message]:
        if message.payload:
            raise FrameError(HidError.INVALID_LEN, message.channel)
        self._presence.wink()
        return [message]

    def _take_lock(self, message: Message, now: float) -> list[Message]:
        """Seconds for which other channels are kept out, 0 to let them in (section 11.2.9.2.3)."""
        if len(message.payload) != 1:
            raise FrameError(HidError.INVALID_LEN, message.channel)
        seconds = message.payload[0]
        if seconds > MAX_LOCK_SECONDS:
            raise FrameError(HidError.INVALID_PAR, message.channel)
        self._lock = (message.channel, now + seconds) if seconds else None
        return [Message(channel=message.channel, command=HidCommand.LOCK)]


def _packets(messages: Iterable[Message]) -> list[bytes]:
    return [packet for message in messages for packet in message.packets()]
