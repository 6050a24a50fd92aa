"""Faults on purpose for security keys: which packet is the last, which answer lies, which never comes. No I/O here."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from enum import StrEnum, unique
from typing import Final

from tokenbridge.wire import ctaphid
from tokenbridge.wire.ctaphid import CONTINUATION_DATA, INIT_DATA, HidCommand, HidError, KeepaliveStatus, Message

OTHER_CHANNEL: Final = 0x00BADBAD


@unique
class KeyAction(StrEnum):
    """What happens at the chosen packet or answer."""

    PULL_IN = "pull-in"
    """The key leaves right after the host's packet, before it has looked at it."""
    PULL_OUT = "pull-out"
    """The key leaves right after its own packet."""
    WRONG_CHANNEL = "wrong-channel"
    """The answer comes on another channel."""
    WRONG_SEQUENCE = "wrong-sequence"
    """The answer's continuation packets are numbered wrongly; one is added to answers that have none."""
    OVERSIZE = "oversize"
    """The answer says that it is longer than any message may be."""
    KEEPALIVE = "keepalive"
    """Instead of the answer, keepalives for ever (until the host begins anew with INIT)."""
    ANSWER = "answer"
    """Given bytes are answered in place of the true payload."""
    TRUNCATE = "truncate"
    """The answer's payload is cut to a given length."""
    SILENCE = "silence"
    """No answer at all."""
    HALF = "half"
    """Only the first packet of the answer comes, and says there is more."""
    FOREIGN = "foreign"
    """A packet for another channel comes before and inside the answer."""
    DELAY = "delay"
    """The true answer comes late."""
    ERROR = "error"
    """A CTAPHID error comes in place of the answer."""


_PACKETS: Final = {KeyAction.PULL_IN, KeyAction.PULL_OUT}


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyFault:
    """`at` counts from 1 since the plan was armed: packets for the PULL actions, answers (no keepalives) for others.

    With `command` only answers to that CTAP2 command byte count (0x00: answers to INIT). `error` is for `ERROR`,
    `length` for `TRUNCATE`, `answer` for `ANSWER`, `seconds` for `DELAY`.
    """

    action: KeyAction
    at: int = 1
    command: int | None = None
    answer: bytes = b""
    length: int = 0
    seconds: float = 0.0
    error: HidError = HidError.OTHER
    repeat: bool = False


class KeyFaultPlan:
    """The faults that are armed now. Arming may come from another thread than the key's own."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._faults: tuple[KeyFault, ...] = ()
        self._seen: list[int] = []
        self.packets_in = 0
        self.packets_out = 0
        """Since the plan was armed: a fault-free run tells how many there are to cut at."""

    def arm(self, *faults: KeyFault) -> None:
        """Replace the plan; counting starts anew."""
        with self._lock:
            self._faults = faults
            self._seen = [0] * len(faults)
            self.packets_in = self.packets_out = 0

    def disarm(self) -> None:
        self.arm()

    def pulls_in(self) -> bool:
        """A packet came from the host: whether the key leaves before it looks at it. Each call counts."""
        with self._lock:
            self.packets_in += 1
            return self._hit(KeyAction.PULL_IN) is not None

    def pulls_out(self) -> bool:
        """A packet goes to the host: whether the key leaves after it. Each call counts."""
        with self._lock:
            self.packets_out += 1
            return self._hit(KeyAction.PULL_OUT) is not None

    def on_answer(self, command: int) -> KeyFault | None:
        """The fault that hits this answer, None for most. Each call counts."""
        with self._lock:
            return self._hit(None, command)

    def _hit(self, action: KeyAction | None, command: int | None = None) -> KeyFault | None:
        hit = None
        for i, fault in enumerate(self._faults):
            other = fault.action is not action if action is not None else fault.action in _PACKETS
            if other or (fault.command is not None and command != fault.command):
                continue
            self._seen[i] += 1
            due = self._seen[i] == fault.at or (fault.repeat and self._seen[i] > fault.at)
            hit = fault if due and hit is None else hit
        return hit


def distorted(fault: KeyFault, message: Message) -> list[bytes]:
    """The packets that go out in place of those of `message`; its DELAY is the caller's business."""
    match fault.action:
        case KeyAction.SILENCE:
            return []
        case KeyAction.KEEPALIVE:
            return list(ctaphid.keepalive(message.channel, KeepaliveStatus.PROCESSING).packets())
        case KeyAction.ERROR:
            return list(ctaphid.error_message(message.channel, fault.error).packets())
        case KeyAction.WRONG_CHANNEL:
            return list(_with(message, channel=message.channel ^ OTHER_CHANNEL).packets())
        case KeyAction.ANSWER:
            return list(_with(message, payload=fault.answer).packets())
        case KeyAction.TRUNCATE:
            return list(_with(message, payload=message.payload[: fault.length]).packets())
        case _:
            return _misframed(fault, message)


def _misframed(fault: KeyFault, message: Message) -> list[bytes]:
    packets = list(message.packets())
    match fault.action:
        case KeyAction.OVERSIZE:
            return [packets[0][:5] + b"\xff\xff" + packets[0][7:], *packets[1:]]
        case KeyAction.HALF:
            longer = _with(message, payload=message.payload.ljust(INIT_DATA + 1, b"\0"))
            return list(longer.packets())[:1]
        case KeyAction.WRONG_SEQUENCE:
            longer = _with(message, payload=message.payload.ljust(INIT_DATA + CONTINUATION_DATA, b"\0"))
            first, *rest = longer.packets()
            return [first, *(packet[:4] + bytes([(packet[4] + 1) & 0x7F]) + packet[5:] for packet in rest)]
        case KeyAction.FOREIGN:
            stranger = Message(channel=message.channel ^ OTHER_CHANNEL, command=HidCommand.CBOR, payload=b"\0")
            foreign = next(stranger.packets())
            return [foreign, packets[0], foreign, *packets[1:]]
        case _:
            return packets


def _with(message: Message, *, channel: int | None = None, payload: bytes | None = None) -> Message:
    return Message(
        channel=message.channel if channel is None else channel,
        command=message.command,
        payload=message.payload if payload is None else payload,
    )
