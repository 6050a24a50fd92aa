"""Keys that answer with the wrong kind of thing, or leave out what they may leave out."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from fido2 import cbor

from tokenbridge.authenticator.commands import CommandByte
from tokenbridge.errors import BadKeyData, Cancelled
from tokenbridge.fido import credentials, fingerprints, values
from tokenbridge.fido import pin as key_pin
from tokenbridge.fido.channel import KeyChannel
from tokenbridge.fido.pin import Permission
from tokenbridge.rig.virtual_key import KeyAction, KeyFault
from tokenbridge.transport.base import PacketLink
from tokenbridge.transport.worker import Cancel
from tokenbridge.wire.ctaphid import (
    BROADCAST,
    Assembler,
    Capability,
    ContinuationPacket,
    HidCommand,
    InitAnswer,
    Message,
    parse,
)

from .conftest import KeyBench, Site, pin, untraced

HUGE = 1 << 40
"""As a number of bytes, more than there is memory."""


@pytest.mark.parametrize("value", [None, 0, HUGE, "text", [1], {}, b"x" * 9000])
def test_what_are_no_bytes(value: Any) -> None:
    with pytest.raises(BadKeyData):
        values.octets(value)


@pytest.mark.parametrize("value", [None, -1, 9, True, 1.0, "1", b"1"])
def test_what_is_no_count(value: Any) -> None:
    with pytest.raises(BadKeyData):
        values.count(value, 8)


@pytest.mark.parametrize("value", [5, None, b"name", ["x"], {}])
def test_what_is_no_name_is_none(value: Any) -> None:
    assert values.text(value) == ""


def test_names_are_short_and_draw_nothing() -> None:
    assert values.text("\x1b[2Jada\nroot" + "x" * 100) == "?[2Jada?root" + "x" * 52


@contextmanager
def answering(bench: KeyBench, command: CommandByte, answer: dict[int, Any], at: int = 1) -> Iterator[None]:
    """`bench`'s key, which answers the `at`-th `command` with `answer`."""
    payload = b"\0" + cbor.encode(answer)
    bench.key.faults.arm(KeyFault(action=KeyAction.ANSWER, at=at, command=command, answer=payload))
    yield
    bench.key.faults.disarm()


ASSERTION = {1: {"type": "public-key", "id": b"x" * 16}, 2: bytes(37), 3: b"signature"}


@pytest.mark.parametrize(
    "lie",
    [
        {1: {"type": "public-key", "id": HUGE}},
        {1: {"type": "public-key"}},
        {1: {}},
        {3: HUGE},
        {4: {"id": HUGE}},
        {4: {"id": "ada"}},
        {5: HUGE},
        {5: True},
        {5: "two"},
    ],
)
def test_assertions_of_the_wrong_make(bench: KeyBench, site: Site, lie: dict[int, Any]) -> None:
    site.register(bench, need="discouraged")
    with answering(bench, CommandByte.GET_ASSERTION, ASSERTION | lie), pytest.raises(BadKeyData):
        site.sign_in(bench, need="discouraged")
    site.sign_in(bench, need="discouraged")


def test_the_one_credential_that_was_named_may_be_left_out(bench: KeyBench, site: Site) -> None:
    site.register(bench, need="discouraged")
    (whole,) = site.sign_in(bench, need="discouraged", named=True)
    with answering(bench, CommandByte.GET_ASSERTION, {2: bytes(37), 3: b"signature"}), pytest.raises(ValueError):  # noqa: PT011  the site's: it was no signature
        site.sign_in(bench, need="discouraged", named=True)
    assert whole.response["rawId"]


def test_a_finger_without_a_name(make_bench: Any) -> None:
    bench = make_bench(with_pin=True, fingerprints=True)
    token = key_pin.token(bench.session, pin(), Permission.BIO_ENROLLMENT)
    added = fingerprints.add(bench.session, token, "", lambda left, problem: None)
    with answering(bench, CommandByte.BIO_ENROLLMENT, {7: [{1: added.id}]}, at=2):
        assert fingerprints.enrolled(bench.session, token) == (added,)
    with answering(bench, CommandByte.BIO_ENROLLMENT, {7: [{1: HUGE}]}, at=2), pytest.raises(BadKeyData):
        fingerprints.enrolled(bench.session, token)


@pytest.mark.parametrize("rooms", [{1: HUGE, 2: 1}, {1: 0, 2: HUGE}, {1: -1, 2: 1}])
def test_a_key_that_keeps_more_than_there_is(pin_bench: KeyBench, rooms: dict[int, Any]) -> None:
    token = key_pin.token(pin_bench.session, pin(), Permission.CREDENTIAL_MANAGEMENT)
    with answering(pin_bench, CommandByte.CREDENTIAL_MANAGEMENT, rooms), pytest.raises(BadKeyData):
        credentials.stored(pin_bench.session, token)


class SlowKey:
    """A `PacketLink` to a key that answers what was cancelled all the same: when the next request comes."""

    def __init__(self) -> None:
        self._out: list[bytes] = []
        self._late: list[bytes] = []
        self._half: Assembler | None = None
        self._channels = 0

    def send(self, packet: bytes) -> None:
        part = parse(packet)
        if isinstance(part, ContinuationPacket):
            assert self._half is not None
            self._half.feed(part)
        elif part.command != HidCommand.CANCEL:
            self._half = Assembler(part)
        if self._half is not None and self._half.complete:
            self._take(self._half.message())
            self._half = None

    def _take(self, message: Message) -> None:
        self._out, self._late = self._late, []
        if message.command == HidCommand.INIT:
            self._channels += 1
            answer = InitAnswer(nonce=message.payload, channel=self._channels, capabilities=Capability.CBOR)
            self._say(BROADCAST, HidCommand.INIT, answer.encode(), self._out)
        elif message.payload == b"slow":
            self._say(message.channel, HidCommand.CBOR, b"late", self._late)
        else:
            self._say(message.channel, HidCommand.CBOR, b"right", self._out)

    @staticmethod
    def _say(channel: int, command: int, payload: bytes, where: list[bytes]) -> None:
        where += Message(channel=channel, command=command, payload=payload).packets()

    def receive(self, timeout: float | None) -> bytes | None:
        if not self._out and timeout:
            threading.Event().wait(min(timeout, 0.01))  # as a link that blocks would
        return self._out.pop(0) if self._out else None

    def close(self) -> None:
        """Nothing is open."""


def test_the_late_answer_of_what_was_cancelled_answers_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tokenbridge.fido.channel.CANCEL_SECONDS", 0.05)
    link: PacketLink = SlowKey()
    channel = KeyChannel(link, "slow key", untraced)
    channel.open()
    channel.cancel = cancel = Cancel(time.monotonic() + 5)
    asked = threading.Timer(0.2, cancel.cancel)
    asked.start()
    with pytest.raises(Cancelled):
        channel.call(HidCommand.CBOR, b"slow")
    asked.join()
    channel.cancel = Cancel(time.monotonic() + 5)
    assert channel.call(HidCommand.CBOR, b"quick") == b"right"
