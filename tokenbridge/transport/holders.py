"""Which programs of this user could be holding a card: best effort, for the text of one error only."""

from __future__ import annotations

import os
from pathlib import Path


def holders(proc: Path = Path("/proc")) -> str:
    """Names of this user's other programs that have the PC/SC client library loaded, e.g. "scdaemon (812)"; may be "".

    PC/SC does not tell who holds a card. Programs of other users can't be looked into and stay unnamed.
    """
    names = []
    for entry in sorted(proc.iterdir(), key=lambda path: path.name):
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            if "libpcsclite" in (entry / "maps").read_text("utf-8", "replace"):
                names.append(f"{(entry / 'comm').read_text('utf-8', 'replace').strip()} ({entry.name})")
        except OSError:
            continue
    return ", ".join(names[:3])
