"""A virtual security key: CTAP 2.1 and U2F in software, at any connection. Never put it to real use.

    key = VirtualKey.create()                    # profile=, serial=, pki=, path= (a file that it is kept in)
    host = key.plug_in_process()                 # a transport.packets.PacketSocket: the host's end
    key.person.mode = Touch.NEVER                # ALWAYS (default), DENY, COMMAND + person.touch(), LATE + seconds
    key.person.wait_until_asked(5.0)             # the key blinks; a Wait with purpose, rp_id and user
    key.faults.arm(KeyFault(action=KeyAction.PULL_OUT, at=3))
    key.counts["getAssertion"]                   # CTAP commands since `counts.clear()`, by name
    host = key.power_cycle_in_process()          # unplugged and plugged in: the old end is dead
    key.unplug()

`plug(end)` serves any `transport.base.DeviceEnd`, such as `transport.uhid.UhidDevice`; after `plug_at(make)` there is
`power_cycle()`. The memory is `key.memory`, as saved last; `key.edit()` changes it while the key is unplugged (counter
set back, PIN tries used up). `key.pki.root` is what a relying party would have to trust.
"""

from __future__ import annotations

import os
import threading
from collections import Counter, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from fido2 import cbor

from tokenbridge.authenticator.authenticator import Authenticator
from tokenbridge.authenticator.commands import CommandByte
from tokenbridge.authenticator.hid import HidDevice
from tokenbridge.authenticator.memory import Memory
from tokenbridge.authenticator.ports import StoreFault, World
from tokenbridge.authenticator.profile import Profile
from tokenbridge.errors import NotAllowedNow, SetupError
from tokenbridge.rig import key_state
from tokenbridge.rig.key_faults import KeyAction, KeyFault, KeyFaultPlan
from tokenbridge.rig.key_person import Person, Sensor, Touch
from tokenbridge.rig.key_pki import KeyPki
from tokenbridge.rig.key_service import KeyService
from tokenbridge.rig.key_socket import KeySocket
from tokenbridge.rig.key_state import KeyState
from tokenbridge.rig.key_store import SoftKeyStore, SystemClock, SystemRandom, ThreadJobs
from tokenbridge.transport.base import DeviceEnd
from tokenbridge.transport.packets import PacketSocket
from tokenbridge.wire.ctaphid import HidCommand, Message

__all__ = ["AAGUID", "KeyAction", "KeyFault", "Profile", "Touch", "VirtualKey"]

AAGUID: Final = bytes.fromhex("0b7e5c2a6f0d4c599a35f3d1c2a4e871")
"""Of the model that is made unless another profile is given."""
MAX_TRANSCRIPT: Final = 10000

NAMES: Final[dict[int, str]] = {
    CommandByte.MAKE_CREDENTIAL: "makeCredential",
    CommandByte.GET_ASSERTION: "getAssertion",
    CommandByte.GET_INFO: "getInfo",
    CommandByte.CLIENT_PIN: "clientPIN",
    CommandByte.RESET: "reset",
    CommandByte.GET_NEXT_ASSERTION: "getNextAssertion",
    CommandByte.BIO_ENROLLMENT: "bioEnrollment",
    CommandByte.CREDENTIAL_MANAGEMENT: "credentialManagement",
    CommandByte.SELECTION: "selection",
    CommandByte.LARGE_BLOBS: "largeBlobs",
    CommandByte.CONFIG: "config",
    CommandByte.BIO_ENROLLMENT_PREVIEW: "bioEnrollmentPreview",
    CommandByte.CREDENTIAL_MANAGEMENT_PREVIEW: "credentialManagementPreview",
}
SUBCOMMANDS: Final[dict[int, str]] = {
    1: "getPINRetries",
    2: "getKeyAgreement",
    3: "setPIN",
    4: "changePIN",
    5: "getPinToken",
    6: "getPinUvAuthTokenUsingUv",
    7: "getUVRetries",
    9: "getPinToken",
}
"""Of clientPIN (CTAP 2.1 section 6.5.5); a token by PIN, with permissions or without, is one thing here."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Heard:
    """One message that the key received whole. `name` is a CTAP2 command's, or CTAPHID's."""

    name: str
    channel: int
    payload: bytes

    @property
    def command(self) -> str:
        """As `name`, but clientPIN by its subcommand."""
        if self.name != NAMES[CommandByte.CLIENT_PIN]:
            return self.name
        try:
            asked: Any = cbor.decode(self.payload[1:])
            return SUBCOMMANDS.get(asked[2], self.name)
        except (ValueError, LookupError, TypeError):
            return self.name


class VirtualKey:
    """One key, at one connection at a time. All methods may be called from any thread but the key's own."""

    def __init__(self, state: KeyState, path: Path | None = None, pki: KeyPki | None = None) -> None:
        self.state = state
        self.pki = pki
        self.person = Person(state)
        self.faults = KeyFaultPlan()
        self.counts: Counter[str] = Counter()
        self.transcript: deque[Heard] = deque(maxlen=MAX_TRANSCRIPT)
        self._lock = threading.RLock()
        self._store = SoftKeyStore(state, path)
        self._jobs = ThreadJobs()
        self._service: KeyService | None = None
        self._make: Callable[[], DeviceEnd] | None = None
        self._keep()

    @classmethod
    def create(
        cls,
        profile: Profile | None = None,
        *,
        serial: str = "",
        pki: KeyPki | None = None,
        path: Path | None = None,
    ) -> VirtualKey:
        """A new key without PIN or credentials. Its batch is certified by `pki`, or by a root of its own.

        Raises `SetupError` if `path` can't be written.
        """
        profile = profile or Profile(aaguid=AAGUID)
        now = datetime.now(UTC)
        pki = pki or KeyPki.create(now=now)
        state = KeyState(
            profile=profile,
            serial=serial or os.urandom(4).hex(),
            device_key=os.urandom(32),
            batch=pki.batch(profile.aaguid, now=now),
        )
        return cls(state, path, pki)

    @classmethod
    def load(cls, path: Path) -> VirtualKey:
        """The key kept in `path`; raises `SetupError`."""
        return cls(key_state.read(path), path)

    @property
    def serial(self) -> str:
        return self.state.serial

    @property
    def profile(self) -> Profile:
        return self.state.profile

    @property
    def memory(self) -> Memory:
        """What the key has stored last; a copy."""
        return self._store.load() or self._authenticator().core.memory

    @property
    def plugged(self) -> bool:
        """Whether it is at a connection now (false after a fault pulled it, or the host's end was closed)."""
        service = self._service
        return service is not None and service.running

    @contextmanager
    def edit(self) -> Iterator[Memory]:
        """Change what the key remembers. It must be unplugged, since a key that runs has its own copy."""
        with self._lock:
            if self.plugged:
                raise NotAllowedNow("The key is plugged in.", next_step="Unplug it first.")
            memory = self.memory
            yield memory
            self.state.memory = memory
            self._keep()

    def change_profile(self, **changes: object) -> None:
        """Another firmware: takes effect when the key is plugged in next."""
        with self._lock:
            self.state.profile = replace(self.state.profile, **changes)  # type: ignore[arg-type]  # named by the caller
            self._keep()

    # --- connections ----------------------------------------------------------------------------------------

    def plug(self, end: DeviceEnd) -> None:
        """Power up at a connection, which is closed when the key leaves. Pulled from another one first."""
        self.unplug()
        with self._lock:
            device = HidDevice(self._authenticator(), self.person, self._jobs, on_command=self._heard)
            self._service = KeyService(device, end, self.faults)
            self._service.start()

    def plug_at(self, make: Callable[[], DeviceEnd]) -> None:
        """Plug into what `make` makes, now and at each `power_cycle`: `lambda: KeySocket(path)`, for one."""
        self._make = make
        self.unplug()
        self.plug(make())

    def power_cycle(self) -> None:
        """Pull the key and plug it in again where `plug_at` did. Raises `NotAllowedNow` if it was not by that."""
        if self._make is None:
            raise NotAllowedNow("It is not known where to plug the key in.", next_step="Plug it in with `plug_at`.")
        self.plug_at(self._make)

    def plug_in_process(self) -> PacketSocket:
        """Plug into this process; the host's end."""
        host, end = KeySocket.in_process()
        self.plug(end)
        return host

    def unplug(self) -> None:
        """Pull the key; does nothing if it is out."""
        with self._lock:
            service, self._service = self._service, None
        if service is not None:
            service.stop()

    def power_cycle_in_process(self) -> PacketSocket:
        """Pull the key and plug it in again: a new window for resets, a new chance for PINs. The new host's end."""
        self.unplug()
        return self.plug_in_process()

    def wait_until_unplugged(self, timeout: float) -> bool:
        """Whether the key was out before `timeout` seconds were over, as after a fault."""
        service = self._service
        return service is None or service.wait(timeout)

    def close(self) -> None:
        """Unplug for good."""
        self.unplug()
        self._jobs.close()

    def _keep(self) -> None:
        try:
            self._store.write()
        except StoreFault as err:
            raise SetupError("The virtual key can't be kept in its file.", detail=str(err)) from err

    def _authenticator(self) -> Authenticator:
        world = World(
            store=self._store,
            clock=SystemClock(),
            random=SystemRandom(),
            attestation=self.state.batch,
            sensor=Sensor(self.state, self.person) if self.profile.fingerprints else None,
        )
        return Authenticator(self.profile, world)

    def _heard(self, message: Message) -> None:
        name = _name(message)
        self.counts[name] += 1
        self.transcript.append(Heard(name=name, channel=message.channel, payload=message.payload))
        if self._service is not None:
            self._service.answering(message)


def _name(message: Message) -> str:
    if message.command == HidCommand.CBOR and message.payload:
        return NAMES.get(message.payload[0], f"command {message.payload[0]:02x}")
    try:
        return HidCommand(message.command).name
    except ValueError:
        return f"CTAPHID {message.command:02x}"
