"""The thread that holds a virtual security key at one connection: packets to the device and back, with faults.

It is the only one that touches the device; benches speak to `Person` and `KeyFaultPlan`, which any thread may call.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from typing import Final

from tokenbridge import log
from tokenbridge.authenticator.hid import HidDevice
from tokenbridge.errors import DeviceError
from tokenbridge.rig.key_faults import KeyAction, KeyFault, KeyFaultPlan, distorted
from tokenbridge.transport.base import DeviceEnd
from tokenbridge.wire import ctaphid
from tokenbridge.wire.ctaphid import KEEPALIVE_SECONDS, Assembler, FrameError, HidCommand, InitPacket, Message

STOP_SECONDS: Final = 5.0
NO_COMMAND: Final = (0, 0)
"""Channel and CTAP2 command that is being answered: none."""

_log = log.get("rig.key")


class _Pulled(Exception):
    """The key has left: by a fault, or because the other end has closed."""


@dataclass(slots=True)
class _Haunting:
    """Keepalives for ever on a channel, by a fault."""

    channel: int
    at: float


class KeyService:
    """Serves `device` at `end` until `stop`, a fault, or the host's leaving."""

    def __init__(self, device: HidDevice, end: DeviceEnd, faults: KeyFaultPlan) -> None:
        self._device = device
        self._end = end
        self._faults = faults
        self._stop = threading.Event()
        self._answering = NO_COMMAND
        self._haunting: _Haunting | None = None
        self._thread = threading.Thread(target=self._run, name="virtual-key", daemon=True)

    def start(self) -> None:
        """Power up."""
        self._thread.start()

    @property
    def running(self) -> bool:
        return self._thread.is_alive()

    def answering(self, message: Message) -> None:
        """Told by the device of each whole message, so that faults can be for certain commands."""
        if message.command == HidCommand.CBOR and message.payload:
            self._answering = (message.channel, message.payload[0])
        elif message.channel == self._answering[0]:
            self._answering = NO_COMMAND

    def stop(self) -> None:
        """Pull the key. The other end sees it leave."""
        self._stop.set()
        self._end.close()
        if self._thread.is_alive() and threading.current_thread() is not self._thread:
            self._thread.join(STOP_SECONDS)

    def wait(self, timeout: float) -> bool:
        """Whether the key has left before `timeout` seconds were over."""
        self._thread.join(timeout)
        return not self._thread.is_alive()

    def _run(self) -> None:
        try:
            while not self._stop.is_set():
                self._turn()
        except (_Pulled, DeviceError) as err:
            _log.debug("key leaves: %r", err)
        finally:
            self._end.close()
            self._device.power_down()

    def _turn(self) -> None:
        packet = self._end.receive(self._timeout(time.monotonic()))
        now = time.monotonic()
        if packet is not None:
            self._take(packet, now)
        self._send(self._device.tick(now))
        self._haunt(now)

    def _take(self, packet: bytes, now: float) -> None:
        if self._faults.pulls_in():
            raise _Pulled
        if self._haunting is not None:
            if not _is_init(packet):
                return
            self._haunting = None
        self._send(self._device.feed(packet, now))

    def _timeout(self, now: float) -> float | None:
        moments = [self._device.next_wakeup(now)]
        if self._haunting is not None:
            moments.append(max(0.0, self._haunting.at - now))
        times = [moment for moment in moments if moment is not None]
        return min(times) if times else None

    def _haunt(self, now: float) -> None:
        if self._haunting is not None and now >= self._haunting.at:
            self._haunting.at = now + KEEPALIVE_SECONDS
            status = ctaphid.KeepaliveStatus.PROCESSING
            self._put(list(ctaphid.keepalive(self._haunting.channel, status).packets()))

    # --- out ------------------------------------------------------------------------------------------------

    def _send(self, packets: list[bytes]) -> None:
        for message, whole in _messages(packets):
            fault = self._fault_for(message)
            if fault is None:
                self._put(whole)
            else:
                self._put_distorted(fault, message)

    def _fault_for(self, message: Message) -> KeyFault | None:
        if message.command == HidCommand.KEEPALIVE:
            return None
        channel, command = self._answering
        return self._faults.on_answer(command if channel == message.channel else 0)

    def _put_distorted(self, fault: KeyFault, message: Message) -> None:
        if fault.action is KeyAction.DELAY:
            self._stop.wait(fault.seconds)
        if fault.action is KeyAction.KEEPALIVE:
            self._haunting = _Haunting(message.channel, time.monotonic() + KEEPALIVE_SECONDS)
        self._put(distorted(fault, message))

    def _put(self, packets: list[bytes]) -> None:
        for packet in packets:
            # asked before the host has it: who arms a plan in answer to this packet means the ones after it
            last = self._faults.pulls_out()
            self._end.send(packet)
            if last:
                raise _Pulled


def _is_init(packet: bytes) -> bool:
    try:
        parsed = ctaphid.parse(packet)
    except FrameError:
        return False
    return isinstance(parsed, InitPacket) and parsed.command == HidCommand.INIT


def _messages(packets: list[bytes]) -> list[tuple[Message, list[bytes]]]:
    """The device's own packets, put together again: it always answers whole messages."""
    found: list[tuple[Message, list[bytes]]] = []
    assembler: Assembler | None = None
    whole: list[bytes] = []
    for packet in packets:
        parsed = ctaphid.parse(packet)
        if isinstance(parsed, InitPacket):
            assembler, whole = Assembler(parsed), []
        elif assembler is not None:
            assembler.feed(parsed)
        whole.append(packet)
        if assembler is not None and assembler.complete:
            found.append((assembler.message(), whole))
    return found
