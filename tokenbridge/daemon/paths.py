"""Where the bridge keeps its socket, log and memory. Directories are private, refused if somebody else owns them.

Imported by the command line at every start: standard library only.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from tokenbridge.config import xdg
from tokenbridge.errors import SetupError

MACHINE_CONFIG: Final = Path("/etc/tokenbridge/bridge.toml")
"""The administrator's settings, for everybody at this machine."""


def runtime_directory(environ: Mapping[str, str] | None = None) -> Path:
    """Where the socket lives: `$TOKENBRIDGE_RUNTIME_DIR`, else `$XDG_RUNTIME_DIR/tokenbridge`, else below /tmp."""
    env = os.environ if environ is None else environ
    if chosen := env.get("TOKENBRIDGE_RUNTIME_DIR"):
        return Path(chosen)
    if base := env.get("XDG_RUNTIME_DIR"):
        return Path(base) / "tokenbridge"
    standard = Path(f"/run/user/{os.getuid()}")
    # /tmp is open to all: `private_directory` refuses the path if somebody else was there first.
    return (standard / "tokenbridge") if standard.is_dir() else Path(f"/tmp/tokenbridge-{os.getuid()}")  # noqa: S108


def socket_path(environ: Mapping[str, str] | None = None) -> Path:
    return runtime_directory(environ) / "bridge.sock"


def state_directory(environ: Mapping[str, str] | None = None) -> Path:
    env = os.environ if environ is None else environ
    return (
        Path(env["TOKENBRIDGE_STATE_DIR"])
        if env.get("TOKENBRIDGE_STATE_DIR")
        else (xdg("XDG_STATE_HOME", ".local/state", env) / "tokenbridge")
    )


def log_path(environ: Mapping[str, str] | None = None) -> Path:
    return state_directory(environ) / "bridge.log"


def config_path(environ: Mapping[str, str] | None = None) -> Path:
    """The user's file if there is one, else the machine's."""
    user = xdg("XDG_CONFIG_HOME", ".config", environ) / "tokenbridge" / "bridge.toml"
    return user if user.exists() else MACHINE_CONFIG


def private_directory(path: Path) -> Path:
    """Make `path` (0700) if need be. Raises `SetupError` if it is a link, another user's, or open to others."""
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = path.lstat()
    except OSError as err:
        raise SetupError(f"{path} can't be made: {err.strerror}") from err
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
        raise SetupError(f"{path} does not belong to you.", next_step=f"Find out who made it, then remove {path}.")
    if found.st_mode & 0o077:
        path.chmod(0o700)
    return path
