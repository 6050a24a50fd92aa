"""Figures of security keys on a real kernel's HID device: run inside the virtual machine by `benchmarks.keys`."""

from __future__ import annotations

import base64
import os
import pty
import queue
import statistics
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

from tokenbridge.errors import DeviceError
from tokenbridge.fido import pin as key_pin
from tokenbridge.fido import register, sign_in, verification
from tokenbridge.fido.info import Verification
from tokenbridge.fido.request import assertion_request, creation_request
from tokenbridge.fido.session import KeySession
from tokenbridge.interaction import Secret
from tokenbridge.rig.key_serve import identity
from tokenbridge.rig.virtual_key import AAGUID, Profile, VirtualKey
from tokenbridge.transport import uevents
from tokenbridge.transport.base import DeviceEvent, EventKind, KeyPlace
from tokenbridge.transport.key_monitor import KeyMonitor
from tokenbridge.transport.trace import log_traffic
from tokenbridge.transport.uhid import UhidDevice

RP_ID: Final = "site.example"
ORIGIN: Final = f"https://{RP_ID}"
PIN: Final = "271828"
SECONDS: Final = 30.0
ROUNDS: Final = 20

Events = queue.Queue[DeviceEvent]


def main() -> None:
    events: Events = queue.Queue()
    monitor = KeyMonitor(events.put)
    monitor.start()
    try:
        _commands(events)
        _latency(events)
    finally:
        monitor.stop()


def _commands(events: Events) -> None:
    """CTAP2 commands of one sign-in, counted by the key itself; CTAPHID's INIT is not counted."""
    print("CTAP commands of a sign-in, counted by the key      fido2-assert   ours, new   ours, known   minimum")
    for title, with_pin, resident, least in (
        ("named credential, no PIN", False, False, 1),
        ("named credential, PIN", True, False, 3),
        ("discoverable credential, no PIN", False, True, 1),
        ("discoverable credential, PIN", True, True, 3),
    ):
        theirs, new, known = _case(events, with_pin=with_pin, resident=resident)
        print(f"  {title:48}{len(theirs):8}{len(new):14}{len(known):12}{least:12}")
        print(f"    fido2-assert: {', '.join(theirs)}")
        print(f"    ours, known:  {', '.join(known)}")
    print("  Before a PIN is asked ours also reads the tries that are left (getPINRetries), which is not counted here.")


def _case(events: Events, *, with_pin: bool, resident: bool) -> tuple[list[str], list[str], list[str]]:
    # With the commands of before CTAP 2.1 as well, as keys on sale have them: libfido2 1.12 knows no others.
    key = VirtualKey.create(Profile(aaguid=AAGUID, preview=True))
    place = _plugged(key, events)
    session = KeySession.open(place, log_traffic)
    try:
        if with_pin:
            key_pin.set_first(session, Secret(PIN.encode()))
        credential = _registered(session, resident=resident)
        session.close()
        session = KeySession.open(place, log_traffic)
        new = _counted(key, lambda: _sign_in(session, credential, resident=resident))
        known = _counted(key, lambda: _sign_in(session, credential, resident=resident))
        theirs = _counted(key, lambda: _fido2_assert(place.path, credential, with_pin=with_pin, resident=resident))
        return theirs, new, known
    finally:
        session.close()
        key.close()
        _next(events, EventKind.KEY_REMOVED, key.serial)


def _registered(session: KeySession, *, resident: bool) -> bytes:
    options = {
        "rp": {"id": RP_ID, "name": "Site"},
        "user": {"id": "YWRh", "name": "ada", "displayName": "Ada"},
        "challenge": _random(),
        "pubKeyCredParams": [{"type": "public-key", "alg": -7}],
        "authenticatorSelection": {"residentKey": "required" if resident else "discouraged"},
        "attestation": "direct",
    }
    request = creation_request(options, ORIGIN)
    how = verification.to_register(session.facts, request.verification)
    made = register.create(session, request, how, _pin(how))
    return base64.urlsafe_b64decode(str(made.response["rawId"]) + "==")


def _sign_in(session: KeySession, credential: bytes, *, resident: bool) -> None:
    named = [{"type": "public-key", "id": base64.urlsafe_b64encode(credential).rstrip(b"=").decode()}]
    options: dict[str, Any] = {"challenge": _random(), "rpId": RP_ID, "allowCredentials": [] if resident else named}
    request = assertion_request(options, ORIGIN)
    how = verification.to_sign_in(session.facts, request.verification)
    sign_in.sign(session, request, how, _pin(how))


def _pin(how: Verification) -> Secret | None:
    return Secret(PIN.encode()) if how is Verification.PIN else None


def _random() -> str:
    return base64.urlsafe_b64encode(os.urandom(32)).rstrip(b"=").decode()


def _counted(key: VirtualKey, work: Callable[[], object]) -> list[str]:
    key.transcript.clear()
    work()
    return [heard.command for heard in key.transcript if heard.name != "INIT"]


def _fido2_assert(path: str, credential: bytes, *, with_pin: bool, resident: bool) -> None:
    """The same sign-in by libfido2's tool; it asks for the PIN on its terminal."""
    with TemporaryDirectory() as directory:
        lines = [base64.b64encode(os.urandom(32)).decode(), RP_ID, *_unless(resident, credential)]
        given = Path(directory) / "assert"
        given.write_text("\n".join(lines) + "\n")
        flags = [*(["-r"] if resident else []), *(["-t", "pin=true"] if with_pin else [])]
        _on_a_terminal(["fido2-assert", "-G", *flags, "-i", str(given), path], PIN if with_pin else "")


def _unless(resident: bool, credential: bytes) -> list[str]:
    return [] if resident else [base64.b64encode(credential).decode()]


def _on_a_terminal(command: list[str], answer: str) -> None:
    child, terminal = pty.fork()
    if child == 0:
        os.execvp(command[0], command)
    if answer:
        said = b""
        while b":" not in said:
            said += os.read(terminal, 4096)
        os.write(terminal, answer.encode() + b"\n")
    try:
        while os.read(terminal, 4096):
            continue
    except OSError:  # EIO: the program has ended
        pass
    os.close(terminal)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if code != 0:
        raise subprocess.CalledProcessError(code, command)


def _latency(events: Events) -> None:
    """From the kernel's own event to the moment at which the key can be used, and from its removal to ours."""
    key = VirtualKey.create(Profile(aaguid=AAGUID))
    kernel = uevents.UeventSocket()
    added, removed = [], []
    try:
        for _ in range(ROUNDS):
            _drain(kernel)
            key.plug(UhidDevice.open(identity(key)))
            heard = _heard(kernel, "add")
            event = _next(events, EventKind.KEY_ADDED, key.serial)
            KeySession.open(_place(event), log_traffic).close()
            added.append((time.monotonic() - heard) * 1000)
            key.unplug()
            heard = _heard(kernel, "remove")
            removed.append((_next(events, EventKind.KEY_REMOVED, key.serial).at - heard) * 1000)
    finally:
        key.close()
        kernel.close()
    print(f"\nkernel's event -> key opened, INIT answered  median {statistics.median(added):6.1f} ms, "
          f"worst {max(added):6.1f} ms (n={ROUNDS}, goal 100)")  # fmt: skip
    print(f"kernel's event -> removal told               median {statistics.median(removed):6.1f} ms, "
          f"worst {max(removed):6.1f} ms")  # fmt: skip


def _drain(kernel: uevents.UeventSocket) -> None:
    while kernel.read():
        continue


def _heard(kernel: uevents.UeventSocket, action: str) -> float:
    """When the first such event was there."""
    end = time.monotonic() + SECONDS
    while time.monotonic() < end:
        for event in kernel.read():
            if event.action == action:
                return time.monotonic()
        time.sleep(0.0005)
    raise TimeoutError(action)


def _plugged(key: VirtualKey, events: Events) -> KeyPlace:
    key.plug(UhidDevice.open(identity(key)))
    return _place(_next(events, EventKind.KEY_ADDED, key.serial))


def _next(events: Events, kind: EventKind, serial: str) -> DeviceEvent:
    while True:
        event = events.get(timeout=SECONDS)
        if event.kind is kind and event.key is not None and event.key.serial == serial:
            return event


def _place(event: DeviceEvent) -> KeyPlace:
    if event.key is None:
        raise DeviceError(detail="an event without its key")
    return event.key


if __name__ == "__main__":
    main()
