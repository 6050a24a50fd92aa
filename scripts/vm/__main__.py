"""`python -m scripts.vm run -- COMMAND...` and its siblings: parse, call, print, exit code."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import click

from scripts.vm import kernel
from scripts.vm.agent import LATE
from scripts.vm.machine import CONSOLE, SOCKET, Machine, Shape
from scripts.vm.session import Session
from tokenbridge.errors import TokenbridgeError

ROOT: Final = Path(__file__).resolve().parent.parent.parent
PASSED_ON: Final = ("TERM", "COLUMNS", "FORCE_COLOR", "NO_COLOR", "PYTEST_ADDOPTS", "HYPOTHESIS_PROFILE")
IN_GUEST: Final = {"TMPDIR": "/run/tmp", "PYTHONDONTWRITEBYTECODE": "1", "PYTHONUNBUFFERED": "1"}
FAILED: Final = 1
TERMINATED: Final = 143
USUAL: Final = Shape()


def shaped(function: Callable[..., Any]) -> Callable[..., Any]:
    """The options of a machine."""
    options = (
        click.option("--memory", default=USUAL.memory, show_default=True, help="At most this much, as QEMU takes it."),
        click.option("--cpus", type=click.IntRange(1, 16), default=USUAL.cpus, show_default=True),
        click.option("--accelerator", type=click.Choice(("tcg", "kvm")), default=USUAL.accelerator, show_default=True),
        click.option("--out", type=click.Path(path_type=Path, file_okay=False), help="/run/out of the guest."),
    )
    for option in reversed(options):
        function = option(function)
    return function


@click.group()
def main() -> None:
    """A virtual machine with this machine's files and Debian's kernel, which has /dev/uhid."""


@main.command(context_settings={"ignore_unknown_options": True})
@shaped
@click.option("--seconds", type=click.FloatRange(1), default=900, show_default=True, help="For the command.")
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
def run(command: tuple[str, ...], seconds: float, **options: Any) -> None:
    """Boot, run COMMAND as root in this folder, power off. The exit code is the command's."""
    with booted(**options) as (machine, session):
        code = session.run(command, show, seconds=seconds, cwd=Path.cwd(), environ=environ())
        if code:
            keep(machine)
    if code == LATE:
        click.echo(f"the command took longer than {seconds:.0f} s", err=True)
    sys.exit(code)


@main.command()
@shaped
@click.option("--directory", type=click.Path(path_type=Path, file_okay=False), help="Where `exec` finds it.")
def up(directory: Path | None, **options: Any) -> None:
    """Boot, and stay until `down` or Ctrl-C."""
    place = directory or standing()
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True, mode=0o700)
    with booted(place, **options) as (machine, session):
        session.close()
        click.echo("ready: python -m scripts.vm exec -- COMMAND...")
        with contextlib.suppress(KeyboardInterrupt):
            machine.wait()


@main.command(name="exec", context_settings={"ignore_unknown_options": True})
@click.option("--directory", type=click.Path(path_type=Path, file_okay=False))
@click.option("--seconds", type=click.FloatRange(1), default=900, show_default=True)
@click.option("--fresh", is_flag=True, help="See what was edited on the host meanwhile; slower.")
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
def execute(command: tuple[str, ...], directory: Path | None, seconds: float, fresh: bool) -> None:
    """Run COMMAND in the machine that is up. The exit code is the command's."""
    with contextlib.closing(Session.connect((directory or standing()) / SOCKET)) as session:
        if fresh:
            session.run(("sh", "-c", "echo 3 >/proc/sys/vm/drop_caches"), show, seconds=30)
        sys.exit(session.run(command, show, seconds=seconds, cwd=Path.cwd(), environ=environ()))


@main.command()
@click.option("--directory", type=click.Path(path_type=Path, file_okay=False))
def down(directory: Path | None) -> None:
    """Power the machine off."""
    with contextlib.closing(Session.connect((directory or standing()) / SOCKET)) as session:
        session.power_off()


@contextlib.contextmanager
def booted(directory: Path | None = None, *, out: Path | None, **shape: Any) -> Iterator[tuple[Machine, Session]]:
    """A machine that runs commands; it is off afterwards, and the console's log is kept if something went wrong."""
    found = kernel.prepare(kernel.cache_directory())
    with contextlib.ExitStack() as stack:
        place = directory or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="tokenbridge-vm-")))
        machine = Machine(found, place, (out or place / "out").resolve(), Shape(**named(shape)))
        stack.callback(machine.stop)
        began = time.monotonic()
        try:
            session = machine.start().wait_ready()
            stack.callback(session.close)
            click.echo(f"· Linux {found.version} is up after {time.monotonic() - began:.1f} s", err=True)
            yield machine, session
        except TokenbridgeError:
            keep(machine)
            raise


def named(shape: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in shape.items() if name in Shape.__dataclass_fields__}


def keep(machine: Machine) -> None:
    """The console's log outlives the machine's folder."""
    kept = kernel.cache_directory() / CONSOLE
    with contextlib.suppress(OSError):
        shutil.copy(machine.console, kept)
        click.echo(f"· the console's log is {kept}", err=True)


def standing() -> Path:
    """Where the machine of `up` is."""
    return kernel.cache_directory() / "up"


def environ() -> dict[str, str]:
    """What the guest's commands get of this environment, and what they need."""
    return IN_GUEST | {name: os.environ[name] for name in PASSED_ON if name in os.environ}


def show(stream: int, data: bytes) -> None:
    target = sys.stdout if stream == 1 else sys.stderr
    target.buffer.write(data)
    target.buffer.flush()


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(TERMINATED))  # so that the machine is powered off
    try:
        main()
    except TokenbridgeError as problem:
        click.secho(f"✗ {problem.message}", fg="red", bold=True, err=True)
        click.echo(f"  → {problem.hint}", err=True)
        sys.exit(FAILED)
