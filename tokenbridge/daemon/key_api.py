"""The part of the bridge's API that is about security keys and a person's account at a site."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Set
from typing import Any, Final, Protocol

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from tokenbridge.daemon.account import Account
from tokenbridge.daemon.account_site import AccountSite, session_token
from tokenbridge.daemon.key_management import KeyManagement
from tokenbridge.daemon.key_registration import KeyRegistration, RegistrationWish
from tokenbridge.daemon.prompts import Emit, StreamInteraction
from tokenbridge.daemon.requests import body_of, flag, number, program, text
from tokenbridge.daemon.runner import Bridge, SignIn
from tokenbridge.daemon.site import MAX_TEXT, Site
from tokenbridge.daemon.steps import Wish
from tokenbridge.daemon.streams import Streams
from tokenbridge.errors import NotAllowedNow
from tokenbridge.interaction import Secret

SIGN_IN: Final = frozenset({"url", "ca", "method", "reader", "key", "username", "fallback", "pinentry", "wait_seconds"})
MAX_KEY_ID: Final = (1 << 63) - 1
LONGEST_PIN: Final = 63

Act = Callable[[KeyManagement, Mapping[str, Any]], Awaitable[Mapping[str, Any]]]


class Desk(Protocol):
    """What the rest of the API lends: who is asked, and where."""

    def interaction(self, emit: Emit, pinentry: Any) -> StreamInteraction: ...

    def site(self, body: Mapping[str, Any]) -> Site: ...

    def wish(self, body: Mapping[str, Any], origin: str, asked_by: str) -> Wish: ...

    def wait(self, body: Mapping[str, Any]) -> float: ...


class KeyHandlers:
    def __init__(self, bridge: Bridge, streams: Streams, desk: Desk) -> None:
        self._bridge = bridge
        self._streams = streams
        self._desk = desk

    def routes(self) -> list[Route]:
        acts: dict[str, tuple[Act, Set[str]]] = {
            "info": (lambda keys, _: keys.info(), frozenset()),
            "pin/set": (lambda keys, _: keys.set_pin(), frozenset()),
            "pin/change": (lambda keys, _: keys.change_pin(), frozenset()),
            "credentials/list": (lambda keys, _: keys.list_credentials(), frozenset()),
            "credentials/delete": (
                lambda keys, body: keys.delete_credential(text(body, "id"), sure=flag(body, "sure")),
                frozenset({"id", "sure"}),
            ),
            "fingerprints/list": (lambda keys, _: keys.list_fingerprints(), frozenset()),
            "fingerprints/add": (lambda keys, body: keys.add_fingerprint(text(body, "name")), frozenset({"name"})),
            "fingerprints/delete": (
                lambda keys, body: keys.delete_fingerprint(text(body, "finger")),
                frozenset({"finger"}),
            ),
            "config": (_configure, frozenset({"always_verify", "min_pin_length", "force_new_pin"})),
            "reset": (lambda keys, body: keys.reset(sure=flag(body, "sure")), frozenset({"sure"})),
        }
        managing = [Route(f"/v1/key/{name}", self._manage(*act), methods=["POST"]) for name, act in acts.items()]
        return [
            Route("/v1/keys", self.keys, methods=["GET"]),
            *managing,
            Route("/v1/register", self.register, methods=["POST"]),
            Route("/v1/account/{action}", self.account, methods=["POST"]),
        ]

    async def keys(self, request: Request) -> Response:
        """Every key that is plugged in, and what it says about itself."""
        keys = KeyManagement(self._bridge.devices, self._desk.interaction(_nobody, None), program(request))
        return JSONResponse(await keys.overview())

    def _manage(self, act: Act, members: Set[str]) -> Callable[[Request], Awaitable[Response]]:
        async def handle(request: Request) -> Response:
            body = await body_of(request, {"key", "pinentry", *members})
            asked_by = program(request)

            async def conduct(emit: Emit) -> Mapping[str, Any]:
                interaction = self._desk.interaction(emit, body.get("pinentry"))
                return await act(KeyManagement(self._bridge.devices, interaction, asked_by, text(body, "key")), body)

            return self._streams.respond(conduct)

        return handle

    async def register(self, request: Request) -> Response:
        """Register a key at a site: with an enrolment code, else after a sign-in by whatever the person has."""
        body = await body_of(request, SIGN_IN | {"by_code", "name", "new_key"})
        site, asked_by = self._desk.site(body), program(request)
        wish = RegistrationWish(
            program=asked_by,
            by_code=flag(body, "by_code"),
            username=text(body, "username"),
            key=text(body, "new_key"),
            name=text(body, "name"),
            wait_seconds=self._desk.wait(body),
        )

        async def conduct(emit: Emit) -> Mapping[str, Any]:
            interaction = self._desk.interaction(emit, body.get("pinentry"))
            registration = KeyRegistration(self._bridge.devices, AccountSite(site), interaction, wish)
            return await registration.run(lambda: self._signed_in(interaction, site, body, asked_by))

        return self._streams.respond(conduct)

    async def account(self, request: Request) -> Response:
        """Something in the person's own account, after a sign-in."""
        body = await body_of(request, SIGN_IN | {"id", "name", "confirm_last"})
        site, asked_by = self._desk.site(body), program(request)
        action = request.path_params["action"]
        key = number(body, "id", least=0, most=MAX_KEY_ID)
        account = Account(AccountSite(site), action, key=key, name=text(body, "name"), sure=flag(body, "confirm_last"))

        async def conduct(emit: Emit) -> Mapping[str, Any]:
            interaction = self._desk.interaction(emit, body.get("pinentry"))
            return await account.run(lambda: self._signed_in(interaction, site, body, asked_by))

        return self._streams.respond(conduct)

    async def _signed_in(
        self, interaction: StreamInteraction, site: Site, body: Mapping[str, Any], asked_by: str
    ) -> Secret:
        """The token of a new session. Raises `NotAllowedNow` when the site does not let the person in."""
        await interaction.progress("sign-in-first", origin=site.origin)
        wish = self._desk.wish(body, site.origin, asked_by)
        verdict = await SignIn(self._bridge, site, interaction, wish, wait_seconds=self._desk.wait(body)).run()
        if verdict.decision != "allow":
            raise NotAllowedNow(
                "You were not signed in, so nothing was changed.",
                next_step=str(verdict.data.get("sentence", ""))[:MAX_TEXT] or None,
            )
        return session_token(verdict.data)


async def _configure(keys: KeyManagement, body: Mapping[str, Any]) -> Mapping[str, Any]:
    return await keys.configure(
        always_verify=flag(body, "always_verify") if "always_verify" in body else None,
        min_pin_length=number(body, "min_pin_length", least=4, most=LONGEST_PIN),
        force_new_pin=flag(body, "force_new_pin"),
    )


async def _nobody(_: Mapping[str, Any]) -> None:
    """For requests that ask nobody anything."""
