"""QEMU with the host's / as its file system: start, wait until it can be used, power off.

KVM is not asked for unless the caller wants it: the suite has to run inside other virtual machines, too, and the guest
is up in seconds without.
"""

from __future__ import annotations

import contextlib
import shutil
import socket
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from scripts.vm import initrd
from scripts.vm.agent import PORT_NAME
from scripts.vm.kernel import Kernel
from scripts.vm.session import Session
from tokenbridge.errors import SetupError, TimedOut

QEMU: Final = "qemu-system-x86_64"
BOOT_SECONDS: Final = 120
OFF_SECONDS: Final = 20
SOCKET: Final = "agent.sock"
CONSOLE: Final = "console.log"
QEMU_LOG: Final = "qemu.log"
DIES_WITH_US: Final = ("setpriv", "--pdeathsig", "KILL")
"""However this program ends, no machine is left running."""
TAIL: Final = 30
KERNEL_LINE: Final = "console=ttyS0 panic=-1 oops=panic nokaslr loglevel=5"


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """`memory` as QEMU takes it; it is only used as the guest needs it."""

    memory: str = "3G"
    cpus: int = 2
    accelerator: str = "tcg"


class Machine:
    """One virtual machine. `directory` gets the console's log and the agent's socket; `out` is the guest's /run/out."""

    def __init__(self, kernel: Kernel, directory: Path, out: Path, shape: Shape) -> None:
        self.directory = directory
        self.console = directory / CONSOLE
        self._kernel = kernel
        self._out = out
        self._shape = shape
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> Self:
        """Start QEMU; returns at once. Raises `SetupError` if it is not installed or the folder can't be used."""
        program = shutil.which(QEMU)
        if program is None:
            raise SetupError(f"{QEMU} is not installed.", next_step="Run `scripts/setup vm` on Debian or Ubuntu.")
        self._out.mkdir(parents=True, exist_ok=True)
        image = self.directory / "initrd.cpio"
        initrd.build(self._kernel, image)
        # Listening before QEMU runs: whoever connects is served as soon as the guest is up, without trying again.
        with _listener(self.directory / SOCKET) as listener, (self.directory / QEMU_LOG).open("wb") as log:
            self._process = subprocess.Popen(
                [*DIES_WITH_US, program, *self._arguments(image, listener.fileno())],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=log,
                pass_fds=(listener.fileno(),),
                start_new_session=True,
            )
        return self

    def _arguments(self, image: Path, listener: int) -> list[str]:
        shape = self._shape
        return [
            *("-accel", f"{shape.accelerator},thread=multi" if shape.accelerator == "tcg" else shape.accelerator),
            *("-machine", "q35", "-cpu", "max", "-smp", str(shape.cpus), "-m", shape.memory),
            *("-nodefaults", "-no-user-config", "-no-reboot", "-display", "none", "-vga", "none"),
            *("-serial", f"file:{self.console}"),
            *("-kernel", str(self._kernel.image), "-initrd", str(image), "-append", KERNEL_LINE),
            *share("root", Path("/"), read_only=True),
            *share("out", self._out, read_only=False),
            *("-device", "virtio-serial-pci"),
            *("-chardev", f"socket,id=agent,fd={listener},server=on,wait=off"),
            *("-device", f"virtserialport,chardev=agent,name={PORT_NAME}"),
            # A smartcard reader, seen once the guest loads uhci-hcd. Not at xHCI, where QEMU tears CCID answers apart.
            *("-device", "piix3-usb-uhci,id=uhci", "-device", "usb-ccid,bus=uhci.0"),
        ]

    def wait_ready(self) -> Session:
        """A session with the guest, once it runs commands. Raises `SetupError` with the end of the console's log."""
        session = Session.connect(self.directory / SOCKET)
        try:
            session.wait_ready(BOOT_SECONDS)
        except (SetupError, TimedOut) as err:
            session.close()
            raise SetupError(
                f"The virtual machine did not come up: {err.message}",
                next_step=f"See {self.console}. It ends with:\n{self.last_words()}",
                detail=err.detail,
            ) from err
        return session

    def last_words(self) -> str:
        """The end of what QEMU and the console said."""
        said = []
        for log in (self.directory / QEMU_LOG, self.console):
            with contextlib.suppress(OSError):
                said += log.read_text(errors="replace").splitlines()[-TAIL:]
        return "\n".join(said)

    def wait(self) -> int:
        """Until QEMU ends by itself."""
        return 0 if self._process is None else self._process.wait()

    def stop(self) -> None:
        """Power off; killed if it takes too long."""
        if self._process is None:
            return
        if self._process.poll() is None:
            with contextlib.suppress(SetupError):
                self._ask_to_end()
        try:
            self._process.wait(OFF_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _ask_to_end(self) -> None:
        with contextlib.closing(Session.connect(self.directory / SOCKET)) as session:
            session.power_off()


def _listener(path: Path) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        listener.bind(str(path))
        listener.listen()
    except OSError as err:
        listener.close()
        raise SetupError(
            f"The machine's socket can't be made at {path}.",
            next_step="Choose a folder with a shorter name (TMPDIR, or TOKENBRIDGE_VM_CACHE).",
            detail=repr(err),
        ) from err
    return listener


def share(tag: str, path: Path, *, read_only: bool) -> list[str]:
    """QEMU's arguments for a 9p share. File systems mounted below `path` are seen, too (multidevs)."""
    folder = str(path).replace(",", ",,")
    mode = ",readonly=on" if read_only else ""
    return [
        *("-fsdev", f"local,id={tag},path={folder},security_model=none,multidevs=remap{mode}"),
        *("-device", f"virtio-9p-pci,fsdev={tag},mount_tag={tag}"),
    ]
