"""`tokenbridge server init` and `run`."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path
from typing import Any

import click

from tokenbridge import log
from tokenbridge.cli.server_output import as_json, emit
from tokenbridge.server import settings
from tokenbridge.server.operator import office

own_data = click.option(
    "--data", "own_data", type=click.Path(file_okay=False, path_type=Path), help="Data directory, as for the group."
)


@click.command()
@click.option("--name", help="What people see as the name of this server.")
@click.option("--origin", help="The address that people's browsers show, such as https://sign-in.hospital.example.")
@click.option("--host", help="Address to listen on.")
@click.option("--port", type=click.IntRange(0, 65535), help="Port to listen on.")
@click.option("--tls-cert", type=click.Path(path_type=Path), help="PEM certificate chain of your own.")
@click.option("--tls-key", type=click.Path(path_type=Path), help="PEM key that belongs to it.")
@click.option(
    "--database", help="URL such as postgresql+psycopg://user@host/name [default: SQLite in the data directory]."
)
@click.option("--plain-http", is_flag=True, default=None, help="No TLS. Allowed on loopback only.")
@own_data
@as_json
@click.pass_obj
def init(data: Path | None, /, *, own_data: Path | None, as_json: bool, **changes: Any) -> None:
    """Make a server's data directory, or complete it. Safe to repeat: what is there is kept.

    \b
    Examples:
      tokenbridge server init --name "Test Hospital"
      tokenbridge server init --origin https://sso.example --tls-cert chain.pem --tls-key key.pem --host 0.0.0.0
    """
    os.umask(0o077)
    for option in ("tls_cert", "tls_key"):
        if changes[option] is not None:
            changes[option] = changes[option].absolute()
    found, files = office.initialise(own_data or data, **changes)
    ca = str(files.ca) if files is not None and files.ca is not None else None
    if as_json:
        emit({"data": str(found.data), "name": found.name, "origin": found.site, "ca": ca})
        return
    click.echo(f"{found.name}: {found.site}, data in {found.data}")
    if ca:
        click.echo(f"Self-made certificate; clients trust it by {ca}")
    click.echo("Start it with: tokenbridge server run")


@click.command()
@click.option("--host", help="Address to listen on, instead of the setting.")
@click.option("--port", type=click.IntRange(0, 65535), help="Port to listen on, instead of the setting.")
@click.option("--workers", type=click.IntRange(1, 64), help="Processes that serve, instead of the setting.")
@click.option("--log-level", type=click.Choice(["error", "warning", "info", "debug"]), default="info")
@own_data
@as_json
@click.pass_obj
def run(data: Path | None, /, *, own_data: Path | None, log_level: str, as_json: bool, **changes: Any) -> None:
    """Serve until stopped with Ctrl-C or SIGTERM. Prints one line on standard output when it is ready.

    \b
    Examples:
      tokenbridge server run
      tokenbridge server run --workers 4
      tokenbridge server --data /srv/tokenbridge run --log-level debug
    """
    from tokenbridge.server.run import run as serve

    os.umask(0o077)
    log.configure(log_level)
    found = settings.load(own_data or data)
    serve(settings.changed(found, **changes), partial(_ready, as_json=as_json))


def _ready(address: str, *, as_json: bool) -> None:
    if as_json:
        emit({"ready": address})
    else:
        click.echo(f"tokenbridge server: {address} ready")


@click.command("rotate-keys")
@as_json
@click.pass_obj
def rotate_keys(data: Path | None, as_json: bool) -> None:
    """Encrypt the stored secrets with a new key and forget the old one. The server need not be stopped.

    \b
    Examples:
      tokenbridge server rotate-keys
    """
    with office.opened(data) as opened:
        count = office.rotate_keys(opened)
    if as_json:
        emit({"secrets": count})
    else:
        click.echo(
            f"New key in {opened.settings.key_file}; {count} secrets encrypted again. Backups need the old file."
        )
