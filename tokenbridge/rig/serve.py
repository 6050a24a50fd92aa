"""The background process that holds one virtual card in one reader slot until it gets SIGTERM.

    python -m tokenbridge.rig.serve CARD_FILE PORT NOTE_FILE

The process that was started ends when the card is in (exit 0) or can't be (exit 1, the reason on standard output); a
child of its session goes on. While it lives it holds a lock on the note, in which stand its process number and port.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final

from tokenbridge.rig import background
from tokenbridge.rig.virtual_card import VirtualCard
from tokenbridge.rig.vpcd import VpcdConnection

INSERT_SECONDS: Final = 4.0
"""Several of pcscd's polling periods."""


def main(arguments: list[str]) -> int:
    """Start the child and wait for its word."""
    card, port, note = arguments

    def opened(lock: int) -> Callable[[], None]:
        connection = VpcdConnection(VirtualCard.load(Path(card)), int(port)).start(timeout=INSERT_SECONDS)
        background.write_note(lock, port=int(port))
        return lambda: _until_ended(connection)

    return background.serve(Path(note), "That card is inserted already.", background.ENDS, opened)


def _until_ended(connection: VpcdConnection) -> None:
    signal.sigwait(background.ENDS)
    connection.stop()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
