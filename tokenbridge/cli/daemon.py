"""`tokenbridge daemon ...`, `tokenbridge status` and `tokenbridge watch`."""

from __future__ import annotations

import json
import time
from typing import Any

import click

SERVICE = {
    "up": click.style("running", fg="green"),
    "down": click.style("not running", fg="red"),
    "access-denied": click.style("refuses you (polkit)", fg="red"),
}


COLOURS = {
    "card-inserted": "green",
    "card-removed": "yellow",
    "key-added": "green",
    "key-removed": "yellow",
    "service-down": "red",
    "keys-unwatched": "red",
}


@click.group()
def daemon() -> None:
    """The bridge: one background process per user. Commands start it when they need it.

    \b
    Examples:
      tokenbridge daemon status
      tokenbridge daemon logs --follow
      systemctl --user enable --now tokenbridge.socket   (with the units of systemd/)
    """


@daemon.command()
@click.option("--ready-fd", type=int, hidden=True, help="Write a line here when listening.")
def run(ready_fd: int | None) -> None:
    """Run the bridge in the foreground until SIGTERM or Ctrl-C. Logs to standard error.

    \b
    Examples:
      tokenbridge daemon run
      TOKENBRIDGE_LOG_LEVEL=debug tokenbridge daemon run
    """
    from tokenbridge.daemon import app

    app.run(ready_fd=ready_fd)


@daemon.command()
@click.option("--json", "as_json", is_flag=True)
def stop(as_json: bool) -> None:
    """Stop the bridge. Does nothing if it is not running.

    \b
    Examples:
      tokenbridge daemon stop
    """
    from tokenbridge.daemon import client
    from tokenbridge.errors import DaemonUnavailable

    try:
        client.connect(start=False).request("POST", "/v1/stop")
        stopped = True
    except DaemonUnavailable:
        stopped = False
    click.echo(json.dumps({"stopped": stopped}) if as_json else "Stopped." if stopped else "It was not running.")


@daemon.command("status")
@click.option("--json", "as_json", is_flag=True)
def daemon_status(as_json: bool) -> int:
    """Whether the bridge runs; never starts it. Exit code 7 if it does not.

    \b
    Examples:
      tokenbridge daemon status
      tokenbridge daemon status --json | jq .pid
    """
    return _status(start=False, as_json=as_json)


@daemon.command()
@click.option("-n", "--lines", default=50, show_default=True, help="How many of the last lines.")
@click.option("-f", "--follow", is_flag=True, help="Go on with what comes.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
def logs(lines: int, follow: bool, as_json: bool) -> None:
    """What the bridge logged (when systemd runs it: `journalctl --user -u tokenbridge`).

    \b
    Examples:
      tokenbridge daemon logs
      tokenbridge daemon logs --lines 200 --follow
      tokenbridge daemon logs --json | jq -r 'select(.level == "WARNING").message'
    """
    from collections import deque

    from tokenbridge.daemon import paths
    from tokenbridge.errors import SetupError

    path = paths.log_path()
    if not path.exists():
        raise SetupError(f"There is no log at {path}.", next_step="Under systemd: `journalctl --user -u tokenbridge`.")
    with path.open(encoding="utf-8", errors="replace") as file:
        for line in deque(file, maxlen=lines):
            _print_log(line, as_json=as_json)
        while follow:
            if line := file.readline():
                _print_log(line, as_json=as_json)
            else:
                time.sleep(0.2)


def _print_log(line: str, *, as_json: bool) -> None:
    """One line as it stands, or taken apart; a line without the usual head continues the one before it."""
    if not as_json:
        click.echo(line, nl=False)
        return
    import re

    head = re.fullmatch(r"(\S+ \S+) ([A-Z]+) +(tokenbridge\S*): (.*)", line.rstrip("\n"))
    names = ("time", "level", "logger", "message")
    click.echo(json.dumps(dict(zip(names, head.groups(), strict=True)) if head else {"message": line.rstrip("\n")}))


@click.command()
@click.option("--json", "as_json", is_flag=True)
def status(as_json: bool) -> int:
    """The bridge, pcscd, readers, cards and security keys at a glance.

    \b
    Examples:
      tokenbridge status
      tokenbridge status --json | jq .readers
    """
    return _status(start=True, as_json=as_json)


@click.command()
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
def watch(as_json: bool) -> None:
    """Print what is plugged in and out, as it happens, until Ctrl-C.

    \b
    Examples:
      tokenbridge watch
      tokenbridge watch --json | jq --unbuffered -r .event
    """
    from tokenbridge.cli.plain import plain
    from tokenbridge.daemon import client

    with client.connect().stream("GET", "/v1/events") as stream:
        for line in stream:
            if as_json:
                click.echo(json.dumps(line))
            elif line["event"] == "error":
                return
            else:
                _print_line(plain(line))


def _print_line(line: dict[str, Any]) -> None:
    if line["event"] == "now":
        click.echo(_picture(line))
        return
    colour = COLOURS.get(line["event"])
    stamp = click.style(time.strftime("%H:%M:%S"), dim=True)
    what = click.style(f"{line['event']:16}", fg=colour)
    click.echo(f"{stamp}  {what}{_of_what(line)}{line.get('reason', '')}")


def _of_what(line: dict[str, Any]) -> str:
    if "path" not in line:
        return str(line.get("reader", ""))
    refused = "" if line["usable"] else click.style("  may not be opened", fg="red")
    return f"{line['name'] or 'security key'} ({line['serial'] or line['path']}){refused}"


def _status(*, start: bool, as_json: bool) -> int:
    from tokenbridge.cli.plain import plain
    from tokenbridge.daemon import client

    data = client.connect(start=start).get("/v1/status")
    if as_json:
        click.echo(json.dumps(data))
    else:
        minutes, seconds = divmod(int(data["uptime_seconds"]), 60)
        click.echo(f"bridge  {click.style('running', fg='green')}  (pid {data['pid']}, {minutes} min {seconds} s)")
        click.echo(_picture(plain(data)))
        click.echo(_door(plain(data.get("door", {}))), nl=False)
    return 0


def _door(door: dict[str, Any]) -> str:
    """Nothing where no administrator asked for one."""
    match door.get("state"):
        case "open":
            return f"door    {click.style('open', fg='green')} to web pages at {door['address']}\n"
        case "shut":
            return f"door    {click.style('shut', fg='red')} at {door['address']}: {door['why']}\n"
        case _:
            return ""


def _picture(data: dict[str, Any]) -> str:
    lines = [f"pcscd   {SERVICE.get(data['pcsc'], data['pcsc'])}"]
    for reader in data["readers"]:
        content = click.style("card", fg="green") if reader["card"] else click.style("empty", dim=True)
        used = f"  used by {reader['used_by']}" if reader["used_by"] else ""
        lines.append(f"reader  {reader['reader']}: {content}{used}")
    if not data["readers"]:
        lines.append(click.style("reader  none found", dim=True))
    lines += [_key(key) for key in data.get("keys", ())]
    if data.get("key_watch", "up") != "up":
        lines.append(click.style(f"keys    can't be watched for: {data['key_watch']}", fg="red"))
    return "\n".join(lines)


def _key(key: dict[str, Any]) -> str:
    state = click.style("plugged in", fg="green") if key["usable"] else click.style("may not be opened", fg="red")
    used = f"  used by {key['used_by']}" if key["used_by"] else ""
    return f"key     {key['name'] or 'security key'} ({key['serial'] or key['path']}): {state}{used}"
