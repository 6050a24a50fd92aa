"""What holds for every request: an id, a bounded body, safe headers, and no trace of a crash in the answer."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable
from typing import Final, TypeAlias

from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tokenbridge import log
from tokenbridge.errors import BadRequest, BodyTooLarge, TokenbridgeError
from tokenbridge.server import problems

MAX_BODY: Final = 16 * 1024
BODY_SECONDS: Final = 10.0

_log = log.get("server")

HEADERS: Final = (
    (b"cache-control", b"no-store"),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    (b"cross-origin-resource-policy", b"same-origin"),
)
HSTS: Final = (b"strict-transport-security", b"max-age=31536000")


Fault: TypeAlias = Callable[[Scope, TokenbridgeError, str], Response]
"""How an error that no handler saw becomes an answer; the last argument is the request's id."""


class _ClientGone(Exception):
    """The client closed the connection before its request was complete."""


class Envelope:
    """The outermost layer of the application. It is the HTTP dispatcher: the one place that catches everything."""

    def __init__(self, app: ASGIApp, *, strict_transport: bool, fault: Fault = problems.fault) -> None:
        self._app = app
        self._fault = fault
        self._headers = (*HEADERS, HSTS) if strict_transport else HEADERS

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = secrets.token_hex(8)
        scope.setdefault("state", {})["request_id"] = request_id
        answer = _Answer(send, self._fault, (*self._headers, (b"x-request-id", request_id.encode())))
        try:
            body = await _read(scope, receive)
            await self._app(scope, _Replay(body, receive), answer)
        except _ClientGone:
            return
        except TokenbridgeError as err:
            # Raised here before the whole body has come: what is left of it is not waited for.
            answer.close()
            await answer.fail(scope, receive, err, request_id)
        except Exception:  # noqa: BLE001 - the HTTP dispatcher: nothing may reach the client but a bland error
            _log.exception("request %s failed", request_id)
            await answer.fail(scope, receive, TokenbridgeError(), request_id)


async def _read(scope: Scope, receive: Receive) -> bytes:
    """The whole body. Raises `BodyTooLarge`, or `BadRequest` when it does not arrive in time."""
    declared = next((value for name, value in scope["headers"] if name == b"content-length"), b"0")
    if not declared.isdigit() or len(declared) > 9 or int(declared) > MAX_BODY:
        raise BodyTooLarge
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_SECONDS):
            while True:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise _ClientGone
                body += message.get("body", b"")
                if len(body) > MAX_BODY:
                    raise BodyTooLarge
                if not message.get("more_body", False):
                    return bytes(body)
    except TimeoutError as err:
        raise BadRequest("The request did not arrive in time.") from err


class _Replay:
    """Gives the body that was read, then whatever the client still says."""

    def __init__(self, body: bytes, receive: Receive) -> None:
        self._body: bytes | None = body
        self._receive = receive

    async def __call__(self) -> Message:
        if self._body is None:
            return await self._receive()
        body, self._body = self._body, None
        return {"type": "http.request", "body": body, "more_body": False}


class _Answer:
    """The response, with the headers that every one has."""

    def __init__(self, send: Send, fault: Fault, headers: tuple[tuple[bytes, bytes], ...]) -> None:
        self._send = send
        self._fault = fault
        self._headers = headers
        self._started = False

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._started = True
            own = list(message.get("headers", ()))
            said = {name.lower() for name, _ in own}
            # A page knows better than the usual what it loads and how long it may be kept.
            message = {**message, "headers": [*own, *(usual for usual in self._headers if usual[0] not in said)]}
        await self._send(message)

    def close(self) -> None:
        """End the connection after this answer."""
        self._headers = (*self._headers, (b"connection", b"close"))

    async def fail(self, scope: Scope, receive: Receive, error: TokenbridgeError, request_id: str) -> None:
        if not self._started:
            await self._fault(scope, error, request_id)(scope, receive, self)
