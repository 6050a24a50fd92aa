"""`python -m benchmarks [NAME ...] [--quick]`: all, if none is named. The names are those of `ALL`."""

from __future__ import annotations

import platform

import click

from benchmarks import apdus, idle, keys, latency, pages, server_scale, startup, verification

ALL = {
    "apdus": (apdus.run, {}),
    "latency": (latency.run, {"insertions": 15, "sign_ins": 40}),
    "startup": (startup.run, {"runs": 9}),
    "idle": (idle.run, {"seconds": 10}),
    "verification": (verification.run, {"runs": 100}),
    "keys": (keys.run, {}),
    "pages": (pages.run, {"times": 2}),
    "server-scale": (server_scale.run, {"seconds": 2.0, "rounds": 1}),
}


@click.command()
@click.argument("names", nargs=-1, type=click.Choice(list(ALL)))
@click.option("--quick", is_flag=True, help="Fewer repetitions: to see that it works, not to quote.")
def main(names: tuple[str, ...], quick: bool) -> None:
    """Print the figures, each beside its reference."""
    click.echo(f"Python {platform.python_version()}, {platform.machine()}, {platform.system()} {platform.release()}")
    for name in names or ALL:
        function, few = ALL[name]
        click.echo(f"\n## {name}\n")
        function(**(few if quick else {}))


main()
