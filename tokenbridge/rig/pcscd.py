"""A real pcscd of one's own, with virtual readers: apart from the machine's daemon, for root and for ordinary users.

It runs in a mount namespace in which its own directory stands at /run/pcscd; clients find it by an environment variable
of libpcsclite. The vpcd driver listens on all interfaces; nothing here can change that.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import subprocess
import time
from pathlib import Path
from typing import Final

from tokenbridge.errors import SetupError

ENVIRONMENT: Final = "PCSCLITE_CSOCK_NAME"
RUN: Final = Path("/run/pcscd")
DRIVER: Final = Path("pcsc/drivers/serial/libifdvpcd.so")
DRIVER_ROOTS: Final = (Path("/usr/lib"), Path("/usr/local/lib"), Path("/usr/lib64"))
NOTE: Final = "rig.json"
SLOTS: Final = 2
START_SECONDS: Final = 20.0
STOP_SECONDS: Final = 5.0
LISTEN: Final = "0A"
"""TCP_LISTEN in /proc/net/tcp."""


class PrivatePcscd:
    """One daemon; a context manager. `ports` are those of its two reader slots, in the order of their names."""

    def __init__(self, directory: Path, *, apdu_log: Path | None = None) -> None:
        self.directory = directory.absolute()
        self.apdu_log = apdu_log
        self.ports: tuple[int, ...] = ()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def socket_path(self) -> Path:
        return self.directory / "run" / "pcscd.comm"

    @property
    def environ(self) -> dict[str, str]:
        """What a client needs in its environment."""
        return {ENVIRONMENT: str(self.socket_path)}

    @property
    def readers(self) -> tuple[str, ...]:
        """Names of the slots as PC/SC shows them."""
        return tuple(f"Virtual PCD 00 {slot:02X}" for slot in range(SLOTS))

    @property
    def pid(self) -> int | None:
        return None if self._process is None else self._process.pid

    def start(self) -> PrivatePcscd:
        """Start and wait until it can be used; the same ports as before after a `stop`. Raises `SetupError`."""
        if self._process is not None and self._process.poll() is None:
            return self
        program, driver = _program("pcscd"), _driver()
        self.ports = self.ports or _free_ports()
        self._write_configuration(driver)
        self._launch(program)
        try:
            self._wait_ready()
        except BaseException:
            self.stop()
            raise
        return self

    def stop(self) -> None:
        """End the daemon that `start` began; does nothing if it is not running."""
        process, self._process = self._process, None
        if process is None:
            return
        process.terminate()
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        self.socket_path.unlink(missing_ok=True)

    def kill(self) -> None:
        """End it as a crash would: no farewell to clients, socket file left behind."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()

    def wait(self) -> int:
        """Wait until the daemon ends by itself; its exit status."""
        return 0 if self._process is None else self._process.wait()

    def __enter__(self) -> PrivatePcscd:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _write_configuration(self, driver: Path) -> None:
        run, conf = self.directory / "run", self.directory / "conf"
        for path in (run, conf):
            path.mkdir(parents=True, exist_ok=True)
        for name in ("pcscd.comm", "pcscd.pid"):
            (run / name).unlink(missing_ok=True)
        lines = (
            'FRIENDLYNAME "Virtual PCD"',
            f"DEVICENAME /dev/null:0x{self.ports[0]:04X}",
            f"LIBPATH {driver}",
            f"CHANNELID 0x{self.ports[0]:04X}",
        )
        (conf / "vpcd").write_text("\n".join(lines) + "\n", encoding="utf-8")
        (run / NOTE).write_text(json.dumps({"ports": self.ports}), encoding="utf-8")

    def _launch(self, program: str) -> None:
        script, unshare = _mount_script(self.directory / "run")
        arguments = ["-f", "-c", str(self.directory / "conf"), *(["-a", "-d"] if self.apdu_log else [])]
        arguments += _without_polkit(program)
        command = [*unshare, "sh", "-c", script, "sh", str(self.directory / "run"), program, *arguments]
        with contextlib.ExitStack() as stack:
            output = stack.enter_context((self.apdu_log or self.directory / "pcscd.log").open("ab"))
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
            )

    def _wait_ready(self) -> None:
        deadline = time.monotonic() + START_SECONDS
        while not (self._answers() and set(self.ports) <= listening()):
            if self._process is None or self._process.poll() is not None or time.monotonic() > deadline:
                said = _tail(self.directory / "pcscd.log")
                raise SetupError("The private PC/SC daemon did not start.", next_step=f"It said: {said}", detail=said)
            time.sleep(0.01)

    def _answers(self) -> bool:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            probe.settimeout(1)
            try:
                probe.connect(str(self.socket_path))
            except OSError:
                return False
        return True


def ports_of(socket_path: Path) -> tuple[int, ...]:
    """The reader slots' ports of the private daemon behind `socket_path`; empty if it is not one."""
    try:
        note = json.loads((socket_path.parent / NOTE).read_text(encoding="utf-8"))
        return tuple(int(port) for port in note["ports"])
    except (OSError, ValueError, KeyError, TypeError):
        return ()


def _program(name: str) -> str:
    found = shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin:/usr/local/sbin")
    if found is None:
        raise SetupError(f"{name} is not installed.", next_step="sudo apt-get install pcscd vsmartcard-vpcd")
    return found


def _without_polkit(program: str) -> list[str]:
    """Newer daemons ask polkit about each client; ours is private to its directory, and polkit may not even run."""
    option = "--disable-polkit"
    shown = subprocess.run([program, "--help"], capture_output=True, text=True, check=False)
    return [option] if option in shown.stdout + shown.stderr else []


def _driver() -> Path:
    """The vpcd driver; distributions put it under /usr/lib or the multiarch folder."""
    for root in DRIVER_ROOTS:
        for found in (root / DRIVER, *sorted(root.glob(f"*/{DRIVER}"))):
            if found.exists():
                return found
    raise SetupError(
        "The driver for virtual readers is not installed.", next_step="sudo apt-get install vsmartcard-vpcd"
    )


def _mount_script(run: Path) -> tuple[str, list[str]]:
    """Shell script ($1 directory, the rest the program) and the command that enters the namespaces."""
    mount = f'mount --bind "$1" {RUN} && shift && exec "$@"'
    if os.geteuid() == 0:
        RUN.mkdir(exist_ok=True)
        return mount, ["unshare", "-m"]
    if RUN.is_dir():
        return mount, ["unshare", "-rm"]
    if RUN.parent in run.parents:
        raise SetupError(f"{RUN} is missing.", next_step=f"sudo mkdir {RUN}")
    # the mount point can be made on a file system of the namespace's own
    return f"mount -t tmpfs tmpfs {RUN.parent} && mkdir {RUN} && {mount}", ["unshare", "-rm"]


def _free_ports() -> tuple[int, ...]:
    """Adjacent free ports: the driver gives the slots consecutive ones from its first."""
    for _ in range(100):
        with contextlib.ExitStack() as stack:
            first = stack.enter_context(socket.socket())
            first.bind(("127.0.0.1", 0))
            port = int(first.getsockname()[1])
            if port + SLOTS > 0xFFFF:
                continue
            try:
                for extra in range(1, SLOTS):
                    stack.enter_context(socket.socket()).bind(("127.0.0.1", port + extra))
            except OSError:
                continue
            return tuple(port + slot for slot in range(SLOTS))
    raise SetupError("No two adjacent free ports were found.", next_step="Close some programs and retry.")


def listening() -> set[int]:
    """Ports on which somebody listens, read from the kernel: connecting to a slot would insert a card."""
    found = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        try:
            lines = Path(table).read_text(encoding="ascii").splitlines()[1:]
        except OSError:
            continue
        rows = (line.split() for line in lines)
        found |= {int(row[1].rsplit(":", 1)[1], 16) for row in rows if row[3] == LISTEN}
    return found


def _tail(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")[-2000:]
    except OSError:
        return ""
