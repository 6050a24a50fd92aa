"""The chip that the instruction handlers work on: lasting state, state until power-off, and how to refuse."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NoReturn

from tokenbridge.rig.card_state import CardState, SlotKey
from tokenbridge.rig.piv_objects import Discovery, PinPolicy, PinRef
from tokenbridge.wire import tlv
from tokenbridge.wire.apdu import SW, Command


class Refusal(Exception):
    """A handler's way to answer with a status word; never leaves the card."""

    def __init__(self, sw: int) -> None:
        self.sw = sw
        super().__init__(f"{sw:04X}")


def refuse(sw: int) -> NoReturn:
    raise Refusal(sw)


@dataclass(slots=True)
class Session:
    """What the card forgets when it loses power.

    `pin_fresh` holds only while nothing but the use of a key has followed VERIFY: the rule "PIN always" (SP 800-73-4
    part 1 section 5.5, note on key 9C).
    """

    selected: bool = False
    verified: set[int] = field(default_factory=set)
    pin_fresh: bool = False
    management: bool = False
    witness: bytes | None = None
    challenge: bytes | None = None


@dataclass(slots=True)
class Chip:
    """`save` makes the lasting state durable and returns only when it is."""

    state: CardState
    save: Callable[[], None]
    session: Session = field(default_factory=Session)

    @property
    def pin_verified(self) -> bool:
        """Whether a PIN that opens the application was verified: its own, or the global one if discovery says so."""
        usable = {int(PinRef.APPLICATION)}
        if self.state.profile.discovery in (Discovery.BOTH_APPLICATION_PRIMARY, Discovery.BOTH_GLOBAL_PRIMARY):
            usable.add(int(PinRef.GLOBAL))
        return bool(usable & self.session.verified)

    def require_management(self) -> None:
        if not self.session.management:
            refuse(SW.SECURITY_NOT_SATISFIED)

    def require_pin_for(self, key: SlotKey) -> None:
        """Refuse unless the key's PIN policy is met; a fresh PIN is used up by this."""
        fresh, self.session.pin_fresh = self.session.pin_fresh, False
        met = {
            PinPolicy.NEVER: True,
            PinPolicy.ONCE: self.pin_verified,
            PinPolicy.ALWAYS: self.pin_verified and fresh,
        }
        if not met[key.policy]:
            refuse(SW.SECURITY_NOT_SATISFIED)


Handler = Callable[[Chip, Command], bytes]
"""Carries out one command and returns the answer's data, or raises `Refusal`."""


def template(data: bytes, tag: int) -> dict[int, bytes]:
    """The data objects inside the single template `tag`; refuses anything else. The first of equal tags wins."""
    try:
        outer = tlv.parse_one(data)
        items = tlv.parse(outer.value)
    except tlv.TlvError:
        refuse(SW.WRONG_DATA)
    if outer.tag != tag:
        refuse(SW.WRONG_DATA)
    return {item.tag: item.value for item in reversed(items)}
