"""The workstation of a demo that is kept: the bridge's settings, the loopback door among them, and who answers it.

Only root may open the door (`daemon.settings`). A demo that root runs opens it; anybody else's leaves the file beside
it that an administrator puts in place, and the pages go by the link until then.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tokenbridge.rig.ports import free_port

ROOT: Final = 0
TEXT_ONLY: Final = ("pinentry-curses", "pinentry-tty")


@dataclass(frozen=True, slots=True, kw_only=True)
class Workstation:
    """`door_file` is what the settings are once the door is open; the same as `settings` where it is."""

    door_port: int
    config_home: Path
    settings: Path
    door_file: Path
    has_window: bool

    @property
    def door_is_open(self) -> bool:
        return self.door_file == self.settings

    @property
    def opening(self) -> str:
        """What an administrator types to open the door; empty where it is open."""
        if self.door_is_open:
            return ""
        return f"sudo install -m 644 -o root {shlex.quote(str(self.door_file))} {shlex.quote(str(self.settings))}"


def furnish(directory: Path, origin: str, ca_file: Path, environ: Mapping[str, str] = os.environ) -> Workstation:
    """Write the settings below `directory`; before the bridge starts. Raises `SetupError` if no port is free."""
    config_home = directory / "config"
    folder = config_home / "tokenbridge"
    folder.mkdir(parents=True)
    place = Workstation(
        door_port=free_port(),
        config_home=config_home,
        settings=folder / "bridge.toml",
        door_file=folder / ("bridge.toml" if os.getuid() == ROOT else "with-door.toml"),
        has_window=has_window(environ),
    )
    usual = {"ca_file": str(ca_file)}
    if not place.has_window:
        usual["pinentry"] = str(_bystander(directory))
    _write(place.settings, usual)
    _write(place.door_file, {**usual, "door_origins": [origin], "door_port": place.door_port})
    return place


def has_window(environ: Mapping[str, str]) -> bool:
    """Whether the machine's pinentry can open a window here."""
    found = shutil.which("pinentry", path=environ.get("PATH"))
    shown = environ.get("DISPLAY") or environ.get("WAYLAND_DISPLAY")
    return bool(found and shown) and os.path.basename(os.path.realpath(str(found))) not in TEXT_ONLY


def _bystander(directory: Path) -> Path:
    script = directory / "bystander"
    script.write_text(f"#!/bin/sh\nexec {shlex.quote(sys.executable)} -m tokenbridge.rig.demo.bystander\n", "utf-8")
    script.chmod(0o700)
    return script


def _write(path: Path, settings: Mapping[str, object]) -> None:
    """Texts, lists of texts and numbers are written alike in JSON and TOML; a mode that a strict umask can't spoil."""
    lines = (f"{key} = {json.dumps(value, ensure_ascii=False)}\n" for key, value in settings.items())
    path.write_text("".join(lines), "utf-8")
    path.chmod(0o644)
