"""The machine's own pcscd, where a private one can't be run: some systems forbid user namespaces to ordinary users.

It is only used, never started or stopped.
"""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Final, Protocol

from tokenbridge.errors import SetupError
from tokenbridge.rig.pcscd import PrivatePcscd, listening

SOCKET: Final = Path("/run/pcscd/pcscd.comm")
MACHINE_PORTS: Final = (35963, 35964)
"""Where Debian's configuration of vpcd makes the machine's daemon listen."""


class Pcscd(Protocol):
    """What a workplace needs to know of the daemon it stands on."""

    @property
    def environ(self) -> dict[str, str]: ...

    @property
    def ports(self) -> tuple[int, ...]: ...

    @property
    def pid(self) -> int | None:
        """Of the process that whoever takes the workplace down has to end; None if there is none."""

    def stop(self) -> None: ...


class MachinePcscd:
    """The daemon at /run/pcscd with Debian's configuration of vpcd."""

    ports: tuple[int, ...] = MACHINE_PORTS
    pid: int | None = None

    @property
    def environ(self) -> dict[str, str]:
        """Nothing: clients find it by themselves."""
        return {}

    def start(self) -> MachinePcscd:
        """Raises `SetupError` unless it runs and its virtual readers are there."""
        with socket.socket(socket.AF_UNIX) as probe:
            try:
                probe.connect(str(SOCKET))
            except OSError as err:
                raise SetupError(
                    "The machine's PC/SC daemon does not answer.", next_step="sudo systemctl start pcscd.socket"
                ) from err
        if not set(self.ports) <= listening():
            raise SetupError(
                "The machine's PC/SC daemon has no virtual readers.",
                next_step="sudo apt-get install vsmartcard-vpcd && sudo systemctl restart pcscd",
            )
        return self

    def stop(self) -> None:
        """Nothing: it is the machine's."""


def start_any(directory: Path) -> Pcscd:
    """A private daemon, or else the machine's. Raises the private one's `SetupError` if neither can be used."""
    try:
        return PrivatePcscd(directory).start()
    except SetupError as err:
        try:
            return MachinePcscd().start()
        except SetupError as other:
            raise SetupError(f"{err.message} {other.message}", next_step=f"{err.hint} Or: {other.hint}") from err
