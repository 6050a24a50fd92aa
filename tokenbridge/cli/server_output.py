"""How the server's commands print: JSON for programs, aligned columns for people. It computes nothing."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from typing import Any, Final

import click

from tokenbridge.errors import BadRequest

MAX_SECRET_BYTES: Final = 4096

as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


def emit(value: Any) -> None:
    """One JSON document on one line."""
    click.echo(json.dumps(value, ensure_ascii=False))


def columns(head: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Rows under a heading, each column as wide as its widest cell."""
    if not rows:
        click.echo("(none)")
        return
    table = [[str(cell) for cell in row] for row in (head, *rows)]
    widths = [max(len(row[place]) for row in table) for place in range(len(head))]
    for row in table:
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def read_password(descriptor: int | None) -> str:
    """A password from the first line of a file descriptor, or typed twice at the terminal; never from arguments."""
    if descriptor is None:
        typed: str = click.prompt("Password", hide_input=True, confirmation_prompt=True, err=True)
        return typed
    try:
        data = bytearray()
        while b"\n" not in data and len(data) <= MAX_SECRET_BYTES:
            part = os.read(descriptor, MAX_SECRET_BYTES)
            if not part:
                break
            data += part
        return bytes(data).split(b"\n")[0].removesuffix(b"\r").decode("utf-8")
    except (OSError, UnicodeDecodeError) as err:
        raise BadRequest(f"No password can be read from file descriptor {descriptor}.", detail=str(err)) from err


def read_file(name: str) -> bytes:
    """A file's bytes; `-` is standard input. At most 1 MiB."""
    try:
        if name == "-":
            return sys.stdin.buffer.read(1 << 20)
        with open(name, "rb") as file:
            return file.read(1 << 20)
    except OSError as err:
        raise BadRequest(f"{name} can't be read: {err.strerror}.") from err
