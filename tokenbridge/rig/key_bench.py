"""Virtual keys of a bench by name: made, inserted, touched and pulled. They live in `HOME/keys`.

A key that is inserted is served by a background process of its own (`tokenbridge.rig.key_serve`), which holds a lock on
the key's note as long as it lives, as virtual cards' do.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from tokenbridge.authenticator.profile import Profile
from tokenbridge.errors import BadRequest, NotAllowedNow, SetupError
from tokenbridge.rig import background, key_state
from tokenbridge.rig.bench import NAME
from tokenbridge.rig.key_pki import KeyPki
from tokenbridge.rig.key_serve import DENY, TOUCH, UHID_PLACE
from tokenbridge.rig.socket_room import fits
from tokenbridge.rig.virtual_key import VirtualKey
from tokenbridge.transport.packets import SUFFIX, hidden_name
from tokenbridge.transport.uhid import UHID

SOCKETS: Final = "TOKENBRIDGE_KEY_SOCKETS"
"""Names the folder for keys on machines without uhid."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyEntry:
    """A key of the bench. `place` is `uhid` or a socket's path, None when the key is out."""

    name: str
    path: Path
    serial: str
    aaguid: str
    credentials: int
    pin: bool
    pin_tries: int
    fingerprints: int
    place: str | None
    pid: int | None

    def as_dict(self) -> dict[str, Any]:
        """JSON types only."""
        return {
            "name": self.name,
            "file": str(self.path),
            "serial": self.serial,
            "aaguid": self.aaguid,
            "credentials": self.credentials,
            "pin": self.pin,
            "pin_tries": self.pin_tries,
            "fingerprints": self.fingerprints,
            "inserted": None if self.place is None else {"place": self.place, "pid": self.pid},
        }


class KeyBench:
    """Everything below one home directory."""

    def __init__(self, home: Path) -> None:
        self.home = home.absolute()

    @property
    def pki_directory(self) -> Path:
        return self.home / "pki"

    def pki(self) -> KeyPki:
        """The test root of the bench's keys, made at first use."""
        if (self.pki_directory / "key-root.pem").exists():
            return KeyPki.load(self.pki_directory)
        pki = KeyPki.create(now=datetime.now(UTC))
        pki.save(self.pki_directory)
        return pki

    def new(self, name: str, profile: Profile, serial: str = "") -> KeyEntry:
        """Make a key. Raises `NotAllowedNow` if the name is taken, `BadRequest` if it can't be one."""
        path = self._path(name)
        if path.exists():
            raise NotAllowedNow(f"There is a key named {name} already.", next_step="Choose another name.")
        VirtualKey.create(profile, serial=serial, pki=self.pki(), path=path).close()
        return self.entry(name)

    def entry(self, name: str) -> KeyEntry:
        """One key. Raises `SetupError` if there is none of that name."""
        path = self._path(name)
        state = key_state.read(path)
        memory, note = state.memory, background.read_note(self._note(name))
        return KeyEntry(
            name=name,
            path=path,
            serial=state.serial,
            aaguid=state.profile.aaguid.hex(),
            credentials=0 if memory is None else len(memory.credentials),
            pin=memory is not None and memory.pin is not None,
            pin_tries=state.profile.pin_tries if memory is None else memory.pin_tries,
            fingerprints=0 if memory is None else len(memory.fingerprints),
            place=note.get("place"),
            pid=note.get("pid"),
        )

    def entries(self) -> list[KeyEntry]:
        """All keys by name."""
        return [self.entry(path.stem) for path in sorted((self.home / "keys").glob("*.json"))]

    def credentials(self, name: str) -> list[dict[str, str]]:
        """The discoverable credentials on the key, as it has stored them last; JSON types only."""
        memory = key_state.read(self._path(name)).memory
        return [
            {
                "rp_id": one.rp_id,
                "id": one.id.hex(),
                "user": one.user.name if one.user else "",
                "algorithm": one.algorithm.name,
            }
            for one in (() if memory is None else memory.credentials)
        ]

    def insert(self, name: str, place: str, settings: Mapping[str, str]) -> KeyEntry:
        """Plug the key in, if it is not. `settings` are those of `rig.key_serve`. Raises `SetupError`."""
        if self.entry(name).place is None:
            self._serve(name, place, settings)
        return self.entry(name)

    def remove(self, name: str) -> KeyEntry:
        """Pull the key and wait until it is out; does nothing if it is."""
        found = self.entry(name)
        if found.pid is not None:
            background.stop(name, self._note(name), found.pid)
        return self.entry(name)

    def touch(self, name: str, *, deny: bool = False) -> KeyEntry:
        """Touch the key, or refuse what it asks for. Raises `NotAllowedNow` if it is out."""
        found = self.entry(name)
        if found.pid is None:
            raise NotAllowedNow(f"{name} is not inserted.", next_step=f"Run `tokenbridge rig key insert {name}`.")
        os.kill(found.pid, DENY if deny else TOUCH)
        return found

    def _serve(self, name: str, place: str, settings: Mapping[str, str]) -> None:
        note = self._note(name)
        note.parent.mkdir(parents=True, exist_ok=True)
        words = [f"{key}={value}" for key, value in settings.items()]
        background.start(
            "tokenbridge.rig.key_serve", str(self._path(name)), str(note), place, *words,
            failure="The virtual key did not start.",
            next_step="Load uhid and be root, or name a folder for packet sockets.",
        )  # fmt: skip

    def _path(self, name: str) -> Path:
        if not NAME.fullmatch(name):
            raise BadRequest(f"{name!r} can't be a key's name: letters, digits, dot, dash and underscore only.")
        return self.home / "keys" / f"{name}.json"

    def _note(self, name: str) -> Path:
        return self.home / "run" / f"key-{name}.json"


def place_for(entry: KeyEntry, sockets: Path | None, *, kernel: Path | None = UHID) -> str:
    """Where a key is plugged in: the kernel if it makes keys, else a packet socket in `sockets`.

    None for `kernel` leaves it out. Raises `SetupError` if there is neither.
    """
    if kernel is not None and os.access(kernel, os.R_OK | os.W_OK):
        return UHID_PLACE
    if sockets is None:
        raise SetupError(
            f"A virtual key needs {UHID}, which is not there or not yours.",
            next_step=f"Run `sudo modprobe uhid` and be root, or set {SOCKETS} to a folder that the bridge watches.",
        )
    try:
        sockets.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as err:
        raise SetupError(f"{sockets} can't be a folder for keys: {err.strerror or err}.") from err
    place = sockets.absolute() / f"{entry.name}-{entry.serial}{SUFFIX}"
    if not fits(hidden_name(place)):
        raise SetupError(
            f"The path of a key in {sockets} is too long for a socket.",
            next_step=f"Set {SOCKETS} to a folder with a shorter path.",
        )
    return str(place)
