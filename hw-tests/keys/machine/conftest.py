"""The machine's side of keys: udev, its rules, the people who may open a device. It changes the machine it runs on."""

from __future__ import annotations

import grp
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tokenbridge.daemon import udev_setup

GUEST = Path("/run/tokenbridge-vm")
SECONDS = 60
SYSTEMD = Path("/run/systemd/system")
SEAT = Path("/run/systemd/seats/seat0")


@dataclass(frozen=True, slots=True)
class Somebody:
    """An ordinary user, by number: no account is needed for the kernel to say no."""

    user: int
    groups: tuple[int, ...] = ()

    def may_open(self, path: str) -> bool:
        """Whether this user can open `path` to read and write."""
        done = subprocess.run(
            ["sh", "-c", 'exec 3<>"$1"', "sh", path],
            user=self.user,
            group=self.user,
            extra_groups=self.groups,
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )
        assert done.returncode == 0 or "Permission denied" in done.stderr, done.stderr
        return done.returncode == 0


@pytest.fixture
def alice() -> Somebody:
    """In no group; the one who sits at the machine, where somebody does."""
    return Somebody(1001)


@pytest.fixture
def bob() -> Somebody:
    """In plugdev."""
    return Somebody(1002, (grp.getgrnam("plugdev").gr_gid,))


class Udev:
    """udev of a machine that is thrown away afterwards. What a test takes away or adds is put right at its end."""

    def __init__(self, spare: Path) -> None:
        self._spare = spare
        self._moved: list[tuple[Path, Path]] = []
        self._made: list[Path] = []

    def __call__(self, *words: str, ok: bool = True) -> str:
        done = subprocess.run(["udevadm", *words], capture_output=True, text=True, timeout=SECONDS, check=False)
        assert (done.returncode == 0) == ok, done.stdout + done.stderr
        return done.stdout

    def properties(self, path: str) -> dict[str, str]:
        lines = self("info", "--query=property", f"--name={path}").splitlines()
        return dict(line.split("=", 1) for line in lines)

    def without(self, *paths: Path) -> None:
        """As if `paths` were not on this machine: an older one, or one with fewer packages."""
        for path in paths:
            if path.exists():
                kept = self._spare / f"{len(self._moved)}"
                shutil.move(path, kept)
                self._moved.append((kept, path))
        self("control", "--reload")

    def seat(self, user: int) -> None:
        """What logind writes when `user` sits at the machine; udev's uaccess builtin reads it."""
        SYSTEMD.mkdir(parents=True, exist_ok=True)
        SEAT.parent.mkdir(parents=True, exist_ok=True)
        SEAT.write_text(f"ACTIVE=c1\nACTIVE_UID={user}\n")
        self._made += [SEAT, SYSTEMD]

    def restore(self) -> None:
        for kept, path in reversed(self._moved):
            shutil.move(kept, path)
        for path in self._made:
            path.rmdir() if path.is_dir() else path.unlink(missing_ok=True)
        self("control", "--reload")
        self("settle")


@pytest.fixture
def udev(tmp_path: Path, rig_platform: str) -> Iterator[Udev]:
    if rig_platform != "virtual" or not GUEST.exists():
        pytest.skip("changes the machine's udev: only in the virtual machine (make hw-test)")
    made = Udev(tmp_path)
    yield made
    made.restore()


@pytest.fixture
def install(udev: Udev) -> Iterator[Callable[..., udev_setup.Outcome]]:
    """Puts our rules in, as `tokenbridge setup udev` does; they are gone again at the end of the test."""

    def put(group: str | None = None) -> udev_setup.Outcome:
        done = udev_setup.install(group)
        assert done.applied
        return done

    yield put
    udev_setup.uninstall()
