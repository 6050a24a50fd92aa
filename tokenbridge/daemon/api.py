"""The bridge's API on the per-user socket. Handlers parse, call and shape the answer; they decide nothing.

Requests are small JSON objects. Anything that asks a person answers with lines of JSON; questions in it carry an id,
and the answer is the raw body of `POST /v1/prompts/{id}`, so that a secret is not wrapped in other data. See
docs/bridge-api.md.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from tokenbridge import __version__
from tokenbridge.card import sign_in
from tokenbridge.card.sign_in import Terms
from tokenbridge.daemon import views
from tokenbridge.daemon.devices import Card
from tokenbridge.daemon.door_listener import DoorListener
from tokenbridge.daemon.hand_over import HandOver, HandOverSite, parse_link
from tokenbridge.daemon.key_api import SIGN_IN, KeyHandlers
from tokenbridge.daemon.pin_ceremony import PinCeremony, only_card
from tokenbridge.daemon.prompts import Emit, Pending, PinentryInteraction, StreamInteraction
from tokenbridge.daemon.requests import body_of, one_of, program, seconds, text
from tokenbridge.daemon.runner import Bridge, SignIn
from tokenbridge.daemon.settings import Settings
from tokenbridge.daemon.site import Site, Sites, origin_of
from tokenbridge.daemon.steps import ANSWERABLE, CARD, KEY, PASSWORD, Wish
from tokenbridge.daemon.streams import Streams
from tokenbridge.daemon.workstation import WorkstationNames
from tokenbridge.errors import (
    AccessDenied,
    BadRequest,
    DeviceBusy,
    NoDevice,
    NotAllowedNow,
    RequestRefused,
    TokenbridgeError,
)
from tokenbridge.interaction import Secret

MAX_SECRET: Final = 1024

STATUS: Final[dict[type[TokenbridgeError], int]] = {
    BadRequest: 400,
    AccessDenied: 403,
    NoDevice: 404,
    DeviceBusy: 409,
    NotAllowedNow: 409,
    RequestRefused: 400,
    TokenbridgeError: 500,
}
"""The nearest base class decides."""


@dataclass(slots=True, kw_only=True)
class Services:
    """What the handlers use; made in `app`."""

    settings: Settings
    bridge: Bridge
    sites: Sites
    stopping: asyncio.Event
    names: WorkstationNames | None = None
    door: DoorListener | None = None
    pending: Pending = field(default_factory=Pending)
    streams: Streams = field(default_factory=Streams)
    started: float = field(default_factory=time.monotonic)


def make_app(services: Services) -> Starlette:
    handlers = Handlers(services)
    routes = [
        Route("/v1/status", handlers.status, methods=["GET"]),
        Route("/v1/cards", handlers.cards, methods=["GET"]),
        Route("/v1/card", handlers.card, methods=["GET"]),
        Route("/v1/events", handlers.events, methods=["GET"]),
        Route("/v1/sign-in", handlers.sign_in, methods=["POST"]),
        Route("/v1/hand-over", handlers.hand_over, methods=["POST"]),
        Route("/v1/pin/change", handlers.pin_change, methods=["POST"]),
        Route("/v1/pin/unblock", handlers.pin_unblock, methods=["POST"]),
        Route("/v1/prompts/{question}", handlers.answer, methods=["POST"]),
        Route("/v1/prompts/{question}", handlers.decline, methods=["DELETE"]),
        Route("/v1/stop", handlers.stop, methods=["POST"]),
    ]
    routes += KeyHandlers(services.bridge, services.streams, handlers).routes()
    return Starlette(routes=routes, exception_handlers={TokenbridgeError: _refuse, Exception: _refuse})


async def _refuse(_: Request, error: Exception) -> Response:
    if not isinstance(error, TokenbridgeError):
        error = TokenbridgeError(detail=repr(error))
    status = next(STATUS[kind] for kind in type(error).__mro__ if kind in STATUS)
    return JSONResponse({"error": error.as_dict()}, status_code=status)


class Handlers:
    def __init__(self, services: Services) -> None:
        self._services = services
        self._devices = services.bridge.devices

    async def status(self, _: Request) -> Response:
        picture = self._devices.picture
        return JSONResponse(
            {
                "version": __version__,
                "pid": os.getpid(),
                "uptime_seconds": round(time.monotonic() - self._services.started, 3),
                "pcsc": picture.service,
                "readers": views.picture(picture),
                "keys": views.keys(picture),
                "key_watch": picture.key_watch,
                "door": {"state": "off"} if self._services.door is None else self._services.door.view,
            }
        )

    async def cards(self, _: Request) -> Response:
        """Every card, looked at as briefly as possible."""
        present = list(self._devices.picture.cards.values())
        absence = None if present else self._devices.absence().as_dict()
        return JSONResponse({"cards": await asyncio.gather(*map(self._brief, present)), "absence": absence})

    async def card(self, request: Request) -> Response:
        """Everything that one card shows without a PIN."""
        card = only_card(self._devices, request.query_params.get("reader", ""))
        snapshot = await self._devices.run(card, sign_in.survey)
        if (known := snapshot.known()) is not None and self._services.settings.remember_cards:
            self._services.bridge.known.put(known)
        return JSONResponse(views.card(snapshot, datetime.now(UTC)))

    async def events(self, _: Request) -> Response:
        async def follow(emit: Emit) -> Mapping[str, Any]:
            async with self._devices.events() as events:
                picture = self._devices.picture
                now = {"pcsc": picture.service, "readers": views.picture(picture), "keys": views.keys(picture)}
                await emit({"event": "now", **now})
                while True:
                    await emit(views.event(await events.get()))

        return self._services.streams.respond(follow)

    async def sign_in(self, request: Request) -> Response:
        body = await body_of(request, SIGN_IN)
        site = self.site(body)
        wish, wait = self.wish(body, site.origin, program(request)), self.wait(body)

        async def conduct(emit: Emit) -> Mapping[str, Any]:
            interaction = self.interaction(emit, body.get("pinentry"))
            verdict = await SignIn(self._services.bridge, site, interaction, wish, wait_seconds=wait).run()
            return {"outcome": dict(verdict.data)}

        return self._services.streams.respond(conduct)

    async def hand_over(self, request: Request) -> Response:
        """Do with a card what a page in the browser asks for."""
        body = await body_of(request, {"link", "ca", "reader", "pinentry", "wait_seconds"})
        link, ca = parse_link(text(body, "link")), text(body, "ca")
        site = HandOverSite(self._services.sites.client(Path(ca) if ca else None), link)
        wait, asked_by, reader = self.wait(body), program(request), text(body, "reader")
        if self._services.door is not None:
            await self._services.door.open()  # a link may have been the way because the port was taken: is it free now?

        async def conduct(emit: Emit) -> Mapping[str, Any]:
            hand_over = HandOver(
                bridge=self._services.bridge, site=site, interaction=self.interaction(emit, body.get("pinentry")),
                program=asked_by, wait_seconds=wait, reader=reader,
            )  # fmt: skip
            return {"outcome": await hand_over.run()}

        return self._services.streams.respond(conduct)

    async def pin_change(self, request: Request) -> Response:
        return await self._pin(request, lambda ceremony, reader: ceremony.change(reader))

    async def pin_unblock(self, request: Request) -> Response:
        return await self._pin(request, lambda ceremony, reader: ceremony.unblock(reader))

    async def answer(self, request: Request) -> Response:
        typed = Secret(bytearray())
        try:
            async for chunk in request.stream():
                typed.reveal().extend(chunk)
                if len(typed) > MAX_SECRET:
                    raise BadRequest("That is too long for an answer.")
        except (BadRequest, ClientDisconnect):
            typed.wipe()
            raise
        self._services.pending.answer(request.path_params["question"], typed)
        return Response(status_code=204)

    async def decline(self, request: Request) -> Response:
        self._services.pending.decline(request.path_params["question"])
        return Response(status_code=204)

    async def stop(self, _: Request) -> Response:
        self._services.stopping.set()
        return Response(status_code=204)

    async def _brief(self, card: Card) -> dict[str, Any]:
        terms = Terms(issuers=(), algorithms=(), now=datetime.now(UTC))
        memory = self._services.bridge.known.get
        try:
            snapshot = await self._devices.run(card, lambda link, cancel: sign_in.inspect(link, cancel, memory, terms))
        except TokenbridgeError as err:
            return views.unusable(card.reader, card.atr, err)
        return views.card(snapshot, terms.now)

    async def _pin(self, request: Request, act: Callable[[PinCeremony, str], Awaitable[Mapping[str, Any]]]) -> Response:
        body = await body_of(request, {"reader", "pinentry"})
        asked_by = program(request)

        async def conduct(emit: Emit) -> Mapping[str, Any]:
            interaction = self.interaction(emit, body.get("pinentry"))
            return await act(PinCeremony(self._devices, interaction, asked_by), text(body, "reader"))

        return self._services.streams.respond(conduct)

    def site(self, body: Mapping[str, Any]) -> Site:
        """The site that `url` and `ca` name. Raises `BadRequest`, `SetupError`."""
        ca = text(body, "ca")
        origin, names = origin_of(text(body, "url")), self._services.names
        device = names.at(origin) if names is not None else ""
        return Site(self._services.sites.client(Path(ca) if ca else None), origin, device)

    def wish(self, body: Mapping[str, Any], origin: str, asked_by: str) -> Wish:
        """How the caller wants to sign in."""
        return Wish(
            origin=origin,
            program=asked_by,
            method=one_of(body, "method", (CARD, KEY, PASSWORD)),
            reader=text(body, "reader"),
            key=text(body, "key"),
            username=text(body, "username"),
            fallback=one_of(body, "fallback", ANSWERABLE[1:]),
        )

    def wait(self, body: Mapping[str, Any]) -> float:
        """How long a device may be waited for, in seconds."""
        return seconds(body, self._services.settings.prompt_seconds)

    def interaction(self, emit: Emit, pinentry: Any) -> StreamInteraction:
        settings = self._services.settings
        stream = StreamInteraction(emit, self._services.pending, settings.prompt_seconds)
        if not isinstance(pinentry, dict):
            return stream
        where = {str(key): str(value) for key, value in pinentry.items()}
        return PinentryInteraction(stream, settings.pinentry, where)
