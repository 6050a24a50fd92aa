"""Installs the udev rules on this machine, or removes them, and has udev apply them to what is plugged in."""

from __future__ import annotations

import contextlib
import grp
import os
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tokenbridge.daemon import udev_rules
from tokenbridge.errors import SetupError

RULES_DIRECTORY: Final = Path("/etc/udev/rules.d")
SYSTEMD: Final = Path("/run/systemd/system")
"""There while systemd runs as process 1 (sd_booted(3))."""
UDEV_SECONDS: Final = 60
MAX_RULES: Final = 1 << 20
MODE: Final = 0o644

RELOAD: Final = ("control", "--reload")
APPLY: Final = ("trigger", "--action=change", "--subsystem-match=hidraw", "--subsystem-match=usb", "--settle")


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """`text` is what the file holds now, empty if it was removed; `applied` whether a running udev has taken it up."""

    path: Path
    text: str
    changed: bool
    applied: bool

    def as_dict(self) -> dict[str, Any]:
        return {
            "path": str(self.path),
            "installed": bool(self.text),
            "changed": self.changed,
            "applied": self.applied,
            "rules": self.text,
        }


def wanted(group: str | None, *, systemd: bool) -> str:
    """The rules for this machine. `group` gets access in any case; None: plugdev, and only where there is no systemd.

    Raises `SetupError` if the group does not exist.
    """
    keys = udev_rules.known_keys()
    if group is None and systemd and not _exists(udev_rules.GROUP):
        return udev_rules.rules(keys, group=None)  # udev would complain about a group that nobody needs here
    text = udev_rules.rules(keys, group=group or udev_rules.GROUP, everywhere=group is not None)
    name = group or udev_rules.GROUP
    if not _exists(name):
        raise SetupError(
            f"There is no group {name} on this machine.",
            next_step=f"Make it with `sudo groupadd --system {name}`, or name another by --group.",
        )
    return text


def _exists(group: str) -> bool:
    try:
        grp.getgrnam(group)
    except KeyError:
        return False
    return True


def install(
    group: str | None = None, *, directory: Path = RULES_DIRECTORY, systemd: Path = SYSTEMD, dry_run: bool = False
) -> Outcome:
    """Write the rules to `directory`, unless they are there, and apply them. With `dry_run` nothing is touched.

    Raises `SetupError` without the right to do so, or if a file of that name is not ours.
    """
    path = directory / udev_rules.FILE_NAME
    text = wanted(group, systemd=systemd.is_dir())
    changed = _ours(path) != text
    if dry_run:
        return Outcome(path=path, text=text, changed=changed, applied=False)
    if changed:
        _write(path, text)
    return Outcome(path=path, text=text, changed=changed, applied=_apply())


def uninstall(*, directory: Path = RULES_DIRECTORY, dry_run: bool = False) -> Outcome:
    """Remove what `install` wrote; does nothing if it is not there. Raises `SetupError` as `install` does."""
    path = directory / udev_rules.FILE_NAME
    there = _ours(path) is not None
    if there and not dry_run:
        try:
            path.unlink()
        except OSError as err:
            raise _not_allowed(path, err) from err
    return Outcome(path=path, text="", changed=there, applied=not dry_run and _apply())


def _ours(path: Path) -> str | None:
    """The text at `path`, None if there is nothing."""
    try:
        with path.open("rb") as file:
            text = file.read(MAX_RULES).decode("utf-8", "replace")
    except FileNotFoundError:
        return None
    except OSError as err:
        raise _not_allowed(path, err) from err
    if not text.startswith(udev_rules.MARK):
        raise SetupError(
            f"{path} was not written by tokenbridge.", next_step="Move it out of the way, then run this again."
        )
    return text


def _write(path: Path, text: str) -> None:
    """All of it or nothing: udev may read the folder at any time. It ignores names that don't end in .rules."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=".tokenbridge-")
    except OSError as err:
        raise _not_allowed(path, err) from err
    try:
        with open(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            os.fchmod(descriptor, MODE)
            file.flush()
            os.fsync(descriptor)
        Path(name).replace(path)
    except OSError as err:
        with contextlib.suppress(OSError):
            os.unlink(name)
        raise _not_allowed(path, err) from err


def _not_allowed(path: Path, err: OSError) -> SetupError:
    if isinstance(err, PermissionError):
        return SetupError(
            f"Only root may change {path}.",
            next_step="Run it with sudo, or see what it would do: `tokenbridge setup udev --dry-run`.",
            detail=repr(err),
        )
    return SetupError(
        f"{path} can't be changed: {err.strerror}.", next_step="Put that right and run it again.", detail=repr(err)
    )


def _apply() -> bool:
    """Whether udev runs and has applied the rules to what is plugged in; else they apply from its start on."""
    udevadm = shutil.which("udevadm", path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin:/usr/bin:/bin")
    return udevadm is not None and all(_udevadm(udevadm, *words) for words in (RELOAD, APPLY))


def _udevadm(program: str, *words: str) -> bool:
    try:
        done = subprocess.run(
            [program, *words], stdin=subprocess.DEVNULL, capture_output=True, timeout=UDEV_SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0
