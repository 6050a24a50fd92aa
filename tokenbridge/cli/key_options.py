"""What all commands that manage a key have in common."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import click

from tokenbridge.cli.ceremony import answers_from, conduct, secret_fd

F = TypeVar("F", bound=Callable[..., Any])

json_option = click.option("--json", "as_json", is_flag=True)


def key_options(command: F) -> F:
    """Which key, and how a script answers its PIN."""
    for option in (
        json_option,
        secret_fd("pin"),
        click.option("--spend-last-try", is_flag=True, help="Agree beforehand to spend the last PIN try."),
        click.option("--key", "which", default="", metavar="SERIAL|PATH", help="The key, if there are several."),
    ):
        command = option(command)
    return command


def manage(what: str, options: Mapping[str, Any], request: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """One management ceremony with the key that the options name."""
    return conduct(f"/v1/key/{what}", {"key": options["which"], **(request or {})}, answers_from(options))
