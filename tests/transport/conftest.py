"""`smartcard.scard` with its functions replaced, for answers that no real reader gives on demand."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import pytest
from pytest_mock import MockerFixture

from tokenbridge.transport import pcsc
from tokenbridge.transport.pcsc import scard

EMPTY = scard.SCARD_STATE_EMPTY | scard.SCARD_STATE_CHANGED
PRESENT = scard.SCARD_STATE_PRESENT | scard.SCARD_STATE_CHANGED
ATR = bytes.fromhex("3B80800101")


@dataclass
class Scard:
    """What the faked functions answer; each may be replaced by a test."""

    protocol: int = scard.SCARD_PROTOCOL_T1
    atr: bytes = ATR
    connect: int = 0
    transmit: Callable[[bytes], tuple[int, bytes]] = lambda _: (0, b"\x90\0")
    control: Callable[[int, list[int]], tuple[int, list[int]]] = lambda code, data: (
        scard.SCARD_E_UNSUPPORTED_FEATURE,
        [],
    )
    states: list[tuple[int, int]] = field(default_factory=list)
    """(code, state of the reader) for each wait; after the last, waiting takes its whole time."""
    begin: list[int] = field(default_factory=list)
    sent: list[tuple[int, bytes]] = field(default_factory=list)
    calls: list[str] = field(default_factory=list)

    def establish(self, scope: int) -> tuple[int, int]:
        self.calls.append("establish")
        return 0, 1

    def release(self, handle: int) -> int:
        self.calls.append("release")
        return 0

    def do_connect(self, handle: int, reader: str, mode: int, protocols: int) -> tuple[int, int, int]:
        assert mode == scard.SCARD_SHARE_SHARED
        return self.connect, 7, self.protocol

    def do_transmit(self, card: int, pci: int, data: list[int]) -> tuple[int, list[int]]:
        self.sent.append((pci, bytes(data)))
        code, answer = self.transmit(bytes(data))
        return code, list(answer)

    def wait(
        self, handle: int, limit: int, asked: list[tuple[str, int]]
    ) -> tuple[int, list[tuple[str, int, list[int]]]]:
        if not self.states:
            return scard.SCARD_E_TIMEOUT, []
        code, state = self.states.pop(0)
        return code, [(asked[0][0], 0, []), (asked[1][0], state, [])]

    def do_begin(self, card: int) -> int:
        self.calls.append("begin")
        return self.begin.pop(0) if self.begin else 0

    def end(self, card: int, disposition: int) -> int:
        self.calls.append("end reset" if disposition == scard.SCARD_RESET_CARD else "end")
        return 0

    def reconnect(self, *_: int) -> tuple[int, int]:
        self.calls.append("reconnect")
        return 0, self.protocol

    def disconnect(self, card: int, disposition: int) -> int:
        self.calls.append("disconnect")
        return 0


@pytest.fixture
def fake_scard(mocker: MockerFixture) -> Iterator[Scard]:
    fake = Scard()
    replaced = {
        "SCardEstablishContext": fake.establish,
        "SCardReleaseContext": fake.release,
        "SCardConnect": fake.do_connect,
        "SCardStatus": lambda card: (0, "Reader", 0, fake.protocol, list(fake.atr)),
        "SCardTransmit": fake.do_transmit,
        "SCardControl": lambda card, code, data: fake.control(code, data),
        "SCardGetStatusChange": fake.wait,
        "SCardBeginTransaction": fake.do_begin,
        "SCardEndTransaction": fake.end,
        "SCardReconnect": fake.reconnect,
        "SCardDisconnect": fake.disconnect,
    }
    for name, function in replaced.items():
        mocker.patch.object(pcsc.scard, name, function)
    return fake
