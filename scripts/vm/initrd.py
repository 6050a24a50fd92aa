"""The guest's first file system: busybox, the modules that reach the host's /, and the settings of this boot."""

from __future__ import annotations

import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from scripts.vm.kernel import Kernel
from tokenbridge.errors import SetupError

HERE: Final = Path(__file__).resolve().parent
MODULES: Final = ("virtio_pci", "virtio_console", "9pnet_virtio", "9p", "overlay", "uhid", "hid-generic", "usbhid")
FOLDERS: Final = ("bin", "dev", "host", "lib", "memory", "proc", "root", "sys")
DYNAMIC: Final = b"/ld-linux"
SETUP: Final = "Run `scripts/setup vm`."


def build(kernel: Kernel, target: Path) -> None:
    """Write the initial RAM disk to `target`. Raises `SetupError` if a program or a module is missing."""
    with tempfile.TemporaryDirectory(prefix="tokenbridge-initrd-") as name:
        root = Path(name)
        for folder in FOLDERS:
            (root / folder).mkdir()
        shutil.copy(_busybox(), root / "bin" / "busybox")
        shutil.copy(HERE / "initrd.sh", root / "init")
        (root / "init").chmod(0o755)
        (root / "settings").write_text(_shell(settings(kernel)))
        files = modules(kernel)
        for file in files:
            shutil.copy(file, root / "lib")
        (root / "modules").write_text("".join(f"{file.name}\n" for file in files))
        _pack(root, target)


def settings(kernel: Kernel) -> dict[str, str]:
    """What the scripts of the guest need to know; they find these paths through the shared root."""
    return {
        "GUEST": str(HERE / "guest.sh"),
        "AGENT": str(HERE / "agent.py"),
        "PYTHON": str(Path(sys.executable).resolve()),
        "VERSION": kernel.version,
        "MODULES": str(kernel.root.resolve() / "lib/modules" / kernel.version),
    }


def _shell(values: Mapping[str, str]) -> str:
    return "".join(f"{name}={shlex.quote(value)}\n" for name, value in values.items())


def modules(kernel: Kernel) -> list[Path]:
    """Files of `MODULES` and what they depend on, in the order of loading; built-in ones have none."""
    found: dict[Path, None] = {}
    for name in MODULES:
        command = ["modprobe", "--set-version", kernel.version, "--dirname", str(kernel.root), "--show-depends", name]
        for line in _run(command).decode().splitlines():
            verb, _, file = line.strip().partition(" ")
            if verb == "insmod":
                found[Path(file.split(" ")[0])] = None
    return list(found)


def _busybox() -> str:
    found = shutil.which("busybox")
    if found is None or DYNAMIC in Path(found).read_bytes()[:4096]:
        raise SetupError("The virtual machine needs a busybox without libraries.", next_step=SETUP)
    return found


def _pack(root: Path, target: Path) -> None:
    names = b"".join(bytes(path.relative_to(root)) + b"\0" for path in sorted(root.rglob("*")))
    target.write_bytes(_run(["cpio", "--create", "--format=newc", "--null", "--quiet"], cwd=root, stdin=names))


def _run(command: list[str], *, cwd: Path | None = None, stdin: bytes = b"") -> bytes:
    program = shutil.which(command[0], path="/usr/sbin:/sbin:/usr/bin:/bin")
    if program is None:
        raise SetupError(f"{command[0]} is not installed.", next_step=SETUP)
    try:
        done = subprocess.run(
            [program, *command[1:]], cwd=cwd, input=stdin, capture_output=True, timeout=60, check=True
        )
    except subprocess.CalledProcessError as err:
        text = err.stderr.decode(errors="replace").strip()
        raise SetupError(f"`{' '.join(command)}` failed: {text[-400:]}", next_step=SETUP) from err
    except subprocess.TimeoutExpired as err:
        raise SetupError(f"`{' '.join(command)}` took too long.", next_step="Try again.") from err
    return done.stdout
