"""Settings of the bridge: `~/.config/tokenbridge/bridge.toml`, `/etc/tokenbridge/bridge.toml`, `TOKENBRIDGE_*`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tokenbridge import config
from tokenbridge.daemon import paths
from tokenbridge.errors import SetupError
from tokenbridge.log import LEVELS


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


def load() -> Settings:
    """Raises `SetupError` that names file and key."""
    chosen = config.load(Settings, paths.config_path(), prefix="TOKENBRIDGE")
    if chosen.log_level not in LEVELS:
        raise SetupError(f"log_level: {chosen.log_level!r} is none.", next_step=f"Levels: {', '.join(LEVELS)}.")
    return chosen
