"""Files that a kept demo leaves for those who go on by hand: the environment of its commands, and a mail program."""

from __future__ import annotations

import shlex
import shutil
import sys
from pathlib import Path
from typing import Final

from tokenbridge.rig.demo.stage import MAIL_PROGRAM, Stage

ENVIRONMENT: Final = (
    "PCSCLITE_CSOCK_NAME",
    "XDG_CONFIG_HOME",
    "TOKENBRIDGE_RUNTIME_DIR",
    "TOKENBRIDGE_STATE_DIR",
    "TOKENBRIDGE_SERVER_DATA",
    "TOKENBRIDGE_SERVER_OUTBOX",
    "TOKENBRIDGE_SERVER_BRIDGE_DOOR",
    "TOKENBRIDGE_KEY_SOCKETS",
)
MAIL_CHECK: Final = """#!/bin/sh
# Asks the server as a mail server would: may NAME in with this PASSWORD? Usage: mail-check NAME PASSWORD
# (A real one does not put passwords into arguments: docs/app-passwords.md.)
status=$(printf '{{"username": "%s", "password": "%s"}}' "$1" "$2" |
    curl --silent --output /dev/null --write-out '%{{http_code}}' --cacert {authority} --config {secret} \\
        --header 'Content-Type: application/json' --data-binary @- {origin}/api/app-password/check)
if [ "$status" = 200 ]; then echo "Let in."; else echo "Refused ($status)."; exit 1; fi
"""


def environment(stage: Stage) -> dict[str, str]:
    """What commands need so that they reach this demo's daemon, bridge and server."""
    return {name: stage.workplace.environ[name] for name in ENVIRONMENT if name in stage.workplace.environ}


def environment_file(stage: Stage) -> Path:
    """For `.` in a shell."""
    return stage.directory / "environment"


def mail_check_file(stage: Stage) -> Path:
    """A command: `mail-check NAME PASSWORD`."""
    return stage.directory / "mail-check"


def write(stage: Stage) -> None:
    """Make the files."""
    lines = [f"export {name}={shlex.quote(value)}\n" for name, value in environment(stage).items()]
    programs = Path(sys.executable).parent
    if shutil.which("tokenbridge") is None and (programs / "tokenbridge").exists():
        lines.append(f'export PATH={shlex.quote(str(programs))}:"$PATH"\n')
    environment_file(stage).write_text("".join(lines), "utf-8")
    secret = stage.directory / "mail-secret"
    secret.touch(0o600)
    secret.write_text(f'user = "{MAIL_PROGRAM}:{stage.mail_secret}"\n', "utf-8")
    place = stage.workplace
    authority, config = shlex.quote(str(place.ca_file)), shlex.quote(str(secret))
    mail_check_file(stage).write_text(
        MAIL_CHECK.format(authority=authority, secret=config, origin=place.origin), "utf-8"
    )
    mail_check_file(stage).chmod(0o700)
