"""`tokenbridge demo`."""

from __future__ import annotations

import json
import shutil
import textwrap
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from tokenbridge.rig.demo.stage import Stage
    from tokenbridge.rig.demo.story import Scene
    from tokenbridge.rig.demo.to_try import Step

BAR = "▌"
WIDTH = 96
INDENT = 8


@click.command()
@click.option("--keep", is_flag=True, help="Leave everything running and say how to go on by hand.")
@click.option("--stop", type=click.Path(path_type=Path), metavar="DIR", help="End a demo that was kept in DIR.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object for each scene; with --keep, one more.")
def demo(keep: bool, stop: Path | None, as_json: bool) -> None:
    """Play the main job with a virtual card on the real PC/SC daemon and a virtual security key.

    Needs no hardware, changes nothing outside. Where the kernel has no uhid the key is plugged in by a socket.

    \b
    Examples:
      tokenbridge demo
      tokenbridge demo --keep
    """
    from tokenbridge.rig.demo import stage as scenery
    from tokenbridge.rig.demo import tools

    if stop is not None:
        scenery.stop_kept(stop)
        click.echo("Stopped and removed.")
        return
    started = time.monotonic()
    if not as_json:
        click.secho("tokenbridge demo", bold=True)
        click.secho("Setting up: PC/SC daemon, virtual card, virtual key, relying party ...", dim=True)
    with scenery.Stage(keep=keep) as stage:
        _play(stage, as_json=as_json)
        if keep:
            tools.write(stage)
    if not as_json:
        click.secho(f"\n✓ All as it should be, in {time.monotonic() - started:.0f} s.", fg="green", bold=True)
    if keep:
        _how_to_go_on(stage, as_json=as_json)


def _play(stage: Stage, *, as_json: bool) -> None:
    from tokenbridge.rig.demo import story

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


def _how_to_go_on(stage: Stage, *, as_json: bool) -> None:
    from tokenbridge.rig.demo import kept, to_try
    from tokenbridge.rig.workplace import PASSWORD

    if as_json:
        click.echo(json.dumps({"kept": kept.facts(stage)}))
        return
    click.secho("\nEverything goes on running.", bold=True)
    _table("In a browser", kept.in_a_browser(stage))
    _lines("", kept.the_browser(stage))
    _table(f"Who (password of all: {PASSWORD})", kept.people(stage))
    _lines("What to try", _steps(to_try.to_try(stage)))
    _lines("In a terminal", kept.in_a_terminal(stage))


def _steps(steps: Iterable[Step]) -> Iterator[str]:
    """Numbered paragraphs of a readable width; what is to be typed stays in one piece."""
    width = min(WIDTH, shutil.get_terminal_size().columns - INDENT)
    for number, step in enumerate(steps, start=1):
        yield f"{number:2}. {click.style(step.title, bold=True)}"
        for line in textwrap.wrap(step.text, max(width, INDENT), break_long_words=False, break_on_hyphens=False):
            yield f"    {line}"
        yield from (f"      {line}" for line in step.typed)


def _table(title: str, rows: Iterable[tuple[str, str]]) -> None:
    found = list(rows)
    width = max(len(name) for name, _ in found)
    _lines(title, (f"{name:{width}}  {text}" for name, text in found))


def _lines(title: str, lines: Iterable[str]) -> None:
    click.echo()
    if title:
        click.secho(title, bold=True)
    for line in lines:
        click.echo(f"  {line}")
