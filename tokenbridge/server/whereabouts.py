"""From where a sign-in is begun: what policy and the risk desk go by. Nothing is proved by it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from tokenbridge.server import keys

MAX_DEVICE: Final = 128
"""Characters of what a browser or workstation calls itself by."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Whereabouts:
    """`address` is the network address, empty when there is none. `device` is the hash of what the browser or
    workstation calls itself by, a random word that it keeps; a false one can only make a sign-in look unusual."""

    address: str = ""
    device: str = ""


NOWHERE: Final = Whereabouts()


def whereabouts(address: str, device: str) -> Whereabouts:
    """`device` as it came; the word itself is not stored."""
    return Whereabouts(address=address, device=keys.hash_token(device) if device else "")
