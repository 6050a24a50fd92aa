"""Command chaining, GET RESPONSE and 6Cxx as a conversation without I/O (ISO/IEC 7816-4 sections 5.3.3 and 5.3.4).

The host's side is a generator that yields command APDUs to send and is sent the response APDUs. The device's side is
two small buffers. Both are bounded: a card that answers 61xx for ever, or a host that chains for ever, is an error.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass, field, replace
from typing import Final

from tokenbridge.wire.apdu import CHAINING, INS, MAX_EXTENDED, MAX_SHORT_DATA, MAX_SHORT_LE, SW, Command, Response

MAX_RESPONSE: Final = 32768
"""More than any object of a PIV card (certificates are at most a few kB), less than what would hurt."""
MAX_ROUNDS: Final = 160


class EndlessResponse(ValueError):
    """The card keeps answering "more data" beyond `MAX_RESPONSE` bytes or `MAX_ROUNDS` rounds or with nothing."""


def converse(command: Command, *, extended: bool = False) -> Generator[bytes, bytes, Response]:
    """Send `command` in full and gather the whole answer; returns it with the last status word."""
    answer = yield from _send(command, extended=extended)
    # 6Cxx corrects an Le. To a command without one it is nonsense, and a PIN must not be sent a second time for that.
    if command.le is not None and (le := answer.right_le) is not None and not answer.data:
        answer = Response.parse((yield _encode(_last_part(command, extended=extended).with_le(le), extended=False)))
    data = bytearray(answer.data)
    rounds = 0
    while (more := answer.more) is not None:
        rounds += 1
        if rounds > MAX_ROUNDS or len(data) > MAX_RESPONSE:
            raise EndlessResponse(f"{len(data)} bytes after {rounds} rounds")
        get_response = Command(command.cla & ~CHAINING, INS.GET_RESPONSE, 0, 0, le=more)
        answer = Response.parse((yield get_response.short()))
        if answer.more is not None and not answer.data:
            raise EndlessResponse("more data announced, none given")
        data += answer.data
    return Response(bytes(data), answer.sw)


def run(command: Command, transmit: Callable[[bytes], bytes], *, extended: bool = False) -> Response:
    """Drive `converse` over `transmit`, which sends one APDU and returns the answer."""
    talk = converse(command, extended=extended)
    try:
        raw = next(talk)
        while True:
            raw = talk.send(transmit(raw))
    except StopIteration as done:
        response: Response = done.value
        return response


def _encode(command: Command, *, extended: bool) -> bytes:
    if extended:
        return replace(command, le=None if command.le is None else MAX_EXTENDED + 1).extended()
    return command.short()


def _parts(command: Command) -> list[Command]:
    """The short commands that carry `command`; all but the last have the chaining bit and no Le."""
    pieces = [command.data[i : i + MAX_SHORT_DATA] for i in range(0, len(command.data), MAX_SHORT_DATA)] or [b""]
    chained = [replace(command, cla=command.cla | CHAINING, data=piece, le=None) for piece in pieces[:-1]]
    le = None if command.le is None else min(command.le, MAX_SHORT_LE)
    return [*chained, replace(command, data=pieces[-1], le=le)]


def needs_extended(command: Command) -> bool:
    """Whether `command` goes out in one extended APDU where the card takes those, in short ones otherwise."""
    return len(command.data) > MAX_SHORT_DATA or (command.le or 0) > MAX_SHORT_LE


def _last_part(command: Command, *, extended: bool) -> Command:
    return command if extended else _parts(command)[-1]


def _send(command: Command, *, extended: bool) -> Generator[bytes, bytes, Response]:
    if extended and needs_extended(command):
        return Response.parse((yield _encode(command, extended=True)))
    parts = _parts(command)
    for part in parts[:-1]:
        answer = Response.parse((yield part.short()))
        if not answer.ok:
            return answer
    return Response.parse((yield parts[-1].short()))


@dataclass(slots=True)
class CommandAssembler:
    """Device side: joins a chain of commands. `feed` returns the whole command, or a response to give at once."""

    limit: int = 16384
    _head: tuple[int, int, int] | None = None
    _data: bytearray = field(default_factory=bytearray)

    def feed(self, command: Command) -> Command | Response:
        """The complete command (chaining bit cleared), or the `Response` that an incomplete chain gets."""
        head = (command.ins, command.p1, command.p2)
        if self._head is not None and head != self._head:
            self.reset()
            if command.cla & CHAINING:
                return Response(b"", SW.LAST_COMMAND_EXPECTED)
        if len(self._data) + len(command.data) > self.limit:
            self.reset()
            return Response(b"", SW.WRONG_LENGTH)
        if command.cla & CHAINING:
            self._head = head
            self._data += command.data
            return Response(b"", SW.OK)
        whole = replace(command, data=bytes(self._data) + command.data)
        self.reset()
        return whole

    def reset(self) -> None:
        self._head = None
        self._data.clear()


@dataclass(slots=True)
class ResponseQueue:
    """Device side: holds what does not fit the answer, to be fetched by GET RESPONSE."""

    _rest: bytes = b""

    def answer(self, response: Response, le: int | None) -> Response:
        """The first part of `response` that fits `le` bytes (256 if None), with 61xx if there is more."""
        limit = MAX_SHORT_LE if le is None else le
        if len(response.data) <= limit:
            self._rest = b""
            return response
        self._rest = response.data[limit:]
        return Response(response.data[:limit], 0x6100 | self._left())

    def get_response(self, le: int | None) -> Response:
        """The next part."""
        if not self._rest:
            return Response(b"", SW.CONDITIONS_NOT_SATISFIED)
        rest, self._rest = self._rest, b""
        return self.answer(Response(rest, SW.OK), le)

    def clear(self) -> None:
        self._rest = b""

    def _left(self) -> int:
        return len(self._rest) if len(self._rest) < MAX_SHORT_LE else 0
