"""What tests have in common that run programs which are not ours, by the configuration that the documentation shows."""

from __future__ import annotations

import re
import shutil
import socket
import subprocess
from pathlib import Path

from tests.patience import until

ROOT = Path(__file__).parents[1]
UNPACKED = ROOT / ".debian"
"""Where `scripts/setup` unpacks what would start a service if it were installed."""


def block(page: str, language: str, number: int = 0) -> str:
    """The code block of a page of `docs`, counted among those in its language."""
    return re.findall(rf"```{language}\n(.*?)```", (ROOT / "docs" / page).read_text("utf-8"), re.S)[number]


def program(name: str) -> str:
    """The path of a program that was unpacked, or of the machine's own. Raises `RuntimeError`."""
    found = next(UNPACKED.glob(f"usr/*bin/{name}"), None) or shutil.which(name)
    if found is None:
        raise RuntimeError(f"{name} is missing: run `scripts/setup test`")
    return str(found)


def wait_for(address: tuple[str, int], process: subprocess.Popen[bytes], log: Path | None = None) -> None:
    """Until a program listens; what it has logged is shown when it does not."""

    def listens() -> bool:
        assert process.poll() is None, log.read_text("utf-8", "replace") if log is not None and log.exists() else ""
        with socket.socket() as probe:
            return probe.connect_ex(address) == 0

    until(listens, str(process.args))
