"""What every dialogue with a security key has in common: which key, its PIN, its touch. It decides nothing about sites.

No key is kept busy while a person types: between two jobs its worker is idle.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from typing import Final, TypeVar

from tokenbridge.daemon.devices import Devices, Key
from tokenbridge.daemon.prompts import StreamInteraction
from tokenbridge.errors import (
    AccessDenied,
    Cancelled,
    DeviceError,
    KeyPinBlocked,
    KeyPinMissing,
    KeyPinPaused,
    KeyPinUnfit,
    KeyPinWrong,
    KeyUvBlocked,
    KeyUvFailed,
    KeyVerificationWanted,
    NoDevice,
    SecurityKeyError,
)
from tokenbridge.fido import pin as key_pin
from tokenbridge.fido import settings as key_settings
from tokenbridge.fido.info import KeyFacts, Verification
from tokenbridge.fido.pin import Tries
from tokenbridge.fido.session import KeySession
from tokenbridge.interaction import PinRequest, Secret
from tokenbridge.transport.base import EventKind
from tokenbridge.transport.worker import Cancel

T = TypeVar("T")
TOUCH_HINT_SECONDS: Final = 2.0
"""Most people touch a blinking key unasked; who does not is told after this time."""
TOUCH_SECONDS: Final = 90.0
"""For one command that waits for a touch; keys give up after 30 seconds or so by themselves."""
MAX_FINGERS: Final = 3
"""Fingers that are tried before the PIN is asked instead."""

Work = Callable[[KeySession], T]
PinWork = Callable[[KeySession, Verification, Secret | None], T]
Plan = Callable[[KeyFacts], Verification]


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """A key as it was found: what it says about itself, and how it will be verified."""

    facts: KeyFacts
    how: Verification
    tries: Tries | None = None


class KeyDialogue:
    """For one ceremony. `purpose` and the rest of `request` are what a person sees when a PIN is asked."""

    def __init__(self, devices: Devices, interaction: StreamInteraction, request: PinRequest) -> None:
        self._devices = devices
        self._interaction = interaction
        self._request = request

    def present(self, wanted: str = "") -> list[Key]:
        """The keys that are plugged in and may be used; `wanted` is a serial number or a path."""
        return [key for key in self._devices.picture.keys.values() if wanted in ("", key.place.serial, key.place.path)]

    async def wait(self, wanted: str = "", *, seconds: float) -> list[Key]:
        """As `present`, once there is one that may be opened. Raises `NoDevice`, `AccessDenied` after `seconds`."""
        try:
            async with asyncio.timeout(seconds), self._devices.events() as events:
                await self._devices.keys_settled.wait()
                told = False
                while not (usable := [key for key in self.present(wanted) if key.place.usable]):
                    if not told:
                        told = True
                        await self._interaction.progress("waiting-for-key", **self._absence(wanted))
                    await events.get()
        except TimeoutError:
            raise self._absent(wanted) from None
        return usable

    def _absence(self, wanted: str) -> dict[str, object]:
        absent = self._absent(wanted)
        return {"problem": absent.as_dict()} if isinstance(absent, AccessDenied) else {}

    def _absent(self, wanted: str) -> DeviceError:
        if any(not key.place.usable for key in self.present(wanted)):
            return no_access()
        named = f" {wanted!r}" if wanted else ""
        return NoDevice(f"No security key{named} was found.", next_step="Plug your security key in.")

    @asynccontextmanager
    async def one_of(self, keys: Sequence[Key]) -> AsyncIterator[Key]:
        """The one key that is meant, claimed; of several, the one that is touched."""
        with ExitStack() as claims:
            if len(keys) == 1:
                claims.enter_context(self._devices.claim(keys[0], self._request.program))
                yield keys[0]
                return
            with ExitStack() as meanwhile:
                for key in keys:
                    meanwhile.enter_context(self._devices.claim(key, self._request.program))
                chosen = await self._touched(keys)
            claims.enter_context(self._devices.claim(chosen, self._request.program))
            yield chosen

    async def _touched(self, keys: Sequence[Key]) -> Key:
        """All keys blink; the first one that is touched is meant, and the others are told to stop."""
        await self._interaction.progress("touch-to-choose", keys=[name_of(key) for key in keys])
        tasks = {asyncio.create_task(self._job(key, key_settings.select, TOUCH_SECONDS)): key for key in keys}
        errors: list[BaseException] = []
        try:
            waiting = set(tasks)
            while waiting:
                done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    if (error := task.exception()) is None:
                        return tasks[task]
                    errors.append(error)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        raise errors[-1]

    async def facts(self, key: Key) -> KeyFacts:
        if not key.place.usable:
            raise no_access()
        return await self._job(key, lambda session: session.facts)

    async def look(self, key: Key, plan: Plan) -> Look:
        """What the key says about itself, how `plan` verifies, and the tries that are left if that is by PIN."""

        def work(session: KeySession) -> Look:
            how = plan(session.facts)
            tries = key_pin.tries(session) if how is Verification.PIN else None
            return Look(facts=session.facts, how=how, tries=tries)

        return await self._job(key, work)

    async def verified(self, key: Key, plan: Plan, work: PinWork[T]) -> T:
        """Run `work` on `key`, with the PIN if `plan` wants it. A wrong PIN or finger may be tried again by the person.

        Raises what `work` raises; `KeyPinPaused`, `KeyPinBlocked` before anybody is asked in vain.
        """
        try:
            return await self._verified(key, plan, work)
        except (KeyPinMissing, KeyVerificationWanted):
            # Another program set its PIN, or reset it, since it was asked about itself; that is forgotten by now.
            return await self._verified(key, plan, work)

    async def _verified(self, key: Key, plan: Plan, work: PinWork[T]) -> T:
        look = await self.look(key, plan)
        how, fingers = look.how, 0
        last: SecurityKeyError | None = None
        while True:
            pin = await self._ask(key, look, last) if how is Verification.PIN else None
            try:
                with pin or contextlib.nullcontext():
                    return await self.touching(key, lambda session, pin=pin, how=how: work(session, how, pin))  # type: ignore[misc]
            except (KeyPinWrong, KeyPinUnfit) as err:
                last = err
                look = replace(look, tries=await self._tries(key, err))
            except KeyUvFailed as err:
                last, fingers = err, fingers + 1
                if fingers >= MAX_FINGERS or isinstance(err, KeyUvBlocked):
                    if not look.facts.has_pin:
                        raise
                    how = Verification.PIN
                    look = replace(look, tries=await self._job(key, key_pin.tries))
            await self._interaction.progress("try-again", **last.as_dict())

    async def _tries(self, key: Key, err: KeyPinWrong | KeyPinUnfit) -> Tries:
        """What is left: a key that told so with its refusal is not asked again."""
        if isinstance(err, KeyPinWrong) and err.tries_left is not None:
            return Tries(left=err.tries_left)
        return await self._job(key, key_pin.tries)

    async def _ask(self, key: Key, look: Look, last: SecurityKeyError | None) -> Secret:
        """The PIN. A person who declines after a mistake hears of the mistake."""
        tries = look.tries or Tries(left=0)
        if tries.left == 0:
            raise KeyPinBlocked()
        if tries.paused:
            raise KeyPinPaused()
        request = replace(
            self._request,
            key=name_of(key),
            tries_left=tries.left,
            min_length=4,
            max_length=look.facts.max_pin_length,
        )
        try:
            if request.last_try:
                await self._interaction.confirm_last_try(request)
            return key_pin.normalised(await self._interaction.ask_pin(request))
        except Cancelled as err:
            if last is not None and err.by == "user":
                raise last from err
            raise

    async def new_pin(self, key: Key, facts: KeyFacts, *, first: bool) -> Secret:
        """A new PIN, typed twice on the caller's side; checked before it goes anywhere."""
        asked = {
            "purpose": "first-pin" if first else "new-pin",
            "key": name_of(key),
            "min_length": facts.min_pin_length,
            "max_length": facts.max_pin_length,
        }
        new = key_pin.normalised(await self._interaction.ask_text("new-pin", asked))
        try:
            key_pin.check_new(new, facts)
        except KeyPinUnfit:
            new.wipe()
            raise
        return new

    async def touching(self, key: Key, work: Work[T]) -> T:
        """Run `work`, which may wait for a touch: says so after two seconds."""
        loop = asyncio.get_running_loop()
        hint: asyncio.Task[None] | None = None

        def begin() -> None:
            nonlocal hint
            if hint is None:
                hint = asyncio.create_task(self._hint(key))

        def tell() -> None:
            loop.call_soon_threadsafe(begin)

        try:
            return await self._job(key, work, TOUCH_SECONDS, on_touch=tell)
        finally:
            if hint is not None:
                hint.cancel()

    async def _hint(self, key: Key) -> None:
        await asyncio.sleep(TOUCH_HINT_SECONDS)
        await self._interaction.progress("touch-key", key=name_of(key))

    async def _job(
        self,
        key: Key,
        work: Work[T],
        seconds: float | None = None,
        on_touch: Callable[[], None] = lambda: None,
    ) -> T:
        def job(session: KeySession, cancel: Cancel) -> T:
            with session.during(cancel, on_touch):
                return work(session)

        return await self._devices.run_on_key(key, job, seconds=seconds)

    async def removed(self, key: Key) -> None:
        """Returns when `key` is no longer plugged in."""
        async with self._devices.events() as events:
            while self._devices.picture.keys.get(key.place.path) is key:
                if (await events.get()).kind is EventKind.KEY_REMOVED:
                    continue

    async def plugged_in(self, seconds: float, known: Sequence[Key] = ()) -> Key:
        """The next key that is plugged in anew and may be opened. Raises `NoDevice` when none is in time."""
        try:
            async with asyncio.timeout(seconds), self._devices.events() as events:
                while True:
                    fresh = [key for key in self.present() if key not in known and key.place.usable]
                    if fresh:
                        return fresh[0]
                    await events.get()
        except TimeoutError:
            raise NoDevice("No security key was plugged in in time.", next_step="Start again.") from None


def name_of(key: Key) -> str:
    """The key as a person knows it."""
    name = key.place.name or "Security key"
    return f"{name} ({key.place.serial})" if key.place.serial else name


def no_access() -> AccessDenied:
    return AccessDenied(
        "There is a security key, but you may not open it.",
        next_step="Ask IT to run `sudo tokenbridge setup udev`, then plug the key in again.",
    )
