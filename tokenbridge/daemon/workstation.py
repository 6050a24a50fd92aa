"""By what a site knows this workstation again: a random word, another one for each site, so that none can compare."""

from __future__ import annotations

import hmac
import os
import secrets
from pathlib import Path
from typing import Final

from tokenbridge.log import get

FILE: Final = "workstation"
BYTES: Final = 32

_log = get("workstation")


class WorkstationNames:
    """Kept in `directory`, readable by this user only. Where it can't be kept, the workstation is new at each start."""

    def __init__(self, directory: Path) -> None:
        self._secret = _kept(directory / FILE)

    def at(self, origin: str) -> str:
        """64 hex digits."""
        return hmac.digest(self._secret, origin.encode(), "sha256").hex()


def _kept(path: Path) -> bytes:
    try:
        found = path.read_bytes()
        if len(found) == BYTES:
            return found
    except FileNotFoundError:
        pass
    except OSError as err:
        _log.warning("the workstation's name can't be read: %s", err)
    made = secrets.token_bytes(BYTES)
    try:
        new = path.with_suffix(".new")
        new.unlink(missing_ok=True)
        with open(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(made)
        new.replace(path)
    except OSError as err:
        _log.warning("the workstation's name can't be kept: %s", err)
    return made
