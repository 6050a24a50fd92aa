"""Folders for Unix sockets, whose paths are short: 108 bytes with the final zero (unix(7), `sun_path`)."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from tokenbridge.errors import SetupError

MOST_PATH: Final = 107
BELOW: Final = 48
"""Bytes that the folders and sockets of a demo need below its own folder: the longest is a key's, while it is made."""
MADE: Final = 9
"""A slash and what `mkdtemp` adds to a prefix."""


def fits(path: Path) -> bool:
    """Whether a socket can be made at `path`."""
    return len(os.fsencode(path)) <= MOST_PATH


def make_directory(prefix: str, below: int = BELOW) -> Path:
    """A new private folder with room for sockets: in the usual place for temporary files, else in a shorter one.

    Raises `SetupError` when every place is too long or closed.
    """
    most = MOST_PATH - below - MADE - len(prefix)
    for base in _places():
        if len(os.fsencode(base)) <= most and os.access(base, os.W_OK | os.X_OK):
            return Path(tempfile.mkdtemp(prefix=prefix, dir=base))
    raise SetupError(
        "No folder for temporary files has a path that is short enough for sockets.",
        next_step=f"Set TMPDIR to a folder whose path has at most {most} bytes.",
    )


def _places() -> Iterator[Path]:
    yield Path(tempfile.gettempdir()).absolute()
    yield Path(os.environ.get("XDG_RUNTIME_DIR") or f"/run/user/{os.getuid()}").absolute()
    yield Path("/tmp")  # noqa: S108  mkdtemp makes a private folder of a new name in it
