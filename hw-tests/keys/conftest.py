"""The bench for security keys: a virtual one on the kernel's /dev/uhid, or the real one that --rig-device names.

Tests ask for `key` (as it is), `fresh_key` (erased, without PIN) or `key_with_pin` (erased, with `key.pin`). A virtual
key is new for each test; a real one is erased only with --rig-allow-wipe. `key.touch()`: it wants to be touched now.
"""

from __future__ import annotations

import os
import queue
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

import pytest

from tokenbridge.fido import pin as pins
from tokenbridge.fido import settings
from tokenbridge.fido.session import KeySession
from tokenbridge.interaction import Secret
from tokenbridge.rig.key_pki import KeyPki
from tokenbridge.rig.virtual_key import AAGUID, Profile, VirtualKey
from tokenbridge.transport.base import DeviceEvent, EventKind, KeyPlace
from tokenbridge.transport.hidraw import keys as keys_there
from tokenbridge.transport.key_monitor import KeyMonitor
from tokenbridge.transport.uhid import Identity, UhidDevice

UHID = Path("/dev/uhid")
SECONDS = 30
PERSON_SECONDS = 60
PIN = "271828"
NAME, VENDOR, PRODUCT = "tokenbridge virtual key", 0x1050, 0x0402
"""The numbers of a YubiKey with FIDO alone: rules for keys by number must know it."""
USUAL = Profile(aaguid=AAGUID, preview=True)
"""Speaks the commands of the days before CTAP 2.1 as well, as keys on sale do: libfido2 1.12 knows no others."""


class BenchKey(Protocol):
    """One key, plugged in."""

    pin: str
    """Its PIN if the test asked for one."""

    @property
    def path(self) -> str:
        """Its device node; may be another one after `replug`."""

    @property
    def place(self) -> KeyPlace: ...

    def touch(self) -> None:
        """What comes next wants a touch."""

    def replug(self) -> None:
        """Out and in again; returns when it can be used."""


class Watch:
    """The bridge's own key monitor: tests wait for what it reports."""

    def __init__(self) -> None:
        self.events: queue.Queue[DeviceEvent] = queue.Queue()
        self._monitor = KeyMonitor(self.events.put)
        self._monitor.start()
        self.next(EventKind.KEYS_SETTLED)

    def next(
        self, kind: EventKind, fits: Callable[[KeyPlace], bool] = lambda _: True, seconds: float = SECONDS
    ) -> DeviceEvent:
        """The next event of `kind` about a key that `fits`; others are passed over."""
        until = time.monotonic() + seconds
        while True:
            try:
                event = self.events.get(timeout=max(until - time.monotonic(), 0))
            except queue.Empty:
                pytest.fail(f"no {kind} in {seconds} s", pytrace=False)
            if event.kind is kind and (event.key is None or fits(event.key)):
                return event

    def stop(self) -> None:
        self._monitor.stop()


class VirtualBenchKey:
    """A virtual key behind the kernel's uhid. Its person touches at once, unless `virtual.person` is told otherwise."""

    def __init__(self, virtual: VirtualKey, watch: Watch) -> None:
        self.virtual = virtual
        self.pin = ""
        self._watch = watch
        self.place = self._plug()

    @property
    def path(self) -> str:
        return self.place.path

    def touch(self) -> None:
        return

    def replug(self) -> None:
        self.virtual.unplug()
        self._watch.next(EventKind.KEY_REMOVED, self._is_ours)
        self.place = self._plug()

    def plug_quietly(self) -> None:
        """In again, without waiting for what comes of it: `place` stays what it was."""
        self.virtual.plug(
            UhidDevice.open(Identity(name=NAME, uniq=self.virtual.serial, vendor=VENDOR, product=PRODUCT))
        )

    def _plug(self) -> KeyPlace:
        self.plug_quietly()
        place = self._watch.next(EventKind.KEY_ADDED, self._is_ours).key
        assert place is not None
        # udev works on it after the kernel: only then do libfido2's tools see it reliably
        subprocess.run(["udevadm", "settle"], check=True, timeout=SECONDS)
        return place

    def _is_ours(self, place: KeyPlace) -> bool:
        return place.serial == self.virtual.serial

    def close(self) -> None:
        self.virtual.close()


class RealBenchKey:
    """A key on the bench, with a person beside it who reads the terminal."""

    def __init__(self, place: KeyPlace, watch: Watch, say: Callable[[str], None]) -> None:
        self.place = place
        self.pin = ""
        self._watch = watch
        self._say = say

    @property
    def path(self) -> str:
        return self.place.path

    def touch(self) -> None:
        self._say("touch the key when it blinks")

    def replug(self) -> None:
        self._say("take the key out")
        self._watch.next(EventKind.KEY_REMOVED, lambda gone: gone.path == self.path, PERSON_SECONDS)
        self._say("plug it in again")
        same = (self.place.vendor, self.place.product, self.place.serial)
        added = self._watch.next(
            EventKind.KEY_ADDED, lambda key: (key.vendor, key.product, key.serial) == same, PERSON_SECONDS
        )
        assert added.key is not None
        self.place = added.key


@contextmanager
def open_session(key: BenchKey) -> Iterator[KeySession]:
    """The bridge's own session with the key."""
    session = KeySession.open(key.place, lambda *_: None)
    try:
        yield session
    finally:
        session.close()


@pytest.fixture
def open_key() -> Callable[[BenchKey], AbstractContextManager[KeySession]]:
    """`with open_key(key) as session`: the bridge's own session."""
    return open_session


@pytest.fixture(scope="session")
def kernel_keys(request: pytest.FixtureRequest, rig_platform: str) -> None:
    """Skips where the kernel takes no virtual keys; `make hw-test` brings a kernel that does."""
    if rig_platform == "virtual" and not os.access(UHID, os.R_OK | os.W_OK):
        pytest.skip(f"needs {UHID}: `make hw-test` runs it in a virtual machine")


@pytest.fixture(scope="session")
def watch(kernel_keys: None) -> Iterator[Watch]:
    made = Watch()
    yield made
    made.stop()


@pytest.fixture(scope="session")
def key_pki() -> KeyPki:
    """Whom a relying party would have to trust."""
    return KeyPki.create(now=datetime.now(UTC))


@pytest.fixture
def say(request: pytest.FixtureRequest) -> Callable[[str], None]:
    """Tells the person at the bench something, past pytest's capture."""
    capture = request.config.pluginmanager.getplugin("capturemanager")

    def tell(text: str) -> None:
        with capture.global_and_fixture_disabled():
            print(f"\n>>> {request.node.name}: {text}", flush=True)

    return tell


@pytest.fixture
def plug(watch: Watch, key_pki: KeyPki, rig_platform: str) -> Iterator[Callable[..., VirtualBenchKey]]:
    """`plug(Profile(...))` plugs in a new virtual key; only for tests that can't run on a real one."""
    if rig_platform != "virtual":
        pytest.skip("needs a virtual key")
    made: list[VirtualBenchKey] = []

    def new(profile: Profile | None = None, *, serial: str = "") -> VirtualBenchKey:
        virtual = VirtualKey.create(profile or USUAL, serial=serial, pki=key_pki)
        made.append(VirtualBenchKey(virtual, watch))
        return made[-1]

    yield new
    for one in made:
        one.close()


@pytest.fixture
def key(request: pytest.FixtureRequest, watch: Watch, rig_platform: str, rig_device: str) -> BenchKey:
    """The key under test, as it is."""
    if rig_platform == "virtual":
        new: BenchKey = request.getfixturevalue("plug")()
        return new
    found = [place for place in keys_there() if rig_device in (place.path, place.serial)]
    if len(found) != 1:
        pytest.exit(f"--rig-device {rig_device!r} fits {len(found)} keys", returncode=2)
    return RealBenchKey(found[0], watch, request.getfixturevalue("say"))


@pytest.fixture
def fresh_key(key: BenchKey, rig_wipe: None, rig_platform: str) -> BenchKey:
    """Erased: neither PIN nor credentials."""
    if rig_platform == "real":
        key.replug()  # a key takes a reset only in its first ten seconds (CTAP 2.1 section 6.6)
        key.touch()
        with open_session(key) as session:
            settings.reset(session)
    return key


@pytest.fixture
def key_with_pin(fresh_key: BenchKey) -> BenchKey:
    """Erased, with the PIN `key.pin`."""
    with open_session(fresh_key) as session:
        pins.set_first(session, Secret(PIN.encode()))
    fresh_key.pin = PIN
    return fresh_key
