"""The rig's home on disk: cards by name, their test PKI, and which card is in which reader slot.

A card that is inserted is served by a background process of its own (`tokenbridge.rig.serve`), which holds a lock on
the card's note as long as it lives: the lock, not the process number, says that the card is in.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from cryptography import x509
from cryptography.x509.oid import NameOID

from tokenbridge.config import xdg
from tokenbridge.errors import BadRequest, NotAllowedNow
from tokenbridge.rig import background, card_state, pcscd, piv_objects
from tokenbridge.rig.card_state import CardProfile, CardState
from tokenbridge.rig.machine_pcscd import MACHINE_PORTS
from tokenbridge.rig.piv_objects import PinRef
from tokenbridge.rig.pki import RigPki
from tokenbridge.rig.provision import Staff, staff_card

NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A card of the bench. `keys` maps references in hexadecimal to algorithm names; `port` is None when it is out."""

    name: str
    path: Path
    uid: str
    guid: str
    keys: Mapping[str, str]
    pin_tries: int
    port: int | None
    pid: int | None

    def as_dict(self) -> dict[str, Any]:
        """JSON types only."""
        inserted = None if self.port is None else {"port": self.port, "pid": self.pid}
        return {
            "name": self.name,
            "file": str(self.path),
            "uid": self.uid,
            "guid": self.guid,
            "keys": dict(self.keys),
            "pin_tries": self.pin_tries,
            "inserted": inserted,
        }


def default_home(environ: Mapping[str, str] | None = None) -> Path:
    """`$XDG_DATA_HOME/tokenbridge/rig`."""
    return xdg("XDG_DATA_HOME", ".local/share", environ) / "tokenbridge" / "rig"


def slot_port(slot: int, environ: Mapping[str, str] | None = None) -> int:
    """The port of a reader slot of the daemon that the environment names, else of the machine's own daemon."""
    named = (os.environ if environ is None else environ).get(pcscd.ENVIRONMENT, "")
    ports = pcscd.ports_of(Path(named)) if named else ()
    ports = ports or MACHINE_PORTS
    if not 0 <= slot < len(ports):
        raise BadRequest(f"There is no slot {slot}: slots are 0 to {len(ports) - 1}.")
    return ports[slot]


class Bench:
    """Everything below one home directory."""

    def __init__(self, home: Path) -> None:
        self.home = home.absolute()

    @property
    def pki_directory(self) -> Path:
        return self.home / "pki"

    @property
    def pcscd_directory(self) -> Path:
        return self.home / "pcscd"

    def pki(self) -> RigPki:
        """The bench's test PKI, made at first use; its revocation lists are written anew each time."""
        if (self.pki_directory / "root.pem").exists():
            pki = RigPki.load(self.pki_directory)
            pki.write_crls(self.pki_directory, now=datetime.now(UTC))
            return pki
        pki = RigPki.create(now=datetime.now(UTC))
        pki.save(self.pki_directory)
        return pki

    def new(self, name: str, staff: Staff, profile: CardProfile, pins: tuple[bytes, bytes]) -> Entry:
        """Make a card. Raises `NotAllowedNow` if the name is taken, `BadRequest` if it can't be one."""
        path = self._path(name)
        if path.exists():
            raise NotAllowedNow(f"There is a card named {name} already.", next_step="Choose another name.")
        staff_card(self.pki(), staff, now=datetime.now(UTC), profile=profile, pins=pins, path=path)
        return self.entry(name)

    def entry(self, name: str) -> Entry:
        """One card. Raises `SetupError` if there is none of that name."""
        path = self._path(name)
        state = card_state.read(path)
        certificates = _certificates(state)
        note = background.read_note(self._note(name))
        return Entry(
            name=name,
            path=path,
            uid=_common_name(certificates[0]) if certificates else "",
            guid=state.guid.hex(),
            keys={f"{ref:02X}": key.algorithm.name.lower() for ref, key in sorted(state.keys.items())},
            pin_tries=max(pin.tries for ref, pin in state.pins.items() if ref != PinRef.PUK),
            port=note.get("port"),
            pid=note.get("pid"),
        )

    def entries(self) -> list[Entry]:
        """All cards by name."""
        return [self.entry(path.stem) for path in sorted((self.home / "cards").glob("*.json"))]

    def insert(self, name: str, port: int) -> Entry:
        """Put the card into the slot behind `port`, if it is not there. Raises `NotAllowedNow`, `SetupError`."""
        for other in self.entries():
            if other.port == port and other.name != name:
                raise NotAllowedNow(
                    f"{other.name} is in that slot.", next_step=f"Run `tokenbridge rig card remove {other.name}` first."
                )
        found = self.entry(name)
        if found.port is None:
            self._serve(name, port)
        elif found.port != port:
            raise NotAllowedNow(
                f"{name} is in another slot (port {found.port}).",
                next_step=f"Run `tokenbridge rig card remove {name}` first.",
            )
        return self.entry(name)

    def remove(self, name: str) -> Entry:
        """Pull the card and wait until it is out; does nothing if it is."""
        found = self.entry(name)
        if found.pid is not None:
            background.stop(name, self._note(name), found.pid)
        return self.entry(name)

    def revoke(self, name: str) -> list[str]:
        """Revoke the card's certificates and write the list anew; their serial numbers, in hexadecimal."""
        pki = self.pki()
        certificates = _certificates(card_state.read(self._path(name)))
        for certificate in certificates:
            pki.revoke(certificate, at=datetime.now(UTC))
        pki.save(self.pki_directory)
        return [f"{certificate.serial_number:x}" for certificate in certificates]

    def _serve(self, name: str, port: int) -> None:
        note = self._note(name)
        note.parent.mkdir(parents=True, exist_ok=True)
        background.start(
            "tokenbridge.rig.serve", str(self._path(name)), str(port), str(note),
            failure="The virtual card did not start.",
            next_step="Start a PC/SC daemon with `tokenbridge rig pcscd`, or install pcscd and vsmartcard-vpcd.",
        )  # fmt: skip

    def _path(self, name: str) -> Path:
        if not NAME.fullmatch(name):
            raise BadRequest(f"{name!r} can't be a card's name: letters, digits, dot, dash and underscore only.")
        return self.home / "cards" / f"{name}.json"

    def _note(self, name: str) -> Path:
        return self.home / "run" / f"{name}.json"


def _certificates(state: CardState) -> list[x509.Certificate]:
    return list(_readable_certificates(state))


def _readable_certificates(state: CardState) -> Iterator[x509.Certificate]:
    """Those on the card that can be read; cards may be made to hold anything."""
    for ref in filter(piv_objects.has_certificate, sorted(state.keys)):
        content = state.objects.get(piv_objects.cert_tag(ref), b"")
        with contextlib.suppress(ValueError, OSError):
            yield x509.load_der_x509_certificate(piv_objects.certificate_bytes(content))


def _common_name(certificate: x509.Certificate) -> str:
    names = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    return str(names[0].value) if names else ""
