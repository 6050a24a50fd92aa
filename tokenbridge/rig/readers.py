"""Readers as programs see them through PC/SC: a card is there for them a moment after the daemon has powered it up."""

from __future__ import annotations

import contextlib
import time
from typing import Final

from tokenbridge.errors import SetupError
from tokenbridge.transport.pcsc import Context, ReaderState

SEEN_SECONDS: Final = 10.0


def await_card(reader: str, seconds: float = SEEN_SECONDS) -> None:
    """Wait until whoever connects to `reader` finds a card there. Raises `SetupError` after `seconds`."""
    limit = time.monotonic() + seconds
    with contextlib.closing(Context()) as context:
        states = [ReaderState(reader, 0, b"")]
        while not states[0].present:
            left = round((limit - time.monotonic()) * 1000)
            found = context.wait(states, left) if left > 0 else None
            if not found:
                raise SetupError(f"The card in {reader} does not appear.", next_step="Look at the PC/SC daemon's log.")
            states = found
