"""The connection to vpcd against a reader played by the test: framing, presence poll, faults, trace, coming back."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Iterator

import pytest

from tokenbridge.errors import SetupError
from tokenbridge.rig.faults import Action, Fault, FaultPlan
from tokenbridge.rig.virtual_card import VirtualCard
from tokenbridge.rig.vpcd import VpcdConnection

from .conftest import PIV

SELECT = bytes([0, 0xA4, 4, 0, len(PIV)]) + PIV + b"\0"
STATUS = bytes.fromhex("00200080")
WRONG_PIN = bytes.fromhex("0020008008") + b"999999\xff\xff"


class Reader:
    """vpcd's side of the wire."""

    def __init__(self) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.listener.settimeout(10)
        self.port: int = self.listener.getsockname()[1]
        self.link = self.listener

    def accept(self) -> None:
        if self.link is not self.listener:
            self.link.close()
        self.link, _ = self.listener.accept()
        self.link.settimeout(10)

    def send(self, body: bytes) -> None:
        # two segments, as the real driver sends them
        self.link.sendall(struct.pack("!H", len(body)))
        self.link.sendall(body)

    def receive(self) -> bytes | None:
        """One body, or None when the card has left."""
        head = self._exactly(2)
        return None if head is None else self._exactly(struct.unpack("!H", head)[0])

    def ask(self, body: bytes) -> bytes | None:
        self.send(body)
        return self.receive()

    def _exactly(self, size: int) -> bytes | None:
        data = b""
        while len(data) < size:
            piece = self.link.recv(size - len(data))
            if not piece:
                self.link.close()
                return None
            data += piece
        return data

    def close(self) -> None:
        self.link.close()
        self.listener.close()


@pytest.fixture
def reader() -> Iterator[Reader]:
    it = Reader()
    yield it
    it.close()


@pytest.fixture
def served(reader: Reader) -> Iterator[VpcdConnection]:
    connection = VpcdConnection(VirtualCard.create(), reader.port)
    connection.start(timeout=None)
    reader.accept()
    yield connection
    reader.close()
    connection.stop()


def test_commands_and_presence_poll(reader: Reader, served: VpcdConnection) -> None:
    assert reader.ask(b"\x04") == served.card.atr
    reader.send(b"\x01")
    selected = reader.ask(SELECT)
    assert selected is not None
    assert selected.endswith(b"\x90\x00")
    assert reader.ask(b"\x04") == served.card.atr, "the poll ..."
    assert reader.ask(STATUS) == b"\x63\xc3", "... does not reset the card"
    assert served.apdus == 2


def test_power_resets_the_card(reader: Reader, served: VpcdConnection) -> None:
    for control in (b"\x00", b"\x01", b"\x02"):
        reader.ask(SELECT)
        reader.send(control)
        assert reader.ask(STATUS) == b"\x6d\x00"


def test_trace_masks_the_pin(reader: Reader, served: VpcdConnection) -> None:
    seen = []
    served.on_exchange = seen.append
    reader.ask(SELECT)
    assert reader.ask(WRONG_PIN) == b"\x63\xc2"
    assert [exchange.command for exchange in served.trace] == [SELECT, bytes.fromhex("0020008008") + b"\xff" * 8]
    assert served.trace == seen
    assert served.trace[1].answer == b"\x63\xc2"
    served.reset_counters()
    assert (served.apdus, served.trace) == (0, [])


def test_stop_pulls_the_card(reader: Reader, served: VpcdConnection) -> None:
    assert served.inserted
    pulling = threading.Thread(target=served.stop)
    pulling.start()
    assert reader.receive() is None
    pulling.join()
    assert not served.inserted


def test_comes_back_when_the_reader_restarts(reader: Reader, served: VpcdConnection) -> None:
    reader.ask(SELECT)
    reader.link.close()
    reader.accept()
    assert reader.ask(b"\x04") == served.card.atr
    assert reader.ask(STATUS) == b"\x6d\x00", "without power the selection is gone"


@pytest.mark.parametrize(
    ("action", "answered", "tries"),
    [(Action.PULL_BEFORE, False, 3), (Action.PULL_UNANSWERED, False, 2), (Action.PULL_AFTER, True, 2)],
)
def test_pulled_at_the_second_command(
    reader: Reader, served: VpcdConnection, action: Action, answered: bool, tries: int
) -> None:
    served.faults.arm(Fault(action=action, at=2))
    reader.ask(SELECT)
    assert reader.ask(WRONG_PIN) == (b"\x63\xc2" if answered else None)
    if answered:
        assert reader.receive() is None
    assert served.wait_pulled()
    assert not served.inserted
    assert isinstance(served.card, VirtualCard)
    assert served.card.tries_left() == tries
    served.faults.disarm()
    served.start(timeout=None)
    reader.accept()
    assert reader.ask(b"\x04") == served.card.atr


def test_lies_and_delay_for_one_instruction(reader: Reader, served: VpcdConnection) -> None:
    served.faults.arm(
        Fault(action=Action.ANSWER, ins=0x20, at=2, answer=b"\x61\x00", repeat=True),
        Fault(action=Action.DELAY, ins=0xA4, seconds=0.01),
    )
    assert reader.ask(SELECT) is not None
    assert served.trace[0].seconds >= 0.01
    assert reader.ask(STATUS) == b"\x63\xc3"
    assert [reader.ask(STATUS), reader.ask(STATUS)] == [b"\x61\x00", b"\x61\x00"]


def test_empty_bodies_and_unknown_controls_do_no_harm(reader: Reader, served: VpcdConnection) -> None:
    reader.send(b"\x07")
    assert reader.ask(b"") == b"\x67\x00"
    assert reader.ask(b"\x04") == served.card.atr


def test_nobody_there() -> None:
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    with pytest.raises(SetupError, match=str(port)):
        VpcdConnection(VirtualCard.create(), port).start(timeout=0.2)


def test_fault_plan_counts_from_arming() -> None:
    plan = FaultPlan(Fault(action=Action.PULL_AFTER, at=2))
    assert plan.next(SELECT) is None
    plan.arm(Fault(action=Action.PULL_BEFORE, at=2))
    assert plan.next(SELECT) is None
    hit = plan.next(SELECT)
    assert hit is not None
    assert hit.action is Action.PULL_BEFORE
    assert plan.next(SELECT) is None
