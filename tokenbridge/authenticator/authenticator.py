"""The authenticator: bytes of a request in, an operation that ends with bytes of the answer out. Never raises on input.

CTAP 2.1 sections 6 and 8: a request is a command byte and a CBOR map; an answer is a status byte and a CBOR map.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from tokenbridge.authenticator import cbor
from tokenbridge.authenticator.commands import COMMANDS, NEXT_COMMANDS, CommandByte, offered
from tokenbridge.authenticator.core import Answer, Core
from tokenbridge.authenticator.ctap1 import ctap1
from tokenbridge.authenticator.ports import StoreFault, World
from tokenbridge.authenticator.profile import MAX_MESSAGE_SIZE, Profile
from tokenbridge.authenticator.status import Refusal, Status, require
from tokenbridge.authenticator.steps import Result, Slow, Step, Steps, Wait

__all__ = ["Authenticator", "CommandByte", "Operation"]

FAILED: Final = bytes([Status.OTHER])


class Operation:
    """One request under way: either it waits for `step`, or it has its `answer`."""

    def __init__(self, steps: Steps[bytes]) -> None:
        self._steps = steps
        self.step: Step | None = None
        self.answer: bytes | None = None
        self._advance(lambda: next(steps))

    def resume(self, value: Any) -> None:
        """Go on with a `Result` for a `Wait`, or with what the job of a `Slow` returned."""
        self._advance(lambda: self._steps.send(value))

    def fail(self, error: Exception) -> None:
        """The job of a `Slow` raised `error`."""
        self._advance(lambda: self._steps.throw(error))

    def cancel(self) -> None:
        """End it with KEEPALIVE_CANCEL, whatever it waits for; nothing more is done or stored."""
        if self.answer is None:
            self._steps.close()
            self.step, self.answer = None, bytes([Status.KEEPALIVE_CANCEL])

    def _advance(self, move: Callable[[], Step]) -> None:
        try:
            self.step = move()
        except StopIteration as done:
            self.step, self.answer = None, done.value


class Authenticator:
    """One device, from power-up on. Not for several threads at once; one operation at a time."""

    def __init__(self, profile: Profile, world: World) -> None:
        self.core = Core(profile, world)

    def start(self, request: bytes, channel: object = None) -> Operation:
        """Begin a CTAP2 request. `channel` tells platforms apart: what one left open no other can go on with."""
        return Operation(self._cbor(request, channel))

    def start_ctap1(self, request: bytes) -> Operation:
        """Begin a CTAP1 request: a command APDU, answered with a response APDU."""
        return Operation(ctap1(self.core, request))

    def process_cbor(self, request: bytes, answer: Callable[[Wait], Result], channel: object = None) -> bytes:
        """Carry a request out at once; `answer` says what the person does."""
        operation = self.start(request, channel)
        while operation.answer is None:
            match operation.step:
                case Slow(job=job):
                    self._run(operation, job)
                case Wait() as wait:
                    operation.resume(answer(wait))
        return operation.answer

    @staticmethod
    def _run(operation: Operation, job: Callable[[], Any]) -> None:
        try:
            value = job()
        except StoreFault as err:
            operation.fail(err)
        else:
            operation.resume(value)

    def _cbor(self, request: bytes, channel: object) -> Steps[bytes]:
        try:
            answer = yield from self._command(request, channel)
        except Refusal as refusal:
            return bytes([refusal.status])
        except StoreFault:
            return FAILED
        said = bytes([Status.OK]) + (cbor.encode(answer) if answer else b"")
        # a long chain of attestation certificates is all that could make it too long for any message
        return said if len(said) <= MAX_MESSAGE_SIZE else FAILED

    def _command(self, request: bytes, channel: object) -> Steps[Answer]:
        core = self.core
        require(len(request) > 0, Status.INVALID_LENGTH)
        require(len(request) <= core.profile.max_message, Status.REQUEST_TOO_LARGE)
        command = COMMANDS.get(request[0])
        if command is None or not offered(core, request[0]):
            raise Refusal(Status.INVALID_COMMAND)
        source = cbor.decode(request[1:]) if len(request) > 1 else {}
        require(isinstance(source, dict), Status.CBOR_UNEXPECTED_TYPE)
        if request[0] not in NEXT_COMMANDS or channel != core.channel:
            core.forget_following()
        core.channel = channel
        return (yield from command(core, source))
