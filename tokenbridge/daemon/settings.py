"""Settings of the bridge: `~/.config/tokenbridge/bridge.toml`, `/etc/tokenbridge/bridge.toml`, `TOKENBRIDGE_*`.

The door for web pages is the administrator's to open: `door_*` count only in a file that belongs to root and that
nobody else can write; anywhere else they are an error. When a person has a file without them, the machine's is asked.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from tokenbridge import config
from tokenbridge.daemon import paths
from tokenbridge.daemon.site import origin_of
from tokenbridge.errors import BadRequest, SetupError
from tokenbridge.log import LEVELS

PREFIX: Final = "TOKENBRIDGE"
ROOT: Final = 0
MOST_ORIGINS: Final = 16
PORTS: Final = range(1024, 65536)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Times are in seconds."""

    log_level: str = "info"
    trace_file: Path | None = None
    """Everything that passes to and from cards, PIN bytes masked; for support."""
    ca_file: Path | None = None
    """Further certificate authorities to trust for sites, beside the system's."""
    pinentry: str = "pinentry"
    prompt_seconds: float = 120.0
    card_seconds: float = 20.0
    """For one card operation, without the person."""
    busy_seconds: float = 2.0
    """How long another program may hold the card before it is reported as busy."""
    site_seconds: float = 10.0
    remember_cards: bool = True
    key_sockets: Path | None = None
    """A directory in which sockets stand for security keys, for test benches without /dev/uhid."""

    door_origins: tuple[str, ...] = ()
    """Sites whose pages may hand a sign-in over by the loopback door, as browsers write origins; none: no door."""
    door_port: int = 29173
    """Below 32768, where Linux begins to take ports for outgoing connections (ip_local_port_range, ip(7))."""


def load(environ: Mapping[str, str] | None = None) -> Settings:
    """Raises `SetupError` that names file and key."""
    env = os.environ if environ is None else environ
    for name in ("DOOR_ORIGINS", "DOOR_PORT"):
        if f"{PREFIX}_{name}" in env:
            raise _not_the_administrator(f"{PREFIX}_{name}")
    path = paths.config_path(env)
    chosen = config.load(Settings, path, prefix=PREFIX, environ=env)
    if chosen.log_level not in LEVELS:
        raise SetupError(f"log_level: {chosen.log_level!r} is none.", next_step=f"Levels: {', '.join(LEVELS)}.")
    return _with_door(chosen, path)


def _with_door(chosen: Settings, path: Path) -> Settings:
    if _names_door(chosen):
        _check_door(chosen, path)
        return chosen
    if path == paths.MACHINE_CONFIG or not paths.MACHINE_CONFIG.exists():
        return chosen
    machine = config.load(Settings, paths.MACHINE_CONFIG, prefix=PREFIX, environ={})
    if _names_door(machine):
        _check_door(machine, paths.MACHINE_CONFIG)
    return replace(chosen, door_origins=machine.door_origins, door_port=machine.door_port)


def _names_door(settings: Settings) -> bool:
    usual = Settings()
    return (settings.door_origins, settings.door_port) != (usual.door_origins, usual.door_port)


def _check_door(settings: Settings, path: Path) -> None:
    found = path.stat()
    if found.st_uid != ROOT or found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise _not_the_administrator(f"{path}: door_origins, door_port")
    if settings.door_port not in PORTS:
        raise SetupError(f"{path}: door_port is a number from {PORTS[0]} to {PORTS[-1]}.")
    if len(settings.door_origins) > MOST_ORIGINS:
        raise SetupError(f"{path}: door_origins names more than {MOST_ORIGINS} sites.")
    for origin in settings.door_origins:
        if not _is_origin(origin):
            raise SetupError(
                f"{path}: door_origins: {origin!r} is no origin.",
                next_step="Write https://host or https://host:port in lower case, without path, final slash or *.",
            )


def _is_origin(text: str) -> bool:
    """As a browser would write it in `Origin` (RFC 6454 section 6.2): it is compared byte by byte."""
    try:
        return origin_of(text) == text
    except BadRequest:
        return False


def _not_the_administrator(where: str) -> SetupError:
    return SetupError(
        f"{where}: only an administrator may open the door for web pages.",
        next_step=f"Remove it there. An administrator sets it in {paths.MACHINE_CONFIG}, a file of root's (mode 644).",
    )
