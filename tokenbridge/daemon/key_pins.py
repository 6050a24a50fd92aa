"""Asking a person for a security key's PIN, or for a new one: who asks, tries left, what can't be one asked again.

Nothing here talks to the key. What is returned is in Unicode's form C and may be sent; the caller wipes it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from enum import StrEnum, unique

from tokenbridge.daemon.devices import Key
from tokenbridge.daemon.prompts import StreamInteraction
from tokenbridge.errors import Cancelled, KeyPinBlocked, KeyPinPaused, KeyPinUnfit, SecurityKeyError
from tokenbridge.fido import pin as key_pin
from tokenbridge.fido.info import KeyFacts
from tokenbridge.fido.pin import Tries
from tokenbridge.interaction import PinRequest, Secret

MIN_LENGTH = 4
"""Characters of any key's PIN (CTAP 2.1 section 6.5.1)."""


@unique
class NewPin(StrEnum):
    """Why a new PIN is asked for: the key has none, the person wants another, the key insists (forcePINChange)."""

    FIRST = "first-pin"
    CHANGED = "new-pin"
    FORCED = "must-change-pin"


class KeyPins:
    """For one ceremony. `request` holds its purpose, site and program."""

    def __init__(self, interaction: StreamInteraction, request: PinRequest) -> None:
        self._interaction = interaction
        self._request = request

    async def ask(self, key: Key, facts: KeyFacts, tries: Tries, last: SecurityKeyError | None = None) -> Secret:
        """The key's PIN; its last try only with consent. Raises `KeyPinBlocked`, `KeyPinPaused`, `Cancelled`.

        `last` is the mistake that makes it be asked again: a person who declines after one hears of it.
        """
        if tries.left == 0:
            raise KeyPinBlocked()
        if tries.paused:
            raise KeyPinPaused()
        request = replace(
            self._request,
            key=name_of(key),
            tries_left=tries.left,
            min_length=MIN_LENGTH,
            max_length=facts.max_pin_length,
        )

        async def typed() -> Secret:
            if request.last_try:
                await self._interaction.confirm_last_try(request)
            return await self._interaction.ask_pin(request)

        return await self._until_it_fits(typed, lambda pin: key_pin.check(pin, facts), last)

    async def ask_new(self, key: Key, facts: KeyFacts, purpose: NewPin, last: SecurityKeyError | None = None) -> Secret:
        """A new PIN, typed twice on the caller's side. Raises `Cancelled`, or `last` as `ask` does."""
        asked = {
            "purpose": str(purpose),
            "key": name_of(key),
            "min_length": facts.min_pin_length,
            "max_length": facts.max_pin_length,
        }
        return await self._until_it_fits(
            lambda: self._interaction.ask_text("new-pin", asked), lambda pin: key_pin.check_new(pin, facts), last
        )

    async def refused(self, error: SecurityKeyError) -> None:
        """What was typed was not right, and is asked for again."""
        await self._interaction.progress("try-again", **error.as_dict())

    async def _until_it_fits(
        self,
        typed: Callable[[], Awaitable[Secret]],
        check: Callable[[Secret], None],
        last: SecurityKeyError | None,
    ) -> Secret:
        while True:
            try:
                return _fitting(await typed(), check)
            except KeyPinUnfit as err:
                last = err
            except Cancelled as err:
                if last is not None and err.by == "user":
                    raise last from err
                raise
            await self.refused(last)


def _fitting(typed: Secret, check: Callable[[Secret], None]) -> Secret:
    pin = key_pin.normalised(typed)
    try:
        check(pin)
    except KeyPinUnfit:
        pin.wipe()
        raise
    return pin


def name_of(key: Key) -> str:
    """The key as a person knows it."""
    name = key.place.name or "Security key"
    return f"{name} ({key.place.serial})" if key.place.serial else name
