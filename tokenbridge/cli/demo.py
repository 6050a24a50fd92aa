"""`tokenbridge demo`."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from tokenbridge.rig.demo.stage import Stage
    from tokenbridge.rig.demo.story import Scene

BAR = "▌"


@click.command()
@click.option("--keep", is_flag=True, help="Leave everything running and say how to go on by hand.")
@click.option("--stop", type=click.Path(path_type=Path), metavar="DIR", help="End a demo that was kept in DIR.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object for each scene.")
def demo(keep: bool, stop: Path | None, as_json: bool) -> None:
    """Play the main job with a virtual card on the real PC/SC daemon and a virtual security key.

    Needs no hardware, changes nothing outside. Where the kernel has no uhid the key is plugged in by a socket.

    \b
    Examples:
      tokenbridge demo
      tokenbridge demo --keep
    """
    from tokenbridge.rig.demo import stage as scenery
    from tokenbridge.rig.demo import story

    if stop is not None:
        scenery.stop_kept(stop)
        click.echo("Stopped and removed.")
        return
    started = time.monotonic()
    if not as_json:
        click.secho("tokenbridge demo", bold=True)
        click.secho("Setting up: PC/SC daemon, virtual card, virtual key, relying party ...", dim=True)
    with scenery.Stage(keep=keep) as stage:
        number = 0
        for item in story.play(stage):
            if isinstance(item, str):
                number += 1
                if not as_json:
                    click.secho(f"\n{number}  {item}", fg="cyan", bold=True)
            elif as_json:
                click.echo(json.dumps(_data(item)))
            else:
                _draw(item)
    if as_json:
        return
    click.secho(f"\n✓ All as it should be, in {time.monotonic() - started:.0f} s.", fg="green", bold=True)
    if keep:
        _how_to_go_on(stage)


def _draw(scene: Scene) -> None:
    for ran in scene.ran:
        click.echo(f"   {click.style('$', dim=True)} {click.style(ran.typed, bold=True)}")
        for line in ran.output.splitlines():
            click.echo(f"   {click.style(BAR, dim=True)} {line}")
    click.echo(f"   {click.style(scene.moral, italic=True)}")


def _data(scene: Scene) -> dict[str, object]:
    return {
        "title": scene.title,
        "commands": [
            {"typed": ran.typed, "exit_code": ran.code, "output": click.unstyle(ran.output)} for ran in scene.ran
        ],
        "moral": scene.moral,
    }


def _how_to_go_on(stage: Stage) -> None:
    from tokenbridge.rig.demo.stage import KEY_PIN, NEWCOMER, PIN, USER
    from tokenbridge.rig.workplace import PASSWORD

    place = stage.workplace

    names = (
        "PCSCLITE_CSOCK_NAME",
        "TOKENBRIDGE_RUNTIME_DIR",
        "TOKENBRIDGE_STATE_DIR",
        "TOKENBRIDGE_SERVER_DATA",
        "TOKENBRIDGE_KEY_SOCKETS",
    )
    click.secho("\nEverything goes on running.", bold=True)
    click.secho("\nIn a browser", bold=True)
    click.echo(f"  {place.origin}           the portal (its certificate is of the demo's own: {place.ca_file})")
    click.echo(f"  {place.origin}/outbox    a telephone on a page: text messages arrive there")
    click.echo(
        f"  {NEWCOMER} has nothing set up yet; {USER} has an app, a card and a key. Password of both: {PASSWORD}"
    )
    click.echo(f"  Use my smartcard: copy the button's link, then   tokenbridge hand-over LINK --ca {place.ca_file}")
    click.secho("\nIn a terminal", bold=True)
    for name in names:
        click.echo(f"  export {name}={place.environ[name]}")
    click.echo(f"  tokenbridge sign-in {place.origin} --ca {place.ca_file}      # PIN {PIN}")
    click.echo(f"  tokenbridge sign-in {place.origin} --ca {place.ca_file} --user {USER}   # password: {PASSWORD}")
    click.echo(f"  tokenbridge sign-in {place.origin} --ca {place.ca_file} --key any   # PIN {KEY_PIN}")
    click.echo("  tokenbridge watch    tokenbridge card info    tokenbridge key info    tokenbridge server audit")
    click.echo(f"  tokenbridge demo --stop {stage.directory}")
