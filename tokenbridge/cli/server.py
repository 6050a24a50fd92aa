"""`tokenbridge server`: the group and where its commands live. It imports nothing heavy, so that help is quick."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Final

import click

COMMANDS: Final = {
    "init": ("server_setup", "Make a server's data directory, or complete it."),
    "run": ("server_setup", "Serve until stopped."),
    "user": ("server_people", "Accounts, their passwords, apps and codes."),
    "group": ("server_groups", "Groups of users, which the policy refers to."),
    "admin": ("server_admins", "Who administers accounts on the pages under /admin."),
    "card": ("server_cards", "Cards that sign in to accounts."),
    "key": ("server_keys", "Security keys that sign in to accounts."),
    "phone": ("server_phones", "Telephone numbers that get codes."),
    "metadata": ("server_metadata", "What is known about models of keys."),
    "trust": ("server_trust", "Authorities whose cards are trusted."),
    "app-client": ("server_apps", "Programs that check app passwords."),
    "app-password": ("server_apps", "App passwords of people."),
    "outbox": ("server_phones", "Show what the development outbox holds."),
    "audit": ("server_audit", "Show the audit trail, or verify it."),
    "report": ("server_report", "Sign-ins counted: methods, levels, challenges suppressed and shown."),
    "rotate-keys": ("server_setup", "Encrypt the stored secrets with a new key."),
    "revoke-sessions": ("server_people", "End all sessions of a user."),
}


class _Lazy(click.Group):
    """A group whose commands are imported when they are used."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [*COMMANDS, *super().list_commands(ctx)]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return super().get_command(ctx, cmd_name)
        module = importlib.import_module(f"tokenbridge.cli.{COMMANDS[cmd_name][0]}")
        command: click.Command = getattr(module, cmd_name.replace("-", "_"))
        return command

    def format_commands(self, _ctx: click.Context, formatter: click.HelpFormatter) -> None:
        # Click's own would import every command to ask for its help.
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])


@click.group(cls=_Lazy)
@click.option(
    "--data",
    type=click.Path(file_okay=False, path_type=Path),
    help="Data directory [default: $TOKENBRIDGE_SERVER_DATA or $XDG_DATA_HOME/tokenbridge/server].",
)
@click.pass_context
def server(ctx: click.Context, data: Path | None) -> None:
    """Run a relying party that signs people in by card or key.

    \b
    Examples:
      tokenbridge server init --name "Test Hospital"
      tokenbridge server trust add hospital-ca --pem ca.pem --hardware --pin-enforced --crl ca.crl
      tokenbridge server user add alice --display-name "Alice Archer"
      tokenbridge card certs --pem | tokenbridge server card enrol alice --pem -
      tokenbridge server user enrolment-code alice
      tokenbridge server run
    """
    ctx.obj = data
