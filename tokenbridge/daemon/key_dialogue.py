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
from tokenbridge.daemon.key_pins import KeyPins, NewPin, name_of
from tokenbridge.daemon.prompts import StreamInteraction
from tokenbridge.errors import (
    AccessDenied,
    Cancelled,
    DeviceError,
    KeyPinMissing,
    KeyPinMustChange,
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
        self._pins = KeyPins(interaction, request)

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
        """The one key that is meant, claimed; of several that nobody uses, the one that is touched."""
        free = [key for key in keys if not key.claimed_by] or keys[:1]  # claiming one that is used tells by whom
        with ExitStack() as claims:
            for key in free:
                claims.enter_context(self._devices.claim(key, self._request.program))
            chosen = free[0] if len(free) == 1 else await self._touched(free)
            claims.close()  # nobody can come in between: nothing is waited for
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
        """What the key says about itself now. Raises `AccessDenied`."""
        if not key.place.usable:
            raise no_access()

        def work(session: KeySession) -> KeyFacts:
            session.forget()  # another program may have changed it
            return session.facts

        return await self._job(key, work)

    async def look(self, key: Key, plan: Plan) -> Look:
        """What the key says about itself, how `plan` verifies, and the tries that are left if that is by PIN."""

        def work(session: KeySession) -> Look:
            how = _planned(session, plan)
            tries = key_pin.tries(session) if how is Verification.PIN else None
            return Look(facts=session.facts, how=how, tries=tries)

        return await self._job(key, work)

    async def verified(self, key: Key, plan: Plan, work: PinWork[T]) -> T:
        """Run `work` on `key`, with the PIN if `plan` wants it. A wrong PIN or finger may be tried again by the person.

        A key that insists on a new PIN gets one on the way. No PIN is sent twice but by a person who typed it twice.
        Raises what `work` raises; `KeyPinPaused`, `KeyPinBlocked` before anybody is asked in vain; `KeyPinMustChange`.
        """
        try:
            return await self._verified(key, plan, work)
        except KeyPinMustChange:
            with await self.change_pin(key, NewPin.FORCED) as new:
                return await self._verified(key, plan, work, new)
        except (KeyPinMissing, KeyVerificationWanted):
            # Another program set its PIN, or reset it, since it was asked about itself; that is forgotten by now.
            return await self._verified(key, plan, work)

    async def _verified(self, key: Key, plan: Plan, work: PinWork[T], known: Secret | None = None) -> T:
        """`known` is a PIN that the person has just made: it need not be asked."""
        look = await self.look(key, plan)
        fingers = 0
        last: SecurityKeyError | None = None
        while True:
            pin = known or (await self._asked(key, look, last) if look.how is Verification.PIN else None)
            known = None
            try:
                with pin or contextlib.nullcontext():
                    return await self.touching(key, lambda session, pin=pin, how=look.how: work(session, how, pin))  # type: ignore[misc]
            except KeyPinWrong as err:
                last, look = err, replace(look, tries=await self._tries(key, err))
            except KeyUvFailed as err:
                last, fingers = err, fingers + 1
                if fingers >= MAX_FINGERS or isinstance(err, KeyUvBlocked):
                    if not look.facts.has_pin:
                        raise
                    look = replace(look, how=Verification.PIN, tries=await self._job(key, key_pin.tries))
            await self._pins.refused(last)

    async def _asked(self, key: Key, look: Look, last: SecurityKeyError | None) -> Secret:
        return await self._pins.ask(key, look.facts, look.tries or Tries(left=0), last)

    async def _tries(self, key: Key, err: KeyPinWrong) -> Tries:
        """What is left: a key that told so with its refusal is not asked again."""
        return Tries(left=err.tries_left) if err.tries_left is not None else await self._job(key, key_pin.tries)

    async def first_pin(self, key: Key, facts: KeyFacts) -> Secret:
        """Ask for the key's first PIN and set it; what the key refuses is asked again. The caller wipes it."""
        last: KeyPinUnfit | None = None
        while True:
            with ExitStack() as kept:
                new = kept.enter_context(await self._pins.ask_new(key, facts, NewPin.FIRST, last))
                try:
                    await self._job(key, lambda session, new=new: key_pin.set_first(session, new))  # type: ignore[misc]
                except KeyPinUnfit as err:
                    last = err
                else:
                    kept.pop_all()
                    return new
            await self._pins.refused(last)

    async def change_pin(self, key: Key, purpose: NewPin) -> Secret:
        """Ask for the PIN and for a new one, and change it. The new one, which the caller wipes.

        Raises as `verified` does; who declines a change that the key insists on gets `KeyPinMustChange`.
        """
        with ExitStack() as kept:
            try:
                new = await self._changed(key, purpose, kept)
            except Cancelled as err:
                if purpose is NewPin.FORCED and err.by == "user":
                    raise KeyPinMustChange() from err
                raise
            kept.pop_all()
            return new

    async def _changed(self, key: Key, purpose: NewPin, kept: ExitStack) -> Secret:
        """What was typed is wiped with `kept`. Whichever of the two PINs the key refuses is asked again."""
        new: Secret | None = None
        last: SecurityKeyError | None = None
        while True:
            look = await self.look(key, lambda _: Verification.PIN)
            if last is not None:
                await self._pins.refused(last)
            with await self._asked(key, look, last) as old:
                new = new or kept.enter_context(await self._pins.ask_new(key, look.facts, purpose))
                try:
                    await self._job(key, lambda session, old=old, new=new: key_pin.change(session, old, new))  # type: ignore[misc]
                    return new
                except KeyPinWrong as err:
                    last = err
                except KeyPinUnfit as err:
                    last, new = err, None

    async def touching(self, key: Key, work: Work[T], *, told: bool = False) -> T:
        """Run `work`, which may wait for a touch: says so after two seconds, unless the person has been told."""
        if told:
            return await self._job(key, work, TOUCH_SECONDS)
        async with self._hinting(key) as wanted:
            return await self._job(key, work, TOUCH_SECONDS, on_touch=wanted)

    @asynccontextmanager
    async def _hinting(self, key: Key) -> AsyncIterator[Callable[[], None]]:
        """Gives what a worker calls when the key wants to be touched, from its thread and however late."""
        loop = asyncio.get_running_loop()
        wanted = asyncio.Event()

        def touch_is_wanted() -> None:
            with contextlib.suppress(RuntimeError):  # the bridge has ended
                loop.call_soon_threadsafe(wanted.set)

        hint = asyncio.create_task(self._hint(key, wanted))
        try:
            yield touch_is_wanted
        finally:
            hint.cancel()
            await asyncio.gather(hint, return_exceptions=True)

    async def _hint(self, key: Key, wanted: asyncio.Event) -> None:
        await wanted.wait()
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
                await events.get()

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


def _planned(session: KeySession, plan: Plan) -> Verification:
    """As `plan` decides; before it refuses, the key is asked once more what it is: another program may have helped."""
    try:
        return plan(session.facts)
    except SecurityKeyError:
        session.forget()
        return plan(session.facts)


def no_access() -> AccessDenied:
    return AccessDenied(
        "There is a security key, but you may not open it.",
        next_step="Ask IT to run `sudo tokenbridge setup udev`, then plug the key in again.",
    )
