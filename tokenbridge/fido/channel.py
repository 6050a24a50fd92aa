"""CTAPHID as the host speaks it, as python-fido2's port `CtapDevice`: one channel of one key.

Every wait has an end: silence, an endless keepalive, the caller's deadline or cancel. Packets of other programs'
channels come in between and are passed over. What breaks the protocol is a `LinkFailed`: the channel is given up, and
the next one begins with INIT, which puts the key straight (CTAP 2.1 section 11.2.5).
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from threading import Event
from typing import Any, Final, Protocol

from fido2.ctap import STATUS, CtapDevice

from tokenbridge.errors import Cancelled, DeviceBusy, LinkFailed, TimedOut
from tokenbridge.transport.base import PacketLink, Trace
from tokenbridge.wire.ctaphid import (
    BROADCAST,
    MESSAGE_SECONDS,
    NONCE_SIZE,
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
    Packet,
    parse,
)

SLICE_SECONDS: Final = 0.1
"""How long a cancel may wait to be noticed while a key is silent."""
SILENCE_SECONDS: Final = 3.0
"""Without a keepalive for so long, a key is not there any more."""
BUSY_SECONDS: Final = 2.0
BUSY_PAUSE: Final = 0.1
CANCEL_SECONDS: Final = 1.0
"""For a key to answer the request that was cancelled."""
MAX_STALE: Final = 1024
CLIENT_PIN: Final = 0x06
"""authenticatorClientPIN: nothing of it is traced."""


class Check(Protocol):
    """Asked between packets: raises `Cancelled` or `TimedOut` when the caller no longer waits."""

    def check(self) -> None: ...


class _Unchecked:
    def check(self) -> None:
        return


class KeyChannel(CtapDevice):
    """Owns `link`. `cancel` and `on_touch` are those of the job that runs now."""

    def __init__(self, link: PacketLink, name: str, trace: Trace) -> None:
        self._link = link
        self._name = name
        self._trace = trace
        self._number = BROADCAST
        self._capabilities = Capability(0)
        self.cancel: Check = _Unchecked()
        self.on_touch: Callable[[], None] = lambda: None
        self.busy = False
        """Whether the key is kept busy by another program just now."""

    def open(self) -> None:
        """Get a channel (section 11.2.9.1.3). Raises `LinkFailed`, `DeviceBusy`, `DeviceRemoved`."""
        nonce = os.urandom(NONCE_SIZE)
        payload = self._exchange(HidCommand.INIT, nonce, mine=lambda message: message.payload.startswith(nonce))
        try:
            answer = InitAnswer.decode(payload)
        except FrameError as err:
            raise _broken(err) from err
        self._number, self._capabilities = answer.channel, answer.capabilities

    @property
    def capabilities(self) -> int:
        return int(self._capabilities)

    def call(
        self,
        cmd: int,
        data: bytes = b"",
        event: Event | None = None,  # noqa: ARG002  the job's cancel serves
        on_keepalive: Callable[[STATUS], None] | None = None,  # noqa: ARG002  `on_touch` serves
    ) -> bytes:
        """Send a request and return its answer. Raises the `DeviceError` family, `Cancelled`."""
        if self._number == BROADCAST:
            self.open()
        started = time.monotonic()
        answer = self._exchange(cmd, data, mine=lambda _: True)
        secret = cmd == HidCommand.CBOR and data[:1] == bytes([CLIENT_PIN])
        shown = (data[:1], answer[:1]) if secret else (data, answer)
        self._trace(self._name, *shown, time.monotonic() - started)
        return answer

    @classmethod
    def list_devices(cls) -> Iterator[Any]:
        """Keys are found by `transport.key_monitor`."""
        return iter(())

    def close(self) -> None:
        self._link.close()

    def _exchange(self, command: int, data: bytes, *, mine: Callable[[Message], bool]) -> bytes:
        give_up = time.monotonic() + BUSY_SECONDS
        try:
            while True:
                self._drain()
                self._send(command, data)
                message = self._answer(command, mine)
                if message.command == command:
                    return message.payload
                self._refused(message, give_up)
        finally:
            self.busy = False

    def _refused(self, message: Message, give_up: float) -> None:
        """What an ERROR means: wait when busy (until `give_up`), else raise."""
        code = message.payload[0] if message.payload else HidError.OTHER
        if code != HidError.CHANNEL_BUSY:
            raise LinkFailed("The security key does not answer as it should.", detail=f"CTAPHID error {code:02X}")
        self.busy = True
        if time.monotonic() > give_up:
            raise DeviceBusy("The security key is busy with another program.")
        self._wait(BUSY_PAUSE)

    def _send(self, command: int, data: bytes) -> None:
        # Whole, or not at all: a key that has half a request takes no other one.
        self.cancel.check()
        try:
            for packet in Message(channel=self._number, command=command, payload=data).packets():
                self._link.send(packet)
        except FrameError as err:
            raise LinkFailed("The request is too long for a security key.", detail=str(err)) from err

    def _answer(self, command: int, mine: Callable[[Message], bool]) -> Message:
        """The answer or error to `command`; keepalives are heard, and told once they ask for a touch."""
        assembler: Assembler | None = None
        alive = time.monotonic()
        while True:
            patience = SILENCE_SECONDS if assembler is None else MESSAGE_SECONDS
            packet = self._next(alive + patience)
            if packet is None:
                continue
            if self._number != BROADCAST:  # where anybody's answers are heard: no sign that ours will come
                alive = time.monotonic()
            assembler = self._fed(assembler, packet, command)
            if assembler is not None and assembler.complete:
                message = assembler.message()
                if message.command != command or mine(message):
                    return message
                assembler = None

    def _fed(self, assembler: Assembler | None, packet: Packet, command: int) -> Assembler | None:
        try:
            if isinstance(packet, InitPacket):
                if assembler is not None:
                    raise FrameError(HidError.INVALID_SEQ, packet.channel)
                return self._begun(packet, command)
            if assembler is None:
                raise FrameError(HidError.INVALID_SEQ, packet.channel)
            assembler.feed(packet)
        except FrameError as err:
            raise _broken(err) from err
        return assembler

    def _begun(self, packet: InitPacket, command: int) -> Assembler | None:
        if packet.command == HidCommand.KEEPALIVE:
            if packet.length != 1 or packet.data[0] not in set(KeepaliveStatus):
                raise FrameError(HidError.INVALID_PAR, packet.channel)
            if packet.data[0] == KeepaliveStatus.UPNEEDED:
                self.on_touch()
            return None
        if packet.command not in (command, HidCommand.ERROR):
            raise FrameError(HidError.INVALID_CMD, packet.channel)
        return Assembler(packet)

    def _next(self, end: float) -> Packet | None:
        """The next packet of this channel; None when the time slice is over. Raises what ends the wait."""
        try:
            self.cancel.check()
        except (Cancelled, TimedOut):
            self._abandon()
            raise
        raw = self._link.receive(SLICE_SECONDS)
        if raw is None:
            if time.monotonic() > end:
                raise LinkFailed("The security key does not answer.", detail="silence")
            return None
        try:
            packet = parse(raw)
        except FrameError as err:
            raise _broken(err) from err
        if packet.channel != self._number:
            if time.monotonic() > end:
                raise LinkFailed("The security key does not answer.", detail="only other channels")
            return None
        if self._number == BROADCAST and time.monotonic() > end:
            raise LinkFailed("The security key does not answer.", detail="no answer to INIT")
        return packet

    def _abandon(self) -> None:
        """Tell the key that nobody waits (section 11.2.9.1.5), and let it answer: it stops blinking at once.

        One that does not may answer later, when something else has been asked: its channel is not used any more.
        """
        if self._number == BROADCAST:
            return
        channel, self._number = self._number, BROADCAST
        end = time.monotonic() + CANCEL_SECONDS
        for packet in Message(channel=channel, command=HidCommand.CANCEL).packets():
            self._link.send(packet)
        while (left := end - time.monotonic()) > 0:
            raw = self._link.receive(left)
            if raw is not None and _ends_request(raw, channel):
                self._number = channel
                return

    def _drain(self) -> None:
        """Other programs' answers come here too, and would crowd out ours: the kernel keeps 64 packets."""
        for _ in range(MAX_STALE):
            if self._link.receive(0) is None:
                return
        raise LinkFailed("The security key does not stop sending.", detail="stale packets")

    def _wait(self, seconds: float) -> None:
        """Pause between two requests; ends early when the caller no longer waits."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            self.cancel.check()
            self._link.receive(min(left, SLICE_SECONDS))
        self.cancel.check()

    def pause(self, seconds: float) -> None:
        """For keys that must be asked again and again (U2F)."""
        self._wait(seconds)


def _ends_request(raw: bytes, channel: int) -> bool:
    try:
        packet = parse(raw)
    except FrameError:
        return False
    if isinstance(packet, ContinuationPacket) or packet.channel != channel:
        return False
    return packet.command != HidCommand.KEEPALIVE


def _broken(err: FrameError) -> LinkFailed:
    return LinkFailed("The security key does not answer as it should.", detail=str(err))
