"""`tokenbridge setup`: what the administrator of a workstation does once."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from tokenbridge.daemon.udev_setup import Outcome


@click.group()
def setup() -> None:
    """Prepare this workstation; for its administrator.

    \b
    Examples:
      tokenbridge setup udev --dry-run                 show the rules
      sudo tokenbridge setup udev                      people may use security keys and readers
      tokenbridge setup browser                        pages may offer the smartcard
    """


@setup.command()
@click.option("--group", metavar="NAME", help="Give this group access, too. [plugdev where systemd does not run]")
@click.option("--uninstall", is_flag=True, help="Take the rules away again.")
@click.option("--dry-run", is_flag=True, help="Show the rules and where they would go; change nothing.")
@click.option("--directory", type=click.Path(path_type=Path, file_okay=False), help="Instead of /etc/udev/rules.d.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def udev(group: str | None, uninstall: bool, dry_run: bool, directory: Path | None, as_json: bool) -> None:
    """Let people use security keys and smartcard readers that are plugged in.

    On systemd, the person who sits at the machine gets access, and loses it at the end of the session. Elsewhere, and
    with --group, the members of a group get it. Can be run again at any time.

    \b
    Examples:
      tokenbridge setup udev --dry-run
      sudo tokenbridge setup udev
      sudo tokenbridge setup udev --group keyusers     a test bench that is used over the network
      sudo tokenbridge setup udev --uninstall
    """
    from tokenbridge.daemon import udev_setup

    place = directory or udev_setup.RULES_DIRECTORY
    if uninstall:
        done = udev_setup.uninstall(directory=place, dry_run=dry_run)
    else:
        done = udev_setup.install(group, directory=place, dry_run=dry_run)
    if as_json:
        click.echo(json.dumps({"udev": {**done.as_dict(), "dry_run": dry_run}}))
    else:
        click.echo(_dry(done, uninstall) if dry_run else _done(done, uninstall))


@setup.command()
@click.option("--system", is_flag=True, help="For all users of this machine: in /usr/local/share/applications.")
@click.option("--uninstall", is_flag=True, help="Take it away again.")
@click.option("--dry-run", is_flag=True, help="Show the entry and where it would go; change nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def browser(system: bool, uninstall: bool, dry_run: bool, as_json: bool) -> None:
    """Let pages offer "Use my smartcard": links to `tokenbridge:` are then opened by the bridge.

    The browser asks before it opens such a link, and the bridge asks before it signs anything. Can be run again at any
    time.

    \b
    Examples:
      tokenbridge setup browser
      tokenbridge setup browser --dry-run
      sudo tokenbridge setup browser --system
      tokenbridge setup browser --uninstall
    """
    from tokenbridge.daemon import browser_setup

    directory = browser_setup.SYSTEM if system else browser_setup.user_place()
    if uninstall:
        done = browser_setup.uninstall(directory=directory, dry_run=dry_run)
    else:
        done = browser_setup.install(_program(), directory=directory, dry_run=dry_run)
    if as_json:
        told = {"path": str(done.path), "installed": bool(done.text), "changed": done.changed, "dry_run": dry_run}
        click.echo(json.dumps({"browser": told}))
        return
    would = "would be " if dry_run else ""
    verb = f"{would}{'removed' if uninstall else 'written'}" if done.changed else "is as it should be"
    click.echo(f"{done.path}: {verb}")
    if dry_run:
        click.echo(done.text, nl=False)


def _program() -> Path:
    """Where this very program is, for others to start it."""
    started = Path(sys.argv[0])
    found = started if started.name == "tokenbridge" else Path(sys.executable).with_name("tokenbridge")
    return Path(os.path.abspath(found))  # not resolved: an upgrade may change what a link points to


def _dry(outcome: Outcome, uninstall: bool) -> str:
    if uninstall:
        return f"Would remove {outcome.path}" if outcome.changed else f"{outcome.path} is not there"
    return f"# {outcome.path}: {'would be written' if outcome.changed else 'is up to date'}\n{outcome.text.rstrip()}"


def _done(outcome: Outcome, uninstall: bool) -> str:
    verb = "removed" if uninstall else "written"
    same = "was not there" if uninstall else "was up to date"
    line = f"✓ {outcome.path} {verb if outcome.changed else same}"
    return line if outcome.applied else f"{line}\n  udev is not running here: the change takes effect when it starts."
