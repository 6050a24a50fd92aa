"""Registering a security key at a site: sign in or give an enrolment code, then key, first PIN, touch, name."""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from tokenbridge.daemon.account_site import AccountSite, Registration
from tokenbridge.daemon.devices import Devices, Key
from tokenbridge.daemon.key_dialogue import KeyDialogue
from tokenbridge.daemon.prompts import StreamInteraction
from tokenbridge.errors import Cancelled, TokenbridgeError
from tokenbridge.fido import register, verification
from tokenbridge.fido.info import KeyFacts, Verification
from tokenbridge.fido.register import Made
from tokenbridge.fido.request import CreationRequest, Need, creation_request
from tokenbridge.interaction import PinRequest, Secret

SignIn = Callable[[], Awaitable[Secret]]
"""Signs the person in and returns the session's token. Raises `TokenbridgeError`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RegistrationWish:
    """`username` and an enrolment code if `by_code`, else a sign-in; `key` is a serial number or a path."""

    program: str
    by_code: bool = False
    username: str = ""
    key: str = ""
    name: str = ""
    wait_seconds: float


class KeyRegistration:
    """One registration; use once."""

    def __init__(
        self, devices: Devices, site: AccountSite, interaction: StreamInteraction, wish: RegistrationWish
    ) -> None:
        self._devices = devices
        self._site = site
        self._interaction = interaction
        self._wish = wish

    async def run(self, sign_in: SignIn) -> Mapping[str, Any]:
        """What the site answers at the end. Raises `TokenbridgeError`; the site then forgets what was begun."""
        if self._wish.by_code:
            return await self._register(await self._begin_by_code())
        with await sign_in() as token:
            try:
                return await self._register(await self._site.begin_registration(token))
            finally:
                await self._site.sign_out(token)

    async def _begin_by_code(self) -> Registration:
        facts = {"origin": self._site.origin}
        username = self._wish.username
        if not username:
            with await self._interaction.ask_text("username", facts) as typed:
                username = typed.reveal().decode("utf-8", "replace")
        with await self._interaction.ask_text("enrolment-code", {**facts, "username": username}) as code:
            return await self._site.begin_registration_by_code(username, code)

    async def _register(self, begun: Registration) -> Mapping[str, Any]:
        done = False
        try:
            request = creation_request(begun.options, self._site.origin)
            await self._interaction.progress("registering", rp=begun.rp_name, account=begun.account)
            made = await self._make(request, begun)
            answer = await self._site.complete_registration(begun.id, made.response, self._wish.name)
            done = True
            return {"registered": dict(answer)}
        finally:
            if not done:
                with contextlib.suppress(TokenbridgeError):  # it expires by itself
                    await self._site.cancel_registration(begun.id)

    async def _make(self, request: CreationRequest, begun: Registration) -> Made:
        asks = PinRequest(
            purpose="register", rp_name=begun.rp_name, origin=self._site.origin, program=self._wish.program
        )
        dialogue = KeyDialogue(self._devices, self._interaction, asks)
        keys = await dialogue.wait(self._wish.key, seconds=self._wish.wait_seconds)
        async with dialogue.one_of(keys) as key:
            facts = await dialogue.facts(key)
            made = None
            if not facts.can_verify and facts.takes_pin and request.verification is not Need.DISCOURAGED:
                made = await self._with_first_pin(dialogue, key, facts, request)
            if made is not None:
                return made
            return await dialogue.verified(
                key,
                lambda facts: verification.to_register(facts, request.verification),
                lambda session, how, pin: register.create(session, request, how, pin),
            )

    async def _with_first_pin(
        self, dialogue: KeyDialogue, key: Key, facts: KeyFacts, request: CreationRequest
    ) -> Made | None:
        """Set the key's first PIN and go on with it. None: the person wants none, and the site does not insist."""
        try:
            new = await dialogue.first_pin(key, facts)
        except Cancelled as err:
            if err.by != "user" or request.verification is Need.REQUIRED:
                raise
            return None
        with new:
            return await dialogue.touching(
                key, lambda session: register.create(session, request, Verification.PIN, new)
            )
