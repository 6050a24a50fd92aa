"""The background process that holds one virtual key until it gets SIGTERM. SIGUSR1 touches it, SIGUSR2 refuses.

    python -m tokenbridge.rig.key_serve KEY_FILE NOTE_FILE PLACE [SETTING=VALUE ...]

PLACE is `uhid`, or the path of a packet socket. The process that was started ends when the key is in (exit 0) or can't
be (exit 1, the reason on standard output); a child of its session goes on. While it lives it holds a lock on the note,
in which stand its process number and the place. Settings: `mode`, `seconds` and `finger` of `rig.key_person.Person`.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from typing import Final

from tokenbridge.errors import TimedOut, TokenbridgeError
from tokenbridge.rig.key_person import Touch
from tokenbridge.rig.key_socket import KeySocket
from tokenbridge.rig.serve import READY, leave_terminal, take_lock
from tokenbridge.rig.virtual_key import VirtualKey
from tokenbridge.transport.base import DeviceEnd
from tokenbridge.transport.uhid import Identity, UhidDevice

ENDS: Final = {signal.SIGTERM, signal.SIGINT, signal.SIGHUP}
TOUCH: Final = signal.SIGUSR1
DENY: Final = signal.SIGUSR2
UHID_PLACE: Final = "uhid"
START_SECONDS: Final = 10.0
NAME: Final = "tokenbridge virtual key"
VENDOR: Final = 0x1209
PRODUCT: Final = 0x0001
"""pid.codes' number for tests: it belongs to no product."""


def main(arguments: list[str]) -> int:
    """Start the child and wait for its word."""
    key, note, place, *settings = arguments
    reader, writer = os.pipe()
    if os.fork() == 0:
        os.close(reader)
        os.setsid()
        _serve(Path(key), Path(note), place, dict(text.split("=", 1) for text in settings), writer)
        return 0
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        word = pipe.read()
    if word == READY:
        return 0
    sys.stdout.write(word.decode("utf-8", "replace"))
    return 1


def identity(key: VirtualKey) -> Identity:
    """What the kernel and the hosts are told of a virtual key."""
    return Identity(name=NAME, uniq=key.serial, phys="tokenbridge", vendor=VENDOR, product=PRODUCT)


def _serve(path: Path, note: Path, place: str, settings: dict[str, str], writer: int) -> None:
    # blocked before any thread starts, so that signals wait for `sigwait` and for nothing else
    signal.pthread_sigmask(signal.SIG_BLOCK, ENDS | {TOUCH, DENY})
    lock = os.open(note, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        key = _insert(path, place, settings, lock)
    except TokenbridgeError as err:
        os.write(writer, err.message.encode())
        return
    leave_terminal()
    os.write(writer, READY)
    os.close(writer)
    _until_ended(key)
    key.close()


def _insert(path: Path, place: str, settings: dict[str, str], lock: int) -> VirtualKey:
    take_lock(lock, "That key is inserted already.")
    key = VirtualKey.load(path)
    person = key.person
    person.mode = Touch(settings.get("mode", person.mode))
    person.seconds = float(settings.get("seconds", person.seconds))
    person.finger = settings.get("finger", person.finger)
    end = _end(key, place)
    key.plug(end)
    if isinstance(end, UhidDevice) and not end.wait_started(START_SECONDS):
        raise TimedOut("The kernel does not take the key into use.")
    os.ftruncate(lock, 0)
    os.pwrite(lock, json.dumps({"pid": os.getpid(), "place": place}).encode(), 0)
    return key


def _end(key: VirtualKey, place: str) -> DeviceEnd:
    return UhidDevice.open(identity(key)) if place == UHID_PLACE else KeySocket(Path(place))


def _until_ended(key: VirtualKey) -> None:
    while True:
        match signal.sigwait(ENDS | {TOUCH, DENY}):
            case signal.SIGUSR1:
                key.person.touch()
            case signal.SIGUSR2:
                key.person.deny()
            case _:
                return


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
