"""Another program on the same key: its channel is busy with a touch, or it fills everybody's queue with its packets."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.patience import SECONDS
from tokenbridge.errors import DeviceBusy, TokenbridgeError
from tokenbridge.fido import sign_in
from tokenbridge.fido.info import Verification
from tokenbridge.fido.request import AssertionRequest, assertion_request
from tokenbridge.fido.session import KeySession
from tokenbridge.rig.key_socket import KeySocket
from tokenbridge.rig.virtual_key import Profile, Touch, VirtualKey
from tokenbridge.transport.base import KeyPlace
from tokenbridge.transport.worker import Cancel
from tokenbridge.wire.ctaphid import HidCommand

from .conftest import KeyBench, Site, challenge, untraced


class Shared:
    """A registered key at a socket that several programs may open."""

    def __init__(self, directory: Path) -> None:
        self.key = VirtualKey.create(Profile(aaguid=os.urandom(16)))
        bench = KeyBench(self.key)
        Site().register(bench, need="discouraged")
        bench.session.close()
        self.key.unplug()
        self.place = KeyPlace(path=str(directory / "shared.key"))
        self.key.plug(KeySocket(directory / "shared.key"))

    def program(self) -> KeySession:
        return KeySession.open(self.place, untraced)


@pytest.fixture
def shared(tmp_path: Path) -> Iterator[Shared]:
    made = Shared(tmp_path)
    yield made
    made.key.close()


def request() -> AssertionRequest:
    options = {"challenge": challenge(), "rpId": "portal.example.org", "userVerification": "discouraged"}
    return assertion_request(options, "https://portal.example.org")


class Blinking:
    """A program whose request waits for a touch, in a thread of its own."""

    def __init__(self, shared: Shared) -> None:
        shared.key.person.mode = Touch.COMMAND
        self._cancel = Cancel(time.monotonic() + 20)
        self._session = shared.program()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()
        assert shared.key.person.wait_until_asked(5)

    def _run(self) -> None:
        try:
            with self._session.during(self._cancel):
                sign_in.sign(self._session, request(), Verification.NONE)
        except TokenbridgeError:
            pass
        finally:
            self._session.close()

    def stop(self) -> None:
        self._cancel.cancel()
        self._thread.join(SECONDS)


def test_a_key_that_blinks_for_another_program_is_busy(shared: Shared, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tokenbridge.fido.channel.BUSY_SECONDS", 0.3)
    other = Blinking(shared)
    ours = shared.program()
    try:
        with pytest.raises(DeviceBusy, match="busy with another program"):
            sign_in.sign(ours, request(), Verification.NONE)
    finally:
        other.stop()
    shared.key.person.mode = Touch.ALWAYS
    assert sign_in.sign(ours, request(), Verification.NONE)
    ours.close()


def test_it_is_waited_for_when_the_other_program_is_soon_done(shared: Shared) -> None:
    other = Blinking(shared)
    touch = threading.Timer(0.5, shared.key.person.touch)
    touch.start()
    ours = shared.program()
    cancel = Cancel(time.monotonic() + 10)
    with ours.during(cancel, shared.key.person.touch):  # then our own
        assert sign_in.sign(ours, request(), Verification.NONE)
    ours.close()
    touch.join()
    other.stop()


def test_packets_of_others_do_not_crowd_us_out(shared: Shared) -> None:
    """Everybody who has the device open gets every packet; the other one's are many more than ours."""
    stop = threading.Event()
    counted: list[int] = []

    def flood() -> None:
        session, sent = shared.program(), 0
        while not stop.is_set():
            try:
                session._channel.call(HidCommand.PING, os.urandom(2000))
                sent += 1
            except TokenbridgeError:
                session.close()
                session = shared.program()
        session.close()
        counted.append(sent)

    other = threading.Thread(target=flood)
    ours = shared.program()
    other.start()
    try:
        for _ in range(5):
            assert sign_in.sign(ours, request(), Verification.NONE)
    finally:
        stop.set()
        other.join(SECONDS)
        ours.close()
    assert counted[0] > 0
