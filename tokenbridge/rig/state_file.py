"""States of virtual devices as files: JSON, replaced as a whole or not at all, for their owner only."""

from __future__ import annotations

import base64
import json
import os
import tempfile
from pathlib import Path
from typing import Any


def write(path: Path, data: object) -> None:
    """Replace `path`, mode 0600: the old or the new content is there, whatever happens meanwhile."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            json.dump(data, file, indent=1)
            file.flush()
            os.fsync(file.fileno())
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def read(path: Path) -> Any:
    """Raises `OSError`, `ValueError`: what they mean depends on the device."""
    return json.loads(path.read_text(encoding="utf-8"))


def b64(value: bytes) -> str:
    return base64.b64encode(value).decode("ascii")


def raw(text: str) -> bytes:
    """The opposite of `b64`; raises `ValueError`."""
    return base64.b64decode(text, validate=True)
