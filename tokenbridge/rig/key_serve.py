"""The background process that holds one virtual key until it gets SIGTERM. SIGUSR1 touches it, SIGUSR2 refuses.

    python -m tokenbridge.rig.key_serve KEY_FILE NOTE_FILE PLACE [SETTING=VALUE ...]

PLACE is `uhid`, or the path of a packet socket. The process that was started ends when the key is in (exit 0) or can't
be (exit 1, the reason on standard output); a child of its session goes on. While it lives it holds a lock on the note,
in which stand its process number and the place. Settings: `mode`, `seconds` and `finger` of `rig.key_person.Person`.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final

from tokenbridge.errors import TimedOut
from tokenbridge.rig import background
from tokenbridge.rig.key_person import Touch
from tokenbridge.rig.key_socket import KeySocket
from tokenbridge.rig.virtual_key import VirtualKey
from tokenbridge.transport.base import DeviceEnd
from tokenbridge.transport.uhid import Identity, UhidDevice

TOUCH: Final = signal.SIGUSR1
DENY: Final = signal.SIGUSR2
SIGNALS: Final = {*background.ENDS, TOUCH, DENY}
UHID_PLACE: Final = "uhid"
START_SECONDS: Final = 10.0
NAME: Final = "tokenbridge virtual key"
VENDOR: Final = 0x1209
PRODUCT: Final = 0x0001
"""pid.codes' number for tests: it belongs to no product."""


def main(arguments: list[str]) -> int:
    """Start the child and wait for its word."""
    path, note, place, *settings = arguments
    chosen = dict(text.split("=", 1) for text in settings)

    def opened(lock: int) -> Callable[[], None]:
        key = _insert(VirtualKey.load(Path(path)), place, chosen)
        background.write_note(lock, place=place)
        return lambda: _until_ended(key)

    return background.serve(Path(note), "That key is inserted already.", SIGNALS, opened)


def identity(key: VirtualKey) -> Identity:
    """What the kernel and the hosts are told of a virtual key."""
    return Identity(name=NAME, uniq=key.serial, phys="tokenbridge", vendor=VENDOR, product=PRODUCT)


def _insert(key: VirtualKey, place: str, settings: dict[str, str]) -> VirtualKey:
    person = key.person
    person.mode = Touch(settings.get("mode", person.mode))
    person.seconds = float(settings.get("seconds", person.seconds))
    person.finger = settings.get("finger", person.finger)
    end = _end(key, place)
    key.plug(end)
    if isinstance(end, UhidDevice) and not end.wait_started(START_SECONDS):
        raise TimedOut("The kernel does not take the key into use.")
    return key


def _end(key: VirtualKey, place: str) -> DeviceEnd:
    return UhidDevice.open(identity(key)) if place == UHID_PLACE else KeySocket(Path(place))


def _until_ended(key: VirtualKey) -> None:
    while True:
        match signal.sigwait(SIGNALS):
            case signal.SIGUSR1:
                key.person.touch()
            case signal.SIGUSR2:
                key.person.deny()
            case _:
                key.close()
                return


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
