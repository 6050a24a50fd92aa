"""`tokenbridge completion SHELL`: the script that teaches a shell to complete."""

from __future__ import annotations

import click


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print a completion script.

    \b
    Examples:
      tokenbridge completion bash > ~/.local/share/bash-completion/completions/tokenbridge
      tokenbridge completion zsh  > ~/.zfunc/_tokenbridge
      tokenbridge completion fish > ~/.config/fish/completions/tokenbridge.fish
    """
    from click.shell_completion import get_completion_class

    from tokenbridge.cli.main import cli

    kind = get_completion_class(shell)
    if kind is None:
        raise click.UsageError(f"{shell} is not supported")
    click.echo(kind(cli, {}, "tokenbridge", "_TOKENBRIDGE_COMPLETE").source())
