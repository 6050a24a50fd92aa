"""Tells the desktop that links to `tokenbridge:` are opened by the bridge (XDG desktop entries, mime applications)."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tokenbridge import config
from tokenbridge.daemon.hand_over import SCHEME
from tokenbridge.errors import SetupError

FILE: Final = "tokenbridge.desktop"
SYSTEM: Final = Path("/usr/local/share/applications")
TOOL_SECONDS: Final = 30


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """`text` is what the file holds now, empty if it was removed."""

    path: Path
    text: str
    changed: bool


def user_place(environ: Mapping[str, str] | None = None) -> Path:
    return config.xdg("XDG_DATA_HOME", ".local/share", environ) / "applications"


def entry(program: Path) -> str:
    """A desktop entry (Desktop Entry Specification 1.5) that starts `program`. Raises `SetupError`."""
    shown = str(program)
    if not program.is_absolute() or any(char in shown for char in '"`$\\%\n'):
        raise SetupError(f"The program's path {shown!r} can't stand in a desktop entry.")
    return (
        "[Desktop Entry]\n"
        "Type=Application\n"
        "Name=tokenbridge\n"
        "Comment=Sign in with a smartcard on a web page\n"
        f'Exec="{shown}" hand-over --desktop %u\n'
        "NoDisplay=true\n"
        "Terminal=false\n"
        f"MimeType=x-scheme-handler/{SCHEME};\n"
    )


def install(program: Path, *, directory: Path, dry_run: bool = False) -> Outcome:
    """Write the entry and make it the handler of the scheme. The same again changes nothing. Raises `SetupError`."""
    path, text = directory / FILE, entry(program)
    changed = _read(path) != text
    if not dry_run:
        if changed:
            _write(path, text)
        _tell(directory)
    return Outcome(path=path, text=text, changed=changed)


def uninstall(*, directory: Path, dry_run: bool = False) -> Outcome:
    path = directory / FILE
    there = path.exists()
    if there and not dry_run:
        try:
            path.unlink()
        except OSError as err:
            raise SetupError(f"{path} can't be removed: {err.strerror}.") from err
        _tell(directory)
    return Outcome(path=path, text="", changed=there)


def _read(path: Path) -> str:
    try:
        return path.read_text("utf-8")
    except (OSError, UnicodeDecodeError):
        return ""


def _write(path: Path, text: str) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        new = path.with_suffix(".new")
        new.write_text(text, "utf-8")
        new.replace(path)
    except OSError as err:
        raise SetupError(
            f"{path} can't be written: {err.strerror}.", next_step="With --system, run it as the administrator."
        ) from err


def _tell(directory: Path) -> None:
    """Desktops that keep an index are told; where the tools are missing, the file is found without them."""
    commands = [["update-desktop-database", str(directory)]]
    if directory != SYSTEM and (directory / FILE).exists():
        commands.append(["xdg-mime", "default", FILE, f"x-scheme-handler/{SCHEME}"])
    for command in commands:
        if shutil.which(command[0]) is not None:
            subprocess.run(
                command, check=False, capture_output=True, timeout=TOOL_SECONDS, env={**os.environ, "LC_ALL": "C"}
            )
