"""Debian's kernel, fetched once per version into the cache: an uncompressed image and the modules a bench needs."""

from __future__ import annotations

import contextlib
import fcntl
import lzma
import os
import platform
import re
import shutil
import struct
import subprocess
import tempfile
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tokenbridge.errors import SetupError

META_PACKAGE: Final = "linux-image-amd64"
MACHINE: Final = "x86_64"
IMAGE: Final = re.compile(r"linux-image-[0-9][A-Za-z0-9.+-]*")
CANDIDATE: Final = re.compile(r"Candidate: ([A-Za-z0-9.+:~-]+)")
DOWNLOAD_SECONDS: Final = 600

KEPT: Final = (
    "arch/x86/crypto",
    "crypto",
    "drivers/char",
    "drivers/hid",
    "drivers/input",
    "drivers/usb",
    "drivers/virtio",
    "fs",
    "lib",
    "net/9p",
)
"""Folders of modules; graphics, network cards and disks would be nine tenths of the package."""

BZIMAGE_MAGIC: Final = (0x202, b"HdrS")
BZIMAGE_SECTOR: Final = 512
BZIMAGE_PAYLOAD: Final = struct.Struct("<II")
"""Offset and length of the compressed kernel at 0x248 (Documentation/x86/boot.rst of the kernel, protocol 2.08)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Kernel:
    """`root` has lib/modules/`version` below it."""

    version: str
    image: Path
    root: Path


def cache_directory(environ: Mapping[str, str] = os.environ) -> Path:
    """$TOKENBRIDGE_VM_CACHE, else below $XDG_CACHE_HOME or ~/.cache."""
    if chosen := environ.get("TOKENBRIDGE_VM_CACHE"):
        return Path(chosen)
    return Path(environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tokenbridge" / "vm"


def prepare(cache: Path) -> Kernel:
    """The newest kernel of this distribution, downloaded and unpacked if the cache has not got it.

    Raises `SetupError` on another architecture, without apt, or if the download fails.
    """
    if platform.machine() != MACHINE:
        raise SetupError(
            f"The virtual machine runs on {MACHINE} only, and this is {platform.machine()}.",
            next_step="Run `make hw-test` on an x86_64 machine, or on a real key with `pytest hw-tests/keys "
            "--rig-platform real --rig-device /dev/hidrawN`.",
        )
    package, version = newest()
    place = cache / f"{package}_{version.replace(':', '.')}"
    with _locked(cache):
        if not place.is_dir():
            _fetch(package, version, place)
    name = package.removeprefix("linux-image-")
    return Kernel(version=name, image=place / "vmlinux", root=place)


def newest() -> tuple[str, str]:
    """The package that the meta package stands for today, and its version: both change with every update."""
    package = IMAGE.search(_output("apt-cache", "depends", "--important", META_PACKAGE).partition("Depends:")[2])
    if package is None:
        raise SetupError(
            f"apt knows no package {META_PACKAGE}.",
            next_step="Run `sudo apt-get update`. The virtual machine needs Debian's kernel package.",
        )
    version = CANDIDATE.search(_output("apt-cache", "policy", package[0]))
    if version is None:
        raise SetupError(f"apt has no version of {package[0]} to offer.", next_step="Run `sudo apt-get update`.")
    return package[0], version[1]


def _output(*command: str, cwd: Path | None = None) -> str:
    try:
        done = subprocess.run(
            command, cwd=cwd, capture_output=True, text=True, timeout=DOWNLOAD_SECONDS, check=True, env=_plain_environ()
        )
    except FileNotFoundError as err:
        raise SetupError(
            f"{command[0]} is not installed.", next_step="Run `scripts/setup vm` on Debian or Ubuntu.", detail=repr(err)
        ) from err
    except subprocess.CalledProcessError as err:
        raise SetupError(
            f"`{' '.join(command)}` failed: {err.stderr.strip()[-400:]}",
            next_step="Check the network, run `sudo apt-get update` and try again.",
        ) from err
    except subprocess.TimeoutExpired as err:
        raise SetupError(f"`{' '.join(command)}` took too long.", next_step="Check the network and try again.") from err
    return done.stdout


def _plain_environ() -> dict[str, str]:
    """Programs whose output is read speak English."""
    return {**os.environ, "LC_ALL": "C", "PATH": f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin"}


@contextlib.contextmanager
def _locked(cache: Path) -> Iterator[None]:
    try:
        cache.mkdir(parents=True, exist_ok=True)
        lock = (cache / "lock").open("w")
    except OSError as err:
        raise SetupError(
            f"{cache} can't be written.", next_step="Set TOKENBRIDGE_VM_CACHE to another folder.", detail=repr(err)
        ) from err
    with lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _fetch(package: str, version: str, place: Path) -> None:
    """Unpack beside `place`, and move there at the end: what is in the cache is complete."""
    with tempfile.TemporaryDirectory(dir=place.parent, prefix="new-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        folder.chmod(0o755)
        _output("apt-get", "download", "-q", f"{package}={version}", cwd=folder)
        archive = next(folder.glob("*.deb"))
        _output("dpkg-deb", "--extract", str(archive), str(folder / "all"))
        (folder / "kept").mkdir()
        _keep(folder / "all", folder / "kept", package.removeprefix("linux-image-"))
        (folder / "kept").rename(place)


def _keep(unpacked: Path, kept: Path, version: str) -> None:
    (kept / "vmlinux").write_bytes(uncompressed((unpacked / "boot" / f"vmlinuz-{version}").read_bytes()))
    source, target = unpacked / "lib/modules" / version, kept / "lib/modules" / version
    if not source.is_dir():  # since Debian 13 there is /usr/lib only
        source = unpacked / "usr/lib/modules" / version
    for folder in KEPT:
        if (source / "kernel" / folder).is_dir():
            shutil.copytree(source / "kernel" / folder, target / "kernel" / folder)
    for listing in source.glob("modules.*"):
        shutil.copy(listing, target)
    _output("depmod", "--basedir", str(kept), version)


def uncompressed(image: bytes) -> bytes:
    """The ELF kernel inside a bzImage, which starts three seconds sooner; `image` itself if its packing is unknown."""
    place, magic = BZIMAGE_MAGIC
    if image[place : place + len(magic)] != magic:
        return image
    setup = ((image[0x1F1] or 4) + 1) * BZIMAGE_SECTOR
    offset, length = BZIMAGE_PAYLOAD.unpack_from(image, 0x248)
    payload = image[setup + offset : setup + offset + length]
    if payload.startswith(b"\xfd7zXZ\0"):
        return lzma.LZMADecompressor().decompress(payload)
    if payload.startswith(b"\x1f\x8b"):
        return zlib.decompressobj(wbits=31).decompress(payload)
    return image
