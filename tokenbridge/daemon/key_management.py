"""Managing a security key with a person: what is on it, its PIN, credentials, fingerprints, settings, reset.

One token, got by one PIN, serves everything that one command does.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final, TypeVar

from tokenbridge.daemon import views
from tokenbridge.daemon.devices import Devices, Key
from tokenbridge.daemon.key_dialogue import KeyDialogue
from tokenbridge.daemon.key_pins import NewPin, name_of
from tokenbridge.daemon.prompts import StreamInteraction
from tokenbridge.errors import DeviceError, KeyUnsupported, NotAllowedNow, TokenbridgeError
from tokenbridge.fido import credentials, fingerprints, verification
from tokenbridge.fido import pin as key_pin
from tokenbridge.fido import settings as key_settings
from tokenbridge.fido.info import KeyFacts, Verification
from tokenbridge.fido.pin import Permission, Token
from tokenbridge.fido.session import KeySession
from tokenbridge.interaction import PinRequest, Secret

T = TypeVar("T")
FIND_SECONDS: Final = 30.0
REPLUG_SECONDS: Final = 60.0
FRESH_SECONDS: Final = 7.0
"""A key resets in its first ten seconds only (CTAP 2.1 section 6.6); less is left of them than it seems."""

Result = Mapping[str, Any]

_CANNOT: Final[Mapping[Permission, tuple[Callable[[KeyFacts], bool], str]]] = {
    Permission.BIO_ENROLLMENT: (lambda facts: facts.takes_fingerprints, "This security key has no fingerprint sensor."),
    Permission.CREDENTIAL_MANAGEMENT: (
        lambda facts: facts.lists_credentials,
        "This security key can't list what it keeps.",
    ),
}
"""What a key must be able to do for a permission to be of use, and what is said when it is not."""


class KeyManagement:
    """For one command on the key that `wanted` names (serial number or path), or the only one there is."""

    def __init__(self, devices: Devices, interaction: StreamInteraction, program: str, wanted: str = "") -> None:
        self._devices = devices
        self._interaction = interaction
        self._wanted = wanted
        self._dialogue = KeyDialogue(devices, interaction, PinRequest(purpose="manage-key", program=program))

    async def overview(self) -> Result:
        """Every key that is plugged in."""
        await self._devices.keys_settled.wait()
        return {"keys": await asyncio.gather(*(self._brief(key) for key in self._dialogue.present(self._wanted)))}

    async def info(self) -> Result:
        async with self._one() as key:
            facts = await self._dialogue.facts(key)
            tries = await self._dialogue.look(key, _by_pin) if facts.has_pin else None
        return views.key(key.place, facts, None if tries is None else tries.tries)

    async def set_pin(self) -> Result:
        async with self._one() as key:
            facts = await self._dialogue.facts(key)
            if facts.has_pin:
                raise NotAllowedNow(
                    "The security key has a PIN already.", next_step="Use `tokenbridge key pin change`."
                )
            key_pin.protocol_of(facts)  # refuses keys that take none, before anybody types
            with await self._dialogue.first_pin(key, facts):
                pass
        return {"changed": True, "key": name_of(key)}

    async def change_pin(self) -> Result:
        async with self._one() as key:
            facts = await self._dialogue.facts(key)
            if not facts.has_pin:
                raise NotAllowedNow("The security key has no PIN yet.", next_step="Use `tokenbridge key pin set`.")
            with await self._dialogue.change_pin(key, NewPin.CHANGED):
                pass
        return {"changed": True, "key": name_of(key)}

    async def list_credentials(self) -> Result:
        async with self._one() as key:
            found = await self._with_token(key, Permission.CREDENTIAL_MANAGEMENT, credentials.stored)
        return {"key": name_of(key), **views.credentials(found)}

    async def delete_credential(self, prefix: str, *, sure: bool) -> Result:
        async with self._one() as key:
            with _TokenCase() as case:
                found = await self._with_token(key, Permission.CREDENTIAL_MANAGEMENT, credentials.stored, case)
                chosen = credentials.matching(found, prefix)
                if not sure:
                    what = f"Delete the credential of {chosen.account or 'an account'} at {chosen.rp_id}?"
                    await self._interaction.confirm(what, "It can't be undone.")
                await self._dialogue.touching(key, lambda session: credentials.delete(session, case.token, chosen.id))
        return {"key": name_of(key), "deleted": views.credential(chosen)}

    async def list_fingerprints(self) -> Result:
        async with self._one() as key:
            found = await self._with_token(key, Permission.BIO_ENROLLMENT, fingerprints.enrolled)
        return {"key": name_of(key), "fingerprints": [views.finger(finger) for finger in found]}

    async def add_fingerprint(self, name: str) -> Result:
        loop = asyncio.get_running_loop()

        def say(step: str, **facts: object) -> None:
            asyncio.run_coroutine_threadsafe(self._interaction.progress(step, **facts), loop)

        def tell(remaining: int, problem: str) -> None:
            say("fingerprint-sample", remaining=remaining, problem=problem)

        def work(session: KeySession, token: Token) -> fingerprints.Finger:
            say("fingerprint", key=name_of(key))
            return fingerprints.add(session, token, name, tell)

        async with self._one() as key:
            added = await self._with_token(key, Permission.BIO_ENROLLMENT, work)
        return {"key": name_of(key), "added": views.finger(added)}

    async def delete_fingerprint(self, wanted: str) -> Result:
        def work(session: KeySession, token: Token) -> fingerprints.Finger:
            chosen = fingerprints.matching(fingerprints.enrolled(session, token), wanted)
            fingerprints.delete(session, token, chosen.id)
            return chosen

        async with self._one() as key:
            deleted = await self._with_token(key, Permission.BIO_ENROLLMENT, work)
        return {"key": name_of(key), "deleted": views.finger(deleted)}

    async def configure(self, *, always_verify: bool | None, min_pin_length: int | None, force_new_pin: bool) -> Result:
        def work(session: KeySession, token: Token | None) -> None:
            if always_verify is not None:
                key_settings.set_always_verify(session, token, on=always_verify)
            # Last: when it makes the PIN too short, the token is void (section 6.11.4).
            if min_pin_length is not None or force_new_pin:
                key_settings.set_min_pin_length(session, token, min_pin_length, force=force_new_pin)

        async with self._one() as key:
            facts = await self._dialogue.facts(key)
            if facts.can_verify:
                await self._with_token(key, Permission.CONFIGURATION, work)
            else:
                await self._dialogue.touching(key, lambda session: work(session, None))
            changed = await self._dialogue.facts(key)
        return {"key": name_of(key), **views.key_facts(changed)}

    async def reset(self, *, sure: bool) -> Result:
        """Erase the key. A key only does so right after it was plugged in, so that is asked for."""
        async with self._one() as key:
            if not sure:
                what = f"Erase {name_of(key)}: every credential, the PIN and fingerprints?"
                await self._interaction.confirm(what, "You will no longer be able to sign in with it anywhere.")
        if time.monotonic() - key.plugged_at > FRESH_SECONDS:
            key = await self._replugged(key)
        async with self._dialogue.one_of([key]):
            await self._interaction.progress("touch-to-reset", key=name_of(key))
            await self._dialogue.touching(key, key_settings.reset, told=True)
        return {"reset": True, "key": name_of(key)}

    async def _replugged(self, key: Key) -> Key:
        """The same key, plugged in again. Raises `DeviceError` if it is another one."""
        others = [other for other in self._dialogue.present() if other is not key]
        await self._interaction.progress("replug-key", key=name_of(key))
        try:
            async with asyncio.timeout(REPLUG_SECONDS):
                await self._dialogue.removed(key)
        except TimeoutError:
            raise DeviceError("The security key was not taken out in time. Nothing was erased.") from None
        again = await self._dialogue.plugged_in(REPLUG_SECONDS, [key, *others])
        if _identity(again) != _identity(key):
            raise DeviceError("That is another security key. Nothing was erased.", next_step="Start again.")
        return again

    @asynccontextmanager
    async def _one(self) -> AsyncIterator[Key]:
        """The key that is meant, claimed: waits a moment for one, and refuses to guess among several."""
        keys = await self._dialogue.wait(self._wanted, seconds=FIND_SECONDS)
        if len(keys) > 1:
            raise DeviceError(f"There are {len(keys)} security keys.", next_step=f"Name one: {_names(keys)}.")
        async with self._dialogue.one_of(keys) as key:
            yield key

    async def _brief(self, key: Key) -> Result:
        try:
            return views.key(key.place, await self._dialogue.facts(key), None, used_by=key.claimed_by)
        except TokenbridgeError as err:
            return views.unusable_key(key.place, err)

    async def _with_token(
        self,
        key: Key,
        permission: Permission,
        work: Callable[[KeySession, Token], T],
        case: _TokenCase | None = None,
    ) -> T:
        """What `work` returns; `case` keeps the token for what follows a question, else it is wiped at once."""

        def verified(session: KeySession, how: Verification, pin: Secret | None) -> T:
            token = _exchange(session, how, pin, permission)
            if case is not None:
                case.put(token)
            try:
                return work(session, token)
            finally:
                if case is None:
                    token.wipe()

        def plan(facts: KeyFacts) -> Verification:
            if (missing := _CANNOT.get(permission)) is not None and not missing[0](facts):
                raise KeyUnsupported(missing[1])  # before anybody types a PIN for nothing
            return verification.to_manage(facts)

        return await self._dialogue.verified(key, plan, verified)


class _TokenCase:
    """Holds a token between a key's worker and the dialogue, and wipes it whichever of the two is done first."""

    def __init__(self) -> None:
        self._token: Token | None = None
        self._closed = False

    def put(self, token: Token) -> None:
        """From the worker's thread: the dialogue may have been cancelled meanwhile."""
        self._wipe()
        self._token = token
        if self._closed:
            self._wipe()

    @property
    def token(self) -> Token:
        if self._token is None:
            raise TokenbridgeError(detail="no token was got")
        return self._token

    def __enter__(self) -> _TokenCase:
        return self

    def __exit__(self, *_: object) -> None:
        self._closed = True
        self._wipe()

    def _wipe(self) -> None:
        if self._token is not None:
            self._token.wipe()


def _names(keys: Sequence[Key]) -> str:
    return " or ".join(f"--key {key.place.serial or key.place.path}" for key in keys)


def _by_pin(facts: KeyFacts) -> Verification:  # noqa: ARG001  a plan is asked with the facts
    return Verification.PIN


def _exchange(session: KeySession, how: Verification, pin: Secret | None, permission: Permission) -> Token:
    if how is Verification.BUILT_IN:
        return key_pin.built_in_token(session, permission)
    if pin is None:
        raise TokenbridgeError(detail="no PIN was asked")
    return key_pin.token(session, pin, permission)


def _identity(key: Key) -> tuple[str, str, int, int]:
    place = key.place
    return place.name, place.serial, place.vendor, place.product
