"""A workplace for demos and test benches: relying party and bridge in processes of their own, on a PC/SC daemon given.

Everything goes through the command line, as a person would do it. What is started here is ended here.
"""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tokenbridge.errors import SetupError
from tokenbridge.rig.machine_pcscd import Pcscd
from tokenbridge.rig.ports import free_port

COMMAND_SECONDS: Final = 120
LOG_LINES: Final = 8
RP_NAME: Final = "Test Hospital"
PASSWORD: Final = "correct horse battery staple"  # noqa: S105  of accounts that live as long as a demo or a test


@dataclass(frozen=True, slots=True, kw_only=True)
class Ran:
    """A command that was run: what a person would have typed, what it printed, its exit code."""

    typed: str
    output: str
    code: int


class Workplace:
    """Lives in `directory`; `origin` is the relying party's, on a free port of loopback."""

    def __init__(self, directory: Path, pcscd: Pcscd) -> None:
        self.directory = directory
        self.pcscd = pcscd
        self.origin = f"https://localhost:{free_port()}"
        self.environ = os.environ | {
            **pcscd.environ,
            "TOKENBRIDGE_RUNTIME_DIR": str(directory / "run"),
            "TOKENBRIDGE_STATE_DIR": str(directory / "state"),
            "TOKENBRIDGE_SERVER_DATA": str(directory / "server"),
            "TOKENBRIDGE_KEY_SOCKETS": str(directory / "keys"),
        }
        self._server: subprocess.Popen[str] | None = None

    @property
    def ca_file(self) -> Path:
        """What clients trust the server by."""
        return self.directory / "server" / "tls" / "ca.pem"

    @property
    def key_sockets(self) -> Path:
        """Where keys are plugged in that the kernel does not know."""
        return self.directory / "keys"

    @property
    def socket(self) -> Path:
        """The bridge's socket."""
        return self.directory / "run" / "bridge.sock"

    @property
    def server_pid(self) -> int | None:
        return None if self._server is None else self._server.pid

    def init_server(self) -> None:
        port = self.origin.rpartition(":")[2]
        self.must("server", "init", "--name", RP_NAME, "--origin", self.origin, "--port", port)

    def trust(self, name: str, directory: Path, *options: str) -> None:
        """Trust the test PKI that was saved in `directory`, with its CRLs, as "hardware, PIN enforced"."""
        self.must(
            "server", "trust", "add", name, "--pem", str(directory / "root.pem"),
            "--intermediate", str(directory / "issuing.pem"), "--hardware", "--pin-enforced",
            "--crl", str(directory / "issuing.crl"), "--crl", str(directory / "root.crl"), *options,
        )  # fmt: skip

    def trust_keys(self, root: Path, *aaguids: str) -> None:
        """Trust the makers' root for security keys, and vouch for these models; before the server starts."""
        self.environ["TOKENBRIDGE_SERVER_KEY_ROOTS"] = str(root)
        self.environ["TOKENBRIDGE_SERVER_KEY_ALLOWED"] = os.pathsep.join(aaguids)

    def add_user(self, name: str, display_name: str, *options: str) -> str:
        """An account with `PASSWORD` and an authenticator app; returns the app's secret."""
        self.must(
            "server", "user", "add", name, "--display-name", display_name, *options,
            secrets={"--password-fd": PASSWORD},
        )  # fmt: skip
        return str(self.must_json("server", "user", "totp", name)["secret"])

    def start_server(self) -> None:
        """Start the relying party and wait until it answers; its log goes to server.log."""
        with (self.directory / "server.log").open("a") as log:
            self._server = subprocess.Popen(
                [sys.executable, "-m", "tokenbridge", "server", "run"],
                env=self.environ, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log, text=True,
                start_new_session=True,
            )  # fmt: skip
        if self._server.stdout is None or "ready" not in self._server.stdout.readline():
            last = (self.directory / "server.log").read_text("utf-8", "replace").splitlines()[-LOG_LINES:]
            raise SetupError("The server did not start.", next_step="\n".join(last) or None)

    def stop_server(self, *, kill: bool = False) -> None:
        server, self._server = self._server, None
        if server is None:
            return
        if kill:
            server.kill()
        else:
            server.terminate()
        server.wait(COMMAND_SECONDS)
        if server.stdout is not None:
            server.stdout.close()

    def stop(self) -> None:
        """End bridge and server."""
        self.run("daemon", "stop")
        self.stop_server()

    def sign_in(self, *options: str, secrets: Mapping[str, str]) -> Ran:
        return self.at_site("sign-in", options=options, secrets=secrets)

    def at_site(self, *command: str, options: Sequence[str] = (), secrets: Mapping[str, str] | None = None) -> Ran:
        """Run `tokenbridge COMMAND URL OPTIONS` against this workplace's relying party."""
        arguments = (*command, self.origin, *options)
        return self.run(*arguments, "--ca", str(self.ca_file), secrets=secrets, hide=("--ca",))

    def run(self, *arguments: str, secrets: Mapping[str, str] | None = None, hide: Sequence[str] = ()) -> Ran:
        """Run `tokenbridge ARGUMENTS`; `secrets` maps options such as --pin-fd to what is written to the descriptor.

        `hide` are options (each with its value) that `typed` leaves out.
        """
        command = [sys.executable, "-m", "tokenbridge", *arguments]
        descriptors = []
        for option, value in (secrets or {}).items():
            descriptors.append(_pipe_with(value))
            command += [option, str(descriptors[-1])]
        try:
            done = subprocess.run(
                command,
                env=self.environ,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                pass_fds=descriptors,
                timeout=COMMAND_SECONDS,
                check=False,
                start_new_session=True,
            )
        finally:
            for descriptor in descriptors:
                os.close(descriptor)
        typed = shlex.join(("tokenbridge", *_shown(arguments, hide)))
        return Ran(typed=typed, output=done.stdout.rstrip("\n"), code=done.returncode)

    def must(self, *arguments: str, secrets: Mapping[str, str] | None = None) -> Ran:
        """As `run`; anything but success raises `SetupError`."""
        ran = self.run(*arguments, secrets=secrets)
        if ran.code != 0:
            raise SetupError(f"`{ran.typed}` failed.", detail=ran.output, next_step=ran.output)
        return ran

    def must_json(self, *arguments: str) -> Any:
        return json.loads(self.must(*arguments, "--json").output.splitlines()[-1])


def _pipe_with(value: str) -> int:
    read_end, write_end = os.pipe()
    os.write(write_end, value.encode() + b"\n")
    os.close(write_end)
    return read_end


def _shown(arguments: Sequence[str], hide: Sequence[str]) -> list[str]:
    shown, skip = [], False
    for argument in arguments:
        if skip or argument in hide:
            skip = not skip
            continue
        shown.append(argument)
    return shown
