"""Background processes that each hold one virtual device, and the notes by which others find them.

A process holds a lock on its note as long as it lives: the lock, not the process number, says that the device is in.
"""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from tokenbridge.errors import NotAllowedNow, SetupError, TimedOut, TokenbridgeError

ENDS: Final = {signal.SIGTERM, signal.SIGINT, signal.SIGHUP}
READY: Final = b"ready"
LOCK_SECONDS: Final = 1.0
START_SECONDS: Final = 60.0
STOP_SECONDS: Final = 10.0
LOOK_SECONDS: Final = 0.02

Opened = Callable[[int], Callable[[], None]]
"""Makes the device, given its locked note; what it returns is called when the process has told that it is ready."""


# --- for those who start and stop them --------------------------------------------------------------------------


def start(module: str, *arguments: str, failure: str, next_step: str) -> None:
    """Run `python -m MODULE`, which ends as soon as the device is in: its child goes on. Raises `SetupError`."""
    command = [sys.executable, "-m", module, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=START_SECONDS, check=False)
    if done.returncode != 0:
        raise SetupError(done.stdout.strip() or failure, next_step=next_step, detail=done.stderr)


def stop(name: str, note: Path, pid: int) -> None:
    """Pull the device and wait until it is out. Raises `TimedOut`."""
    os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + STOP_SECONDS
    while read_note(note):
        if time.monotonic() > deadline:
            raise TimedOut(f"{name} does not come out.", detail=f"pid {pid}")
        time.sleep(LOOK_SECONDS)


def read_note(note: Path) -> dict[str, Any]:
    """What the process wrote, with its number as `pid`; empty if there is none."""
    try:
        with note.open("r", encoding="utf-8") as file:
            if _lockable(file.fileno()):
                return {}
            data = json.load(file)
            return {**data, "pid": int(data["pid"])}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def _lockable(descriptor: int) -> bool:
    """Whether nobody holds the note's lock: the process that wrote it is gone."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


# --- for the processes themselves -------------------------------------------------------------------------------


def serve(note: Path, taken: str, blocked: set[signal.Signals], opened: Opened) -> int:
    """The exit code of the process that was started; its child makes the device and goes on with it.

    `blocked` are the signals that the child waits for. `taken` is said when another process has the device.
    """
    reader, writer = os.pipe()
    if os.fork() == 0:
        os.close(reader)
        os.setsid()
        _go_on(note, taken, blocked, opened, writer)
        return 0
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        word = pipe.read()
    if word == READY:
        return 0
    sys.stdout.write(word.decode("utf-8", "replace"))
    return 1


def _go_on(note: Path, taken: str, blocked: set[signal.Signals], opened: Opened, writer: int) -> None:
    # blocked before any thread starts, so that signals wait for `sigwait` and for nothing else
    signal.pthread_sigmask(signal.SIG_BLOCK, blocked)
    lock = os.open(note, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        _take_lock(lock, taken)
        hold = opened(lock)
    except TokenbridgeError as err:
        os.write(writer, err.message.encode())
        return
    _leave_terminal()
    os.write(writer, READY)
    os.close(writer)
    hold()


def write_note(lock: int, **facts: object) -> None:
    """What others may know of the device, beside this process's number."""
    os.ftruncate(lock, 0)
    os.pwrite(lock, json.dumps({"pid": os.getpid(), **facts}).encode(), 0)


def _take_lock(descriptor: int, taken: str) -> None:
    """For good; raises `NotAllowedNow` that says `taken`.

    Somebody who only looks holds the lock too, but for no time worth mentioning.
    """
    deadline = time.monotonic() + LOCK_SECONDS
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as err:
            if time.monotonic() > deadline:
                raise NotAllowedNow(taken) from err
            time.sleep(LOCK_SECONDS / 20)
        else:
            return


def _leave_terminal() -> None:
    """Let go of the starter's descriptors: whoever reads them must see their end."""
    null = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(null, descriptor)
