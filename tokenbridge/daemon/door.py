"""The loopback door: a page of an allowed site hands its sign-in over by itself, without a link that starts a program.

    page of an allowed origin                         bridge
      | POST http://127.0.0.1:PORT/hand-over {link} -> |  Origin, Host, media type, the link's site; then as for a link:
      | <- headers, at once: it has begun              |  the person agrees, card, PIN
      | <- {"event": "done", "continue": ADDRESS}      |
      | opens ADDRESS, which counts in this browser    |

Whatever does not come from an allowed origin gets the same empty 403, whether the path exists or not, a card is there
or not. An allowed page hears no more than whether it worked: it is not told about cards, readers or people.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, Final

from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.types import Receive, Scope, Send

from tokenbridge.daemon.hand_over import MAX_LINK, HandOver, HandOverSite, Link, parse_link
from tokenbridge.daemon.prompts import Emit, Pending, StreamInteraction, WindowInteraction
from tokenbridge.daemon.requests import body_of, text
from tokenbridge.daemon.runner import Bridge
from tokenbridge.daemon.settings import Settings
from tokenbridge.daemon.site import Sites
from tokenbridge.daemon.streams import Streams
from tokenbridge.errors import (
    BadRequest,
    Cancelled,
    DeviceBusy,
    NotAllowedNow,
    OriginRefused,
    RequestRefused,
    TimedOut,
    TokenbridgeError,
)
from tokenbridge.log import get

LOOPBACK: Final = "127.0.0.1"
PATH: Final = "/hand-over"
MAX_BODY: Final = 2 * MAX_LINK
BODY_SECONDS: Final = 5.0
CEREMONY_SECONDS: Final = 300.0
"""As long as the site keeps a hand-over; the person's time is in it."""
PROGRAM: Final = "your browser"
STATUS: Final[dict[type[TokenbridgeError], int]] = {OriginRefused: 403, DeviceBusy: 409, TimedOut: 408}
"""Anything else that is refused before it began: 400."""
ALWAYS: Final = {"cache-control": "no-store", "connection": "close", "vary": "Origin"}
"""One request a connection: so that no connection waits for a second one."""

_log = get("door")


class Door:
    """The ASGI application behind the port."""

    def __init__(self, *, bridge: Bridge, sites: Sites, streams: Streams, settings: Settings) -> None:
        self._bridge = bridge
        self._sites = sites
        self._streams = streams
        self._settings = settings
        self._origins = frozenset(settings.door_origins)
        self._host = f"{LOOPBACK}:{settings.door_port}"
        self._busy = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        request = Request(scope, receive)
        origin = self._allowed_origin(request)
        if origin is None or request.method not in {"OPTIONS", "POST"}:
            await Response(status_code=403, headers=ALWAYS)(scope, receive, send)
        elif request.method == "OPTIONS":
            await _preflight(request, origin)(scope, receive, send)
        else:
            await self._post(request, origin, send)

    def _allowed_origin(self, request: Request) -> str | None:
        """Who asks, if it may. `Host` tells a page whose own name leads here (DNS rebinding): it must be ours."""
        origins, hosts = request.headers.getlist("origin"), request.headers.getlist("host")
        if hosts != [self._host] or len(origins) != 1 or request.scope["raw_path"] != PATH.encode():
            return None
        return origins[0] if origins[0] in self._origins else None

    async def _post(self, request: Request, origin: str, send: Send) -> None:
        try:
            link = await _link(request, origin)
            if self._busy:
                raise DeviceBusy("tokenbridge is busy with another sign-in.")
        except ClientDisconnect:
            return
        except (RequestRefused, DeviceBusy, TimedOut) as err:
            await _refusal(err, origin)(request.scope, request.receive, send)
            return
        self._busy = True
        try:
            await self._answer(link, origin)(request.scope, request.receive, send)
        finally:
            self._busy = False

    def _answer(self, link: Link, origin: str) -> Response:
        """Its headers say that it has begun. It ends with the ceremony, and the ceremony with the connection."""

        async def conduct(_: Emit) -> Mapping[str, Any]:
            try:
                async with asyncio.timeout(CEREMONY_SECONDS):
                    return {"continue": (await self._hand_over(link).run())["continue"]}
            except Cancelled:
                raise
            except (TokenbridgeError, TimeoutError) as err:
                _log.info("hand-over from %s: %r", origin, err)
                raise NotAllowedNow("tokenbridge did not sign you in.") from None

        answer = self._streams.respond(conduct)
        answer.headers.update(_headers(origin))
        return answer

    def _hand_over(self, link: Link) -> HandOver:
        stream = StreamInteraction(_silent, Pending(), self._settings.prompt_seconds)
        return HandOver(
            bridge=self._bridge,
            site=HandOverSite(self._sites.client(None), link),
            interaction=WindowInteraction(stream, self._settings.pinentry, {}),
            program=PROGRAM,
            wait_seconds=self._settings.prompt_seconds,
        )


async def _link(request: Request, origin: str) -> Link:
    """Raises `RequestRefused` or `TimedOut`."""
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        # Anything else a form could send, without the browser's asking first (Fetch, CORS-safelisted request-header).
        raise BadRequest("The door takes JSON.")
    try:
        async with asyncio.timeout(BODY_SECONDS):
            body = await body_of(request, {"link"}, most=MAX_BODY)
    except TimeoutError:
        raise TimedOut from None
    link = parse_link(text(body, "link"))
    if link.origin != origin:
        raise OriginRefused(detail=f"{origin} asked for {link.origin}")
    return link


def _preflight(request: Request, origin: str) -> Response:
    """What a browser asks before it sends JSON to another origin (Fetch, CORS-preflight request)."""
    headers = _headers(origin) | {
        "access-control-allow-methods": "POST",
        "access-control-allow-headers": "content-type",
    }
    if request.headers.get("access-control-request-private-network") == "true":
        # Of Chromium until Local Network Access took its place, which asks the person and nothing of us.
        headers["access-control-allow-private-network"] = "true"
    return Response(status_code=204, headers=headers)


def _refusal(error: TokenbridgeError, origin: str) -> Response:
    _log.info("refused %s: %s", origin, error.detail or error.message)
    status = next((status for kind, status in STATUS.items() if isinstance(error, kind)), 400)
    return JSONResponse({"error": error.as_dict()}, status, headers=_headers(origin))


def _headers(origin: str) -> dict[str, str]:
    """No `access-control-allow-credentials`: cookies have no part in this."""
    return {**ALWAYS, "access-control-allow-origin": origin}


async def _silent(_: Mapping[str, Any]) -> None:
    """What happens on the way is for the window, not for the page."""
