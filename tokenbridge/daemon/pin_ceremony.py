"""Change or unblock a card's PIN, step by step with a person. Wrong input ends it: nothing is tried again by itself."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tokenbridge.card import pin as card_pin
from tokenbridge.card import piv
from tokenbridge.card.base import PinReference
from tokenbridge.card.pin import PinStatus
from tokenbridge.daemon.devices import Card, Devices
from tokenbridge.daemon.prompts import StreamInteraction
from tokenbridge.errors import DeviceError, NotAllowedNow, PinBlocked, PinUnfit
from tokenbridge.interaction import PinRequest, Secret


def only_card(devices: Devices, reader: str) -> Card:
    """The card in `reader`, or the only card there is. Raises `DeviceError` for none, or for more."""
    cards = devices.picture.cards
    if reader:
        return devices.card(reader)
    if not cards:
        raise devices.absence()
    if len(cards) > 1:
        raise DeviceError(
            f"There are {len(cards)} cards.", next_step=f"Name the reader with --reader: {', '.join(cards)}."
        )
    return next(iter(cards.values()))


class PinCeremony:
    """One change or unblocking."""

    def __init__(self, devices: Devices, interaction: StreamInteraction, program: str) -> None:
        self._devices = devices
        self._interaction = interaction
        self._program = program

    async def change(self, reader: str) -> Mapping[str, Any]:
        card = only_card(self._devices, reader)
        with self._devices.claim(card, self._program):
            status = await self._devices.run(card, card_pin.status)
            if status.pin == 0:
                raise PinBlocked(sw=0x6983)
            with await self._ask_old(card, status) as old, await self._ask_new() as new:
                await self._devices.run(
                    card, lambda link, cancel: card_pin.change(link, cancel, status.reference, old, new)
                )
        return {"changed": True, "reader": card.reader}

    async def unblock(self, reader: str) -> Mapping[str, Any]:
        card = only_card(self._devices, reader)
        with self._devices.claim(card, self._program):
            status = await self._devices.run(card, card_pin.status)
            if status.reference is PinReference.GLOBAL:
                raise NotAllowedNow(
                    "This card's global PIN can't be unblocked here.", next_step="Ask the people who issue cards."
                )
            facts = {"purpose": "pin-unblock", "pin_tries_left": status.pin}
            with await self._interaction.ask_text("puk", facts) as puk, await self._ask_new() as new:
                piv.check_puk(puk)
                await self._devices.run(card, lambda link, cancel: card_pin.unblock(link, cancel, puk, new))
        return {"unblocked": True, "reader": card.reader}

    async def _ask_old(self, card: Card, status: PinStatus) -> Secret:
        request = PinRequest(purpose="pin-change", program=self._program, card=card.reader, tries_left=status.pin)
        if request.last_try:
            await self._interaction.confirm_last_try(request)
        return _fit(await self._interaction.ask_pin(request))

    async def _ask_new(self) -> Secret:
        facts = {"min_length": piv.PIN_MIN, "max_length": piv.PIN_MAX}
        return _fit(await self._interaction.ask_text("new-pin", facts))


def _fit(pin: Secret) -> Secret:
    """`pin`, or wiped and refused."""
    try:
        piv.check_pin(pin)
    except PinUnfit:
        pin.wipe()
        raise
    return pin
