"""Waiting for what the person presents first: a card that is inserted, or a security key that is plugged in."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from typing import Final

from tokenbridge.daemon.devices import Card, Devices
from tokenbridge.daemon.key_dialogue import no_access
from tokenbridge.daemon.prompts import StreamInteraction
from tokenbridge.daemon.site import Offer
from tokenbridge.daemon.steps import Wish
from tokenbridge.errors import AccessDenied, DeviceError, NoDevice

SETTLE_SECONDS: Final = 2.0
"""For a bridge that has only just started to find out which keys are there."""


class Arrival:
    """What the site takes, the caller wishes, and is there."""

    def __init__(
        self,
        devices: Devices,
        interaction: StreamInteraction,
        wish: Wish,
        offer: Offer,
        without: Sequence[str] = (),
    ) -> None:
        """`without` are the paths of keys that have been tried; one that is plugged in there anew counts."""
        self._devices = devices
        self._interaction = interaction
        self._wish = wish
        self._offer = offer
        self.takes_card = offer.takes_card and wish.wants_card
        self.takes_key = offer.takes_key and wish.wants_key
        keys = devices.picture.keys
        self._tried = [keys[path] for path in without if path in keys]
        self._seen: list[Card] = []

    async def wait(self, seconds: float) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Readers with a card, and paths of keys, once there is any. Raises what `absence` says after `seconds`."""
        await self._settled()
        if not self.readers() and not self.keys():
            await self._say_waiting()
        try:
            async with asyncio.timeout(seconds), self._devices.events() as events:
                while not (self.readers() or self.keys()):
                    await events.get()
        except TimeoutError:
            raise self.absence() from None
        return self._told(), self.keys()

    async def next_card(self) -> tuple[str, ...]:
        """As `readers`, once there is a card that has not been told of yet."""
        async with self._devices.events() as events:
            while not any(self._is_new(reader) for reader in self.readers()):
                await events.get()
        return self._told()

    def _told(self) -> tuple[str, ...]:
        readers = self.readers()
        self._seen = [self._devices.picture.cards[reader] for reader in readers]
        return readers

    def _is_new(self, reader: str) -> bool:
        return not any(card is self._devices.picture.cards[reader] for card in self._seen)

    def readers(self) -> tuple[str, ...]:
        """Readers whose card may be used."""
        if not self.takes_card:
            return ()
        return tuple(r for r in self._devices.picture.cards if self._wish.reader in ("", r))

    def keys(self) -> tuple[str, ...]:
        """Paths of the keys that may be used."""
        if not self.takes_key:
            return ()
        tried = [key.place.path for key in self._tried if self._devices.picture.keys.get(key.place.path) is key]
        return tuple(path for path in usable_keys(self._devices, self._wish) if path not in tried)

    def absence(self) -> DeviceError:
        """Why there is nothing to sign in with."""
        if not self.takes_key:
            absence = self._devices.absence()
            return NoDevice("No card was inserted in time.") if isinstance(absence, NoDevice) else absence
        if self._locked():
            return no_access()
        if self.takes_card and not isinstance(absence := self._devices.absence(), NoDevice):
            # Nothing came, and no card could have been noticed: the more useful of the two to hear.
            return type(absence)(f"No security key was plugged in in time. {absence.message}")
        what = "card was inserted and no security key plugged in" if self.takes_card else "security key was plugged in"
        return NoDevice(f"No {what} in time.", next_step="Start again with your card or key at hand.")

    async def _settled(self) -> None:
        if self.takes_key:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(SETTLE_SECONDS):
                    await self._devices.keys_settled.wait()

    async def _say_waiting(self) -> None:
        """pcscd may still come up, so that is waited for too; a refusal is final unless a key will do."""
        facts: dict[str, object] = {"rp": self._offer.name, "origin": self._offer.origin}
        problem = self._problem()
        if isinstance(problem, AccessDenied) and not self.takes_key:
            raise problem
        if problem is not None:
            facts["problem"] = problem.as_dict()
        taken = {"card": self.takes_card, "key": self.takes_key}
        accepts = [name for name, on in taken.items() if on]
        await self._interaction.progress("waiting-for-device", accepts=accepts, **facts)

    def _problem(self) -> DeviceError | None:
        if self.takes_key and self._locked():
            return no_access()
        absence = self._devices.absence() if self.takes_card else NoDevice()
        return None if isinstance(absence, NoDevice) else absence

    def _locked(self) -> bool:
        """Whether a key is there that this user may not open."""
        return any(not key.place.usable for key in self._devices.picture.keys.values())


def usable_keys(devices: Devices, wish: Wish) -> tuple[str, ...]:
    """Paths of the keys that are plugged in, may be opened, and are meant by `wish`."""
    if not wish.wants_key:
        return ()
    places = [key.place for key in devices.picture.keys.values()]
    return tuple(p.path for p in places if p.usable and wish.key in ("", p.serial, p.path))
