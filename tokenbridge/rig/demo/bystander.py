"""A program in the place of pinentry, where no window can be opened: it answers what the bridge asks in a demo.

    python -m tokenbridge.rig.demo.bystander

It agrees, and knows the PIN that the demo's cards are made with. It never spends a card's last try.
Speaks Assuan, as pinentry does (Pinentry manual, "Protocol"): a line in, `OK`, `D ...` or `ERR ...` out.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Final, TextIO

from tokenbridge.rig.card_state import DEFAULT_PIN

READING_SECONDS: Final = 1.5
"""So that who looks at the page can read there what is going on."""
LAST_TRY: Final = "LAST try"
DECLINED: Final = "ERR 83886194 Not confirmed"


def converse(asked: TextIO, answered: TextIO, wait: Callable[[float], None] = time.sleep) -> None:
    """Until the other side hangs up."""

    def say(*lines: str) -> None:
        answered.write("".join(f"{line}\n" for line in lines))
        answered.flush()

    say("OK Pleased to meet you")
    told = ""
    for line in asked:
        word, _, rest = line.rstrip("\n").partition(" ")
        match word:
            case "SETDESC":
                told = rest
                say("OK")
            case "CONFIRM":
                wait(READING_SECONDS)
                say(DECLINED if LAST_TRY in told else "OK")
            case "GETPIN":
                say(f"D {DEFAULT_PIN.decode()}", "OK")
            case "BYE":
                say("OK")
                return
            case _:
                say("OK")


if __name__ == "__main__":
    converse(sys.stdin, sys.stdout)
