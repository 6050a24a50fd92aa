"""CTAP commands of a sign-in beside libfido2's tool, and how soon a key can be used: on a real kernel, in QEMU."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import click

ROOT = Path(__file__).resolve().parent.parent


def run() -> None:
    """Boots the virtual machine of `make hw-test`; its set-up is `scripts/setup vm`."""
    subprocess.run([str(ROOT / "scripts" / "setup"), "vm"], cwd=ROOT, check=True)
    command = [sys.executable, "-m", "scripts.vm", "run", "--", sys.executable, "-m", "benchmarks.keys_guest"]
    done = subprocess.run(command, cwd=ROOT, check=False)
    if done.returncode != 0:
        click.echo("The virtual machine did not print its figures; see above.", err=True)
        sys.exit(done.returncode)
