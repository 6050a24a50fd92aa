"""Readers as programs see them through PC/SC: a card is there for them a moment after the daemon has powered it up."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from typing import Final

from tokenbridge.errors import SetupError
from tokenbridge.transport.pcsc import Context, ReaderState

LOOK_MILLISECONDS: Final = 100


def await_card(reader: str, seconds: float, *, gone: Callable[[], bool] = lambda: False) -> None:
    """Wait until whoever connects to `reader` finds a card there, or until it is `gone` already.

    Raises `SetupError` after `seconds`.
    """
    limit = time.monotonic() + seconds
    state = ReaderState(reader, 0, b"")
    with contextlib.closing(Context()) as context:
        while not state.present and not gone():
            if time.monotonic() > limit:
                raise SetupError(f"The card in {reader} does not appear.", next_step="Look at the PC/SC daemon's log.")
            found = context.wait([state], LOOK_MILLISECONDS)
            state = found[0] if found else state
