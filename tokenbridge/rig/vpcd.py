"""A card in vsmartcard's virtual reader: serves a `Card` to the real pcscd over TCP. It never interprets an APDU.

Protocol: two bytes big-endian length and body. Bodies of one byte are control, others are commands. The reader's driver
sends length and body as two segments with Nagle's algorithm on, so that acknowledging late costs some 40 ms a command:
hence TCP_QUICKACK, which the kernel forgets and which is set again after every receive.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum, unique
from typing import Final, Protocol

from tokenbridge import log
from tokenbridge.errors import SetupError
from tokenbridge.rig import readers
from tokenbridge.rig.faults import Action, Fault, FaultPlan
from tokenbridge.wire.apdu import masked

LOOPBACK: Final = "127.0.0.1"
RETRY_SECONDS: Final = 0.05
POLL_SECONDS: Final = 0.45
"""A little more than pcscd's polling period. A card that is back sooner may not have been away for pcscd, which then
neither tells its clients nor powers the card up."""
LEAVE_SECONDS: Final = 3.0
"""More than pcscd's polling period, after which a reader that has not noticed the card's leaving is given up."""
MAX_TRACE: Final = 20000

_log = log.get("rig.vpcd")


class Card(Protocol):
    """What is needed of a card here."""

    @property
    def atr(self) -> bytes: ...

    def transmit(self, apdu: bytes) -> bytes: ...

    def reset(self) -> None: ...


@unique
class Control(IntEnum):
    """Bodies of one byte."""

    POWER_OFF = 0
    POWER_ON = 1
    RESET = 2
    GET_ATR = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Exchange:
    """One command with its answer (None if the card left), PIN bytes overwritten; `seconds` is the card's own time."""

    command: bytes
    answer: bytes | None
    seconds: float


class _Pulled(Exception):
    """A fault took the card out."""


class VpcdConnection:
    """Holds one card in one slot. `start` inserts it, `stop` pulls it; it comes back by itself when pcscd restarts.

    `reader`: the slot's name, if this process is a client of that pcscd: `start` then waits for what clients see.
    """

    def __init__(self, card: Card, port: int, faults: FaultPlan | None = None, *, reader: str = "") -> None:
        self.card = card
        self.port = port
        self.reader = reader
        self.faults = faults or FaultPlan()
        self.apdus = 0
        self.trace: list[Exchange] = []
        self.on_exchange: Callable[[Exchange], None] | None = None
        self._stop = threading.Event()
        self._recognised = threading.Event()
        self._powered = False
        self._left: float | None = None
        self._thread: threading.Thread | None = None
        self._socket: socket.socket | None = None
        self._lock = threading.Lock()

    @property
    def inserted(self) -> bool:
        """Whether the card is in the slot now (false after a fault pulled it)."""
        thread = self._thread
        return thread is not None and thread.is_alive() and not self._stop.is_set()

    def start(self, *, timeout: float | None = 10.0) -> VpcdConnection:
        """Insert the card. Waits until pcscd has powered it up, at most `timeout` seconds (None: does not wait).

        Raises `SetupError` if it has not.
        """
        self.stop()
        if (left := self._left) is not None:
            threading.Event().wait(max(0.0, left + POLL_SECONDS - time.monotonic()))
        self._stop.clear()
        self._recognised.clear()
        self._thread = threading.Thread(target=self._run, name=f"vpcd-{self.port}", daemon=True)
        self._thread.start()
        if timeout is not None and not self._recognised.wait(timeout):
            self.stop()
            raise SetupError(
                f"No PC/SC daemon took the virtual card on port {self.port}.",
                next_step="Start one with `tokenbridge rig pcscd`, or install pcscd and vsmartcard-vpcd.",
            )
        if timeout is not None and self.reader:
            readers.await_card(self.reader, timeout, gone=self._stop.is_set)  # a fault may have pulled it
        return self

    def stop(self) -> None:
        """Pull the card and wait until the reader has noticed. Does nothing if it is out."""
        self._stop.set()
        with self._lock:
            _shut(self._socket, socket.SHUT_WR)
        thread, self._thread = self._thread, None
        if thread is None:
            return
        thread.join(LEAVE_SECONDS)
        with self._lock:
            _shut(self._socket, socket.SHUT_RDWR)
        thread.join()

    def wait_pulled(self, timeout: float = 10.0) -> bool:
        """Wait until a fault has taken the card out; whether it has within `timeout` seconds."""
        return self._stop.wait(timeout)

    def reset_counters(self) -> None:
        """Begin counting and tracing anew."""
        self.apdus = 0
        self.trace.clear()

    def __enter__(self) -> VpcdConnection:
        return self if self.inserted else self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                self._session()
            except OSError as err:
                _log.debug("port %d: %s", self.port, err)
                self._stop.wait(RETRY_SECONDS)
            finally:
                self._powered = False
                self._left = time.monotonic()
                self.card.reset()

    def _session(self) -> None:
        """One TCP connection, until either side ends it."""
        with socket.create_connection((LOOPBACK, self.port), timeout=5) as link:
            link.settimeout(None)
            link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with self._lock:
                self._socket = link
            try:
                self._serve_until_gone(link)
            finally:
                with self._lock:
                    self._socket = None

    def _serve_until_gone(self, link: socket.socket) -> None:
        """Answer until the card is pulled, then hold the half-closed connection until the reader closes its half."""
        while True:
            body = _receive(link)
            if self._stop.is_set():
                continue
            try:
                self._serve(link, body)
            except _Pulled:
                self._stop.set()
                link.settimeout(LEAVE_SECONDS)
                _shut(link, socket.SHUT_WR)

    def _serve(self, link: socket.socket, body: bytes) -> None:
        if len(body) != 1:
            self._command(link, body)
        elif body[0] == Control.GET_ATR:
            # pcscd polls for presence with this: answered without touching the card, which may be in mid-ceremony
            _send(link, self.card.atr)
            if self._powered:
                self._recognised.set()
        elif body[0] in (Control.POWER_OFF, Control.POWER_ON, Control.RESET):
            self.card.reset()
            self._powered = body[0] != Control.POWER_OFF

    def _command(self, link: socket.socket, apdu: bytes) -> None:
        self.apdus += 1
        fault = self.faults.next(apdu)
        begun = time.perf_counter()
        answer = self._answer(apdu, fault)
        self._record(Exchange(command=masked(apdu), answer=answer, seconds=time.perf_counter() - begun))
        if answer is None:
            raise _Pulled
        _send(link, answer)
        if fault is not None and fault.action is Action.PULL_AFTER:
            raise _Pulled

    def _answer(self, apdu: bytes, fault: Fault | None) -> bytes | None:
        if fault is None:
            return self.card.transmit(apdu)
        match fault.action:
            case Action.PULL_BEFORE:
                return None
            case Action.PULL_UNANSWERED:
                self.card.transmit(apdu)
                return None
            case Action.ANSWER:
                return fault.answer
            case Action.DELAY:
                self._stop.wait(fault.seconds)
        return self.card.transmit(apdu)

    def _record(self, exchange: Exchange) -> None:
        if len(self.trace) < MAX_TRACE:
            self.trace.append(exchange)
        if self.on_exchange is not None:
            self.on_exchange(exchange)


def _receive(link: socket.socket) -> bytes:
    size = int.from_bytes(_exactly(link, 2), "big")
    return _exactly(link, size)


def _exactly(link: socket.socket, size: int) -> bytes:
    """`size` (at most 65535) bytes; a closed connection is an OSError."""
    data = bytearray()
    while len(data) < size:
        piece = link.recv(size - len(data))
        if not piece:
            raise ConnectionResetError("the reader closed the connection")
        link.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
        data += piece
    return bytes(data)


def _send(link: socket.socket, body: bytes) -> None:
    body = body[:0xFFFF]  # the reader's limit; only an invented answer is longer
    link.sendall(len(body).to_bytes(2, "big") + body)


def _shut(link: socket.socket | None, how: int) -> None:
    if link is None:
        return
    try:
        link.shutdown(how)
    except OSError:
        _log.debug("already closed")
