"""Changing and unblocking the PIN: each in one transaction that first proves that PIV is the selected application."""

from __future__ import annotations

from dataclasses import dataclass

from tokenbridge.card.base import PinReference
from tokenbridge.card.channel import Check
from tokenbridge.card.registry import open_card
from tokenbridge.interaction import Secret
from tokenbridge.transport.base import CardLink


@dataclass(frozen=True, slots=True, kw_only=True)
class PinStatus:
    """Tries left of PIN and PUK; None where the card does not tell. Few cards tell of the PUK."""

    reference: PinReference
    pin: int | None


def status(link: CardLink, cancel: Check) -> PinStatus:
    """Which PIN the card wants, and its tries left; spends none."""
    with link.transaction():
        piv = open_card(link, cancel)
        discovery = piv.discovery()
        reference = discovery.pin_reference if discovery is not None else PinReference.APPLICATION
        return PinStatus(reference=reference, pin=piv.tries_left(reference))


def change(link: CardLink, cancel: Check, reference: PinReference, old: Secret, new: Secret) -> None:
    """Raises `PinUnfit` before anything is sent, `PinWrong`, `PinBlocked`."""
    with link.transaction(reset_after=True):
        open_card(link, cancel).change_pin(reference, old, new)


def unblock(link: CardLink, cancel: Check, puk: Secret, new: Secret) -> None:
    """Set a new application PIN with the PUK. Raises as `change`; then the tries are the PUK's."""
    with link.transaction(reset_after=True):
        open_card(link, cancel).unblock_pin(puk, new)
