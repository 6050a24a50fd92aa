"""What only a key that does as it is told can show: pulled, refused, two programs at once; on the kernel's HID."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from fido2.ctap2 import Ctap2

from tokenbridge.errors import Cancelled, DeviceError, DeviceRemoved, KeyNotTouched, KeyRefused, TimedOut
from tokenbridge.rig.virtual_key import KeyAction, KeyFault, Touch
from tokenbridge.transport.hidraw import HidrawLink
from tokenbridge.transport.worker import Cancel

SECONDS = 30
PULLS = range(1, 7)


def _make(ctap: Ctap2) -> bytes:
    """A credential by one makeCredential; waits for a touch."""
    parameters = [{"type": "public-key", "alg": -7}]
    made = ctap.make_credential(bytes(32), {"id": "a.example", "name": "A"}, {"id": b"u", "name": "u"}, parameters)
    data = made.auth_data.credential_data
    assert data is not None
    return bytes(data.credential_id)


@pytest.mark.parametrize("at", PULLS)
@pytest.mark.parametrize("action", [KeyAction.PULL_IN, KeyAction.PULL_OUT])
def test_pulled_at_any_packet_it_is_a_typed_error_and_the_next_ceremony_works(
    plug: Any, open_key: Any, action: KeyAction, at: int
) -> None:
    key = plug()
    key.virtual.faults.arm(KeyFault(action=action, at=at))
    with pytest.raises(DeviceError), open_key(key) as session, session.calling() as ctap:  # noqa: PT012
        while True:
            _make(ctap)
    key.replug()
    with open_key(key) as session, session.calling() as ctap:
        assert _make(ctap)


def test_pulled_while_it_blinks(plug: Any, open_key: Any) -> None:
    key = plug()
    key.virtual.person.mode = Touch.NEVER
    with ThreadPoolExecutor(1) as pool, open_key(key) as session, session.calling() as ctap:
        waiting = pool.submit(_make, ctap)
        assert key.virtual.person.wait_until_asked(SECONDS)
        key.virtual.unplug()
        with pytest.raises(DeviceRemoved):
            waiting.result(SECONDS)


def test_a_cancelled_ceremony_stops_the_blinking_at_once(plug: Any, open_key: Any) -> None:
    key = plug()
    key.virtual.person.mode = Touch.NEVER
    cancel = Cancel(time.monotonic() + SECONDS)
    asked = threading.Event()
    with ThreadPoolExecutor(1) as pool, open_key(key) as session, session.during(cancel, asked.set):
        with session.calling() as ctap:
            waiting = pool.submit(_make, ctap)
            assert asked.wait(SECONDS)
            cancel.cancel()
            with pytest.raises(Cancelled):
                waiting.result(SECONDS)
        assert key.virtual.person.wait_until_idle(SECONDS)
    key.virtual.person.mode = Touch.ALWAYS
    with open_key(key) as session, session.calling() as ctap:
        assert _make(ctap)


def test_a_deadline_ends_the_wait(plug: Any, open_key: Any) -> None:
    key = plug()
    key.virtual.person.mode = Touch.NEVER
    with open_key(key) as session, session.calling() as ctap:
        session.facts  # noqa: B018  asked before the clock runs
        with session.during(Cancel(time.monotonic() + 0.5)), pytest.raises(TimedOut):
            _make(ctap)
        assert key.virtual.person.wait_until_idle(SECONDS)


def test_a_person_who_refuses(plug: Any, open_key: Any) -> None:
    key = plug()
    key.virtual.person.mode = Touch.DENY
    with open_key(key) as session, pytest.raises((KeyRefused, KeyNotTouched)), session.calling() as ctap:
        _make(ctap)


def test_two_programs_share_it(plug: Any, open_key: Any) -> None:
    """The second one's packets come to the first one, too: hidraw gives every reader everything."""
    key = plug()
    with open_key(key) as first, open_key(key) as second:
        for _ in range(3):
            with first.calling() as ctap:
                assert ctap.get_info().aaguid
            with second.calling() as ctap:
                assert ctap.get_info().aaguid


def test_several_keys_are_told_apart_by_serial_number(plug: Any, open_key: Any) -> None:
    keys = [plug(serial=serial) for serial in ("ward-1", "ward-2", "ward-3")]
    assert len({key.path for key in keys}) == 3
    assert [key.place.serial for key in keys] == ["ward-1", "ward-2", "ward-3"]
    for key in keys:
        with open_key(key) as session:
            assert session.facts.versions


def test_a_key_that_is_gone_can_not_be_opened(plug: Any) -> None:
    key = plug()
    key.virtual.unplug()
    with pytest.raises(DeviceRemoved):
        _until_gone(key.path)


def _until_gone(path: str) -> None:
    """The kernel takes a moment to remove the node."""
    until = time.monotonic() + SECONDS
    while time.monotonic() < until:
        HidrawLink(path).close()
