"""The background process that holds one virtual card in one reader slot until it gets SIGTERM.

    python -m tokenbridge.rig.serve CARD_FILE PORT NOTE_FILE

The process that was started ends when the card is in (exit 0) or can't be (exit 1, the reason on standard output); a
child of its session goes on. While it lives it holds a lock on the note, in which stand its process number and port.
"""

from __future__ import annotations

import fcntl
import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Final

from tokenbridge.errors import NotAllowedNow, TokenbridgeError
from tokenbridge.rig.virtual_card import VirtualCard
from tokenbridge.rig.vpcd import VpcdConnection

ENDS: Final = {signal.SIGTERM, signal.SIGINT, signal.SIGHUP}
READY: Final = b"ready"
LOCK_SECONDS: Final = 1.0
INSERT_SECONDS: Final = 4.0
"""Several of pcscd's polling periods."""


def main(arguments: list[str]) -> int:
    """Start the child and wait for its word."""
    card, port, note = arguments
    reader, writer = os.pipe()
    if os.fork() == 0:
        os.close(reader)
        os.setsid()
        _serve(Path(card), int(port), Path(note), writer)
        return 0
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        word = pipe.read()
    if word == READY:
        return 0
    sys.stdout.write(word.decode("utf-8", "replace"))
    return 1


def _serve(card: Path, port: int, note: Path, writer: int) -> None:
    # blocked before any thread starts, so that the signal waits for `sigwait` and for nothing else
    signal.pthread_sigmask(signal.SIG_BLOCK, ENDS)
    lock = os.open(note, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        connection = _insert(card, port, lock)
    except TokenbridgeError as err:
        os.write(writer, err.message.encode())
        return
    leave_terminal()
    os.write(writer, READY)
    os.close(writer)
    signal.sigwait(ENDS)
    connection.stop()


def _insert(card: Path, port: int, lock: int) -> VpcdConnection:
    take_lock(lock)
    connection = VpcdConnection(VirtualCard.load(card), port).start(timeout=INSERT_SECONDS)
    os.ftruncate(lock, 0)
    os.pwrite(lock, json.dumps({"pid": os.getpid(), "port": port}).encode(), 0)
    return connection


def take_lock(descriptor: int, taken: str = "That card is inserted already.") -> None:
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


def leave_terminal() -> None:
    """Let go of the starter's descriptors: whoever reads them must see their end."""
    null = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(null, descriptor)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
