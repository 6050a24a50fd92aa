"""Files that a kept demo leaves for those who go on by hand: environment, browsers, a mail program."""

from __future__ import annotations

import base64
import hashlib
import os
import shlex
import shutil
import sys
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

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
BROWSERS: Final = ("chromium", "chromium-browser", "google-chrome", "microsoft-edge")
ROOT: Final = 0
WINDOWS: Final = {"computer": "/", "phone": "/phone/"}
"""Commands that open a browser with a profile of its own, and where it begins."""
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
    for window, path in WINDOWS.items():
        _write_command(stage.directory / window, f"#!/bin/sh\nexec {_browser(stage, window, path)}\n")
    _write_mail_check(stage)


def _write_mail_check(stage: Stage) -> None:
    secret, place = stage.directory / "mail-secret", stage.workplace
    secret.touch(0o600)
    secret.write_text(f'user = "{MAIL_PROGRAM}:{stage.mail_secret}"\n', "utf-8")
    authority, config = shlex.quote(str(place.ca_file)), shlex.quote(str(secret))
    text = MAIL_CHECK.format(authority=authority, secret=config, origin=place.origin)
    _write_command(mail_check_file(stage), text)


def _write_command(path: Path, text: str) -> None:
    path.write_text(text, "utf-8")
    path.chmod(0o700)


def _browser(stage: Stage, window: str, path: str) -> str:
    """Chromium or its kin, with a profile that trusts the key of the demo's server beside the usual."""
    program = next((name for name in BROWSERS if shutil.which(name)), BROWSERS[0])
    certificate = x509.load_pem_x509_certificate((stage.workplace.ca_file.parent / "server.pem").read_bytes())
    public = certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    pin = base64.b64encode(hashlib.sha256(public).digest()).decode()
    profile = stage.directory / "browsers" / window
    options = [f"--user-data-dir={profile}", f"--ignore-certificate-errors-spki-list={pin}", "--no-first-run"]
    if os.getuid() == ROOT:
        options.append("--no-sandbox")  # Chromium starts in no other way then
    return shlex.join((program, *options, stage.workplace.origin + path))
