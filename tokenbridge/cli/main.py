"""`tokenbridge`: the group of all commands, each loaded when it is used, and the one place that prints errors."""

from __future__ import annotations

import importlib
import os
import sys
from typing import Any, Final

import click

from tokenbridge import __version__
from tokenbridge.cli.exits import exit_code
from tokenbridge.errors import Cancelled, TokenbridgeError

COMMANDS: Final = {
    "account": ("tokenbridge.cli.account", "account"),
    "card": ("tokenbridge.cli.card", "card"),
    "completion": ("tokenbridge.cli.completion", "completion"),
    "daemon": ("tokenbridge.cli.daemon", "daemon"),
    "demo": ("tokenbridge.cli.demo", "demo"),
    "key": ("tokenbridge.cli.key", "key"),
    "policy": ("tokenbridge.cli.policy", "policy"),
    "rig": ("tokenbridge.cli.rig", "rig"),
    "server": ("tokenbridge.cli.server", "server"),
    "setup": ("tokenbridge.cli.setup", "setup"),
    "sign-in": ("tokenbridge.cli.sign_in", "sign_in"),
    "status": ("tokenbridge.cli.daemon", "status"),
    "watch": ("tokenbridge.cli.daemon", "watch"),
}
EXTRAS: Final = {"demo": "rig", "policy": "server", "rig": "rig", "server": "server"}


class LazyGroup(click.Group):
    """Imports a command when it is asked for: `tokenbridge --version` pays for nothing else."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002  click's signature
        return sorted(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002  as above
        if cmd_name not in COMMANDS:
            return None
        module, name = COMMANDS[cmd_name]
        command: click.Command = getattr(importlib.import_module(module), name)
        return command


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="tokenbridge")
def cli() -> None:
    """Sign in with your smartcard or security key, and be asked for nothing else.

    \b
    Examples:
      tokenbridge sign-in https://portal.example.org        sign in; waits for a card or key
      tokenbridge key register https://portal.example.org   register your security key
      tokenbridge card info                                 what is on the card
      tokenbridge watch                                what is plugged in and out
      tokenbridge demo                                 see it work, no hardware needed
    """


def main() -> None:
    """Run the command line and exit with a code that scripts can rely on (`tokenbridge.cli.exits`)."""
    as_json = "--json" in sys.argv
    try:
        result = cli.main(standalone_mode=False, color=colour())
        sys.exit(result if isinstance(result, int) else 0)
    except click.exceptions.Abort:
        fail(Cancelled("user"), as_json=as_json)
    except click.ClickException as err:
        err.show()
        sys.exit(err.exit_code)
    except TokenbridgeError as err:
        fail(err, as_json=as_json)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)
    except KeyboardInterrupt:
        fail(Cancelled("user"), as_json=as_json)
    except ModuleNotFoundError as err:
        fail(missing_part(err), as_json=as_json)
    except Exception as err:
        # The last resort: people get a sentence, developers the traceback.
        if os.environ.get("TOKENBRIDGE_DEBUG"):
            raise
        step = "Run it again with TOKENBRIDGE_DEBUG=1 in the environment and report what it prints."
        fail(TokenbridgeError(next_step=step, detail=repr(err)), as_json=as_json)


def colour() -> bool | None:
    """Whether to colour: as FORCE_COLOR or NO_COLOR say, else only on a terminal."""
    if os.environ.get("FORCE_COLOR"):
        return True
    return False if os.environ.get("NO_COLOR") else None


def missing_part(err: ModuleNotFoundError) -> TokenbridgeError:
    """A part of tokenbridge that is not installed, with the command that installs it."""
    from tokenbridge.errors import SetupError

    command = next((word for word in sys.argv[1:] if word in COMMANDS), "")
    extra = EXTRAS.get(command, "bridge")
    return SetupError(
        f"This part of tokenbridge is not installed ({err.name} is missing).",
        next_step=f"Install it with `pip install 'tokenbridge[{extra}]'`.",
        detail=str(err),
    )


def fail(err: TokenbridgeError, *, as_json: bool) -> None:
    """Print `err` for people (standard error) or programs (standard output) and exit."""
    import json

    data: dict[str, Any] = err.as_dict()
    if as_json:
        click.echo(json.dumps({"error": data}))
    else:
        from tokenbridge.cli.plain import plain

        click.secho(f"✗ {plain(data['message'])}", fg="red", bold=True, err=True, color=colour())
        if data.get("next_step"):
            click.echo("  → " + "\n    ".join(plain(str(data["next_step"]).splitlines())), err=True)
        click.secho(f"  ({plain(data['code'])})", dim=True, err=True, color=colour())
    sys.exit(exit_code(str(data["code"])))


if __name__ == "__main__":
    main()
