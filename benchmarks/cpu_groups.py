"""CPU groups (cgroups, version 1 or 2): each process gets a part of a core and no more, as if it had a small machine of
its own. They are made below this process's own group and removed again.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

PERIOD: Final = 10_000
"""Microseconds after which a group gets its part anew: short, so that who has used it up stands still but briefly."""

_counter = itertools.count()


class NotHere(Exception):
    """No CPU groups can be made on this machine by this user; the text says why."""


@dataclass(frozen=True)
class _Hierarchy:
    """A mounted tree of groups. `names` is what proc_pid_cgroup(5) calls it; version 2 has none."""

    version: int
    mount: Path
    names: str

    def group_of(self, pid: int | str) -> Path:
        lines = (line.split(":", 2) for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines())
        return self.mount / next(path for _, names, path in lines if names == self.names).lstrip("/")

    def limits(self, share: float) -> tuple[tuple[str, str], ...]:
        """Files and what is to be written into them, in their order."""
        quota = int(share * PERIOD)
        if self.version == 2:  # Documentation/admin-guide/cgroup-v2.rst, "CPU Interface Files"
            return (("cpu.max", f"{quota} {PERIOD}"),)
        return ("cpu.cfs_period_us", str(PERIOD)), ("cpu.cfs_quota_us", str(quota))


def told(share: float) -> str:
    """What a share means, for people."""
    return f"{share * PERIOD / 1000:g} ms of each {PERIOD / 1000:g} ms"


@contextmanager
def apart(pids: Sequence[int], share: float) -> Iterator[None]:
    """Each of `pids` in a group of its own with `share` of one core. Raises `NotHere`."""
    tried: list[str] = []
    for tree, parent in _parents():
        with ExitStack() as stack:
            try:
                if tree.version == 2:
                    stack.enter_context(_delegated(parent))
                for pid in pids:
                    stack.enter_context(_group(tree, parent, pid, share))
            except OSError as err:
                tried.append(f"{parent}: {err.strerror}")
                continue
            yield
            return
    raise NotHere("; ".join(tried) or "no hierarchy of groups with a CPU controller is mounted")


def _parents() -> Iterator[tuple[_Hierarchy, Path]]:
    """The groups below which ours may be made, the nearest first."""
    own = [line.split(":", 2)[1] for line in Path("/proc/self/cgroup").read_text().splitlines()]
    for line in Path("/proc/self/mountinfo").read_text().splitlines():  # proc_pid_mountinfo(5)
        before, _, after = line.partition(" - ")
        mount, kind, options = Path(before.split()[4]), after.split()[0], after.split()[-1].split(",")
        if kind == "cgroup" and "cpu" in options:
            tree = _Hierarchy(1, mount, next(names for names in own if "cpu" in names.split(",")))
            yield tree, tree.group_of("self")
        elif kind == "cgroup2" and "" in own:
            tree = _Hierarchy(2, mount, "")
            here = tree.group_of("self")
            for folder in (here, *here.parents):
                if folder.is_relative_to(mount) and "cpu" in _words(folder / "cgroup.controllers"):
                    yield tree, folder


def _words(path: Path) -> list[str]:
    try:
        return path.read_text().split()
    except OSError:
        return []


@contextmanager
def _delegated(parent: Path) -> Iterator[None]:
    """Groups below `parent` may limit the CPU."""
    switch = parent / "cgroup.subtree_control"
    if "cpu" in _words(switch):
        yield
        return
    switch.write_text("+cpu")
    try:
        yield
    finally:
        with suppress(OSError):  # somebody else has begun to use it
            switch.write_text("-cpu")


@contextmanager
def _group(tree: _Hierarchy, parent: Path, pid: int, share: float) -> Iterator[None]:
    folder, home = parent / f"tokenbridge-bench-{os.getpid()}-{next(_counter)}", tree.group_of(pid)
    folder.mkdir()
    try:
        for name, text in tree.limits(share):
            (folder / name).write_text(text)
        (folder / "cgroup.procs").write_text(str(pid))
        yield
    finally:
        # A group goes only when nobody is in it: who is still there returns to where it came from.
        for left in _words(folder / "cgroup.procs"):
            with suppress(ProcessLookupError):
                (home / "cgroup.procs").write_text(left)
        folder.rmdir()


@contextmanager
def spare() -> Iterator[list[float]]:
    """Afterwards the list holds one number: the share of time in which the machine's cores had nothing to do."""
    found: list[float] = []
    before = _ticks()
    yield found
    after = _ticks()
    idle, whole = (later - earlier for earlier, later in zip(before, after, strict=True))
    found.append(idle / whole)


def _ticks() -> tuple[int, int]:
    """Idle time, that spent waiting for disks included, and all time of all cores (proc_stat(5))."""
    fields = [int(text) for text in Path("/proc/stat").read_text().splitlines()[0].split()[1:9]]
    return fields[3] + fields[4], sum(fields)
