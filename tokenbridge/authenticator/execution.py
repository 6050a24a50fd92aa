"""A request that is being carried out over CTAPHID: people and slow jobs it waits for, and the keepalives meanwhile.

CTAP 2.1 section 11.2.9.2.1. Sans-I/O: time is a parameter.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from tokenbridge.authenticator.authenticator import Operation
from tokenbridge.authenticator.ports import Jobs, Pending, Presence, StoreFault
from tokenbridge.authenticator.steps import Result, Slow, Wait
from tokenbridge.wire import ctaphid
from tokenbridge.wire.ctaphid import KEEPALIVE_SECONDS, HidCommand, KeepaliveStatus, Message

JOB_SECONDS: Final = 0.02
"""How often a slow job is looked at; it takes a second at most, and nobody waits at the device."""
PRESENCE_SECONDS: Final = 0.05
"""How often the person is looked at while one is waited for, if nothing else happens sooner."""
IMPATIENT_SECONDS: Final = 2.0
"""After which a CTAP1 host that has not asked again has given up: a touch that comes now is not for it."""


@dataclass(slots=True)
class _Busy:
    """The request that is being carried out."""

    channel: int
    command: int
    operation: Operation
    keepalive_at: float
    wait: Wait | None = None
    wait_until: float = 0.0
    job: Pending[Any] | None = None
    status: KeepaliveStatus = KeepaliveStatus.PROCESSING


class Execution:
    """Carries out one request at a time. All methods return the messages to send, in order, if they return any."""

    def __init__(self, presence: Presence, jobs: Jobs) -> None:
        self._presence = presence
        self._jobs = jobs
        self._busy: _Busy | None = None
        self._asked: Wait | None = None
        self._asked_at = 0.0

    @property
    def channel(self) -> int | None:
        """The channel of the request that is being carried out, None if there is none."""
        return None if self._busy is None else self._busy.channel

    def start(self, message: Message, operation: Operation, now: float) -> list[Message]:
        """Begin to carry out what `message` asked for."""
        self._give_up_impatient(now)
        self._busy = _Busy(message.channel, message.command, operation, now + KEEPALIVE_SECONDS)
        return self.proceed(now)

    def proceed(self, now: float) -> list[Message]:
        """Go on as far as it goes, then say that it still goes on if it is time to."""
        busy = self._busy
        if busy is None:
            self._give_up_impatient(now)
            return []
        while busy.operation.answer is None and self._step(busy, now):
            pass
        if busy.operation.answer is not None:
            return self._finish(busy)
        status = KeepaliveStatus.PROCESSING if busy.wait is None else KeepaliveStatus.UPNEEDED
        # at once when the status changes, else every 100 ms
        if now < busy.keepalive_at and status is busy.status:
            return []
        busy.status, busy.keepalive_at = status, now + KEEPALIVE_SECONDS
        return [ctaphid.keepalive(busy.channel, status)]

    def cancel(self, channel: int) -> list[Message]:
        """CANCEL has no answer of its own: the CTAP2 request that it ends has (section 11.2.9.1.5)."""
        busy = self._busy
        if busy is None or busy.channel != channel or busy.command != HidCommand.CBOR:
            return []
        busy.operation.cancel()
        self._end_asking()
        return self._finish(busy)

    def abandon(self) -> None:
        """Give the request up without an answer."""
        if self._busy is not None:
            self._busy.operation.cancel()
            self._busy = None
            self._end_asking()

    def power_down(self) -> None:
        """Whatever was asked of a person is asked no more."""
        self.abandon()
        self._end_asking()

    def next_moment(self, now: float) -> float | None:
        """When `proceed` is wanted, None if only a packet can change anything."""
        if self._busy is not None:
            step = JOB_SECONDS if self._busy.job is not None else PRESENCE_SECONDS
            return min(self._busy.keepalive_at, now + step)
        return None if self._asked is None else self._asked_at + IMPATIENT_SECONDS

    def _step(self, busy: _Busy, now: float) -> bool:
        """Whether the request got any further."""
        match busy.operation.step:
            case Wait() as wait:
                return self._wait_step(busy, wait, now)
            case Slow(job=job):
                if busy.job is None:
                    busy.job = self._jobs.start(job)
                return self._job_step(busy, busy.job)
            case _:
                return False

    def _job_step(self, busy: _Busy, job: Pending[Any]) -> bool:
        if not job.done():
            return False
        busy.job = None
        try:
            value = job.result()
        except StoreFault as err:
            busy.operation.fail(err)
        else:
            busy.operation.resume(value)
        return True

    def _wait_step(self, busy: _Busy, wait: Wait, now: float) -> bool:
        if busy.wait is not wait:
            self._begin_asking(wait, now)
            busy.wait, busy.wait_until = wait, now + wait.seconds
        result = self._presence.poll(now)
        if result is None and wait.patient and now < busy.wait_until:
            return False
        busy.wait = None
        if result is not None or wait.patient:
            self._end_asking()
        busy.operation.resume(Result.TIMED_OUT if result is None else result)
        return True

    # An impatient wait (CTAP1) is asked on between the host's requests, so that a touch between two of them counts.

    def _begin_asking(self, wait: Wait, now: float) -> None:
        going_on = not wait.patient and self._asked == wait
        self._asked_at = now
        if going_on:
            return
        self._end_asking()
        self._presence.begin(wait, now)
        self._asked = wait

    def _give_up_impatient(self, now: float) -> None:
        if now >= self._asked_at + IMPATIENT_SECONDS:
            self._end_asking()

    def _end_asking(self) -> None:
        if self._asked is not None:
            self._asked = None
            self._presence.end()

    def _finish(self, busy: _Busy) -> list[Message]:
        self._busy = None
        return [Message(channel=busy.channel, command=busy.command, payload=busy.operation.answer or b"")]
