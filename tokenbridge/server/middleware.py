"""What holds for every request: an id, a bounded body, safe headers, and no trace of a crash in the answer."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final, TypeAlias

from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tokenbridge import log
from tokenbridge.errors import BadRequest, BodyTooLarge, TokenbridgeError
from tokenbridge.server import problems

MAX_BODY: Final = 16 * 1024
BODY_SECONDS: Final = 10.0
STREAM_SECONDS: Final = 60.0
"""For a body that its handler reads by itself."""
QUIET_SECONDS: Final = 5.0
"""How long to wait for more of a body that nobody wants any more."""
MAX_SPILL: Final = 64 << 20
"""Bytes of an unwanted body that are read and dropped after the answer: whoever closes a connection that has unread
bytes resets it, and its client may see that instead of the answer (RFC 9112 section 9.6)."""

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
    """The outermost layer of the application. It is the HTTP dispatcher: the one place that catches everything.

    `rooms`: addresses with a larger body of at most so many bytes, which is read by its handler only, when that knows
    who sends it.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        strict_transport: bool,
        fault: Fault = problems.fault,
        rooms: Mapping[str, int] = MappingProxyType({}),
    ) -> None:
        self._app = app
        self._fault = fault
        self._rooms = rooms
        self._headers = (*HEADERS, HSTS) if strict_transport else HEADERS

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = secrets.token_hex(8)
        scope.setdefault("state", {})["request_id"] = request_id
        most = self._rooms.get(scope["path"], 0) if scope["method"] == "POST" else 0
        body = _Body(scope, receive, most or MAX_BODY, STREAM_SECONDS if most else BODY_SECONDS)
        headers = (*self._headers, (b"x-request-id", request_id.encode()))
        answer = _Answer(send, self._fault, headers, body)
        try:
            await self._app(scope, body if most else _Replay(await body.whole(), receive), answer)
        except _ClientGone:
            return
        except TokenbridgeError as err:
            await answer.fail(scope, receive, err, request_id)
        except Exception:  # noqa: BLE001 - the HTTP dispatcher: nothing may reach the client but a bland error
            _log.exception("request %s failed", request_id)
            await answer.fail(scope, receive, TokenbridgeError(), request_id)


def _check_declared(scope: Scope, most: int) -> None:
    declared = next((value for name, value in scope["headers"] if name == b"content-length"), b"0")
    if not declared.isdigit() or len(declared) > 9 or int(declared) > most:
        raise _too_large(most)


def _too_large(most: int) -> BodyTooLarge:
    if most == MAX_BODY:
        return BodyTooLarge()
    told = f"{most >> 20} MiB" if most >= 1 << 20 else f"{most >> 10} KiB"
    return BodyTooLarge(next_step=f"Send at most {told} at this address.")


class _Body:
    """The body as it comes: bounded in size and, from the beginning of its request to the last look at it, in time."""

    def __init__(self, scope: Scope, receive: Receive, most: int, seconds: float) -> None:
        self._scope = scope
        self._receive = receive
        self._most = most
        self._read = 0
        self._deadline = asyncio.get_running_loop().time() + seconds
        self.over = False
        """Whether nothing of it is left to come."""

    async def __call__(self) -> Message:
        """Raises `BodyTooLarge`, or `BadRequest` when the body does not arrive in time."""
        if self.over:
            return await self._receive()
        if not self._read:
            _check_declared(self._scope, self._most)
        try:
            message = await self._next(self._deadline)
        except TimeoutError as err:
            raise BadRequest("The request did not arrive in time.") from err
        if self._read > self._most:
            raise _too_large(self._most)
        return message

    async def whole(self) -> bytes:
        """All of it at once. Raises as a call does, and `_ClientGone`."""
        body = bytearray()
        while not self.over:
            message = await self()
            if message["type"] == "http.disconnect":
                raise _ClientGone
            body += message.get("body", b"")
        return bytes(body)

    async def drop(self) -> None:
        """Read what nobody wanted, up to bounds in size and time."""
        most, clock = self._read + MAX_SPILL, asyncio.get_running_loop().time
        deadline = min(self._deadline, clock() + BODY_SECONDS)
        with contextlib.suppress(TimeoutError):
            while not self.over and self._read <= most:
                await self._next(min(deadline, clock() + QUIET_SECONDS))

    async def _next(self, deadline: float) -> Message:
        async with asyncio.timeout_at(deadline):
            message = await self._receive()
        self._read += len(message.get("body", b""))
        self.over = message["type"] != "http.request" or not message.get("more_body", False)
        return message


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

    def __init__(self, send: Send, fault: Fault, headers: tuple[tuple[bytes, bytes], ...], body: _Body) -> None:
        self._send = send
        self._fault = fault
        self._headers = headers
        self._body = body
        self._started = False
        self._last = False
        """Whether the connection ends after this answer, since the request's body is not read to its end."""

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._started = True
            self._last = not self._body.over
            own = list(message.get("headers", ()))
            said = {name.lower() for name, _ in own}
            # A page knows better than the usual what it loads and how long it may be kept.
            usual = [pair for pair in self._headers if pair[0] not in said]
            message = {**message, "headers": [*own, *usual, *([(b"connection", b"close")] if self._last else [])]}
        elif self._last and not message.get("more_body", False):
            # The client has the whole answer before the rest of its request is read; only then the connection ends.
            await self._send({**message, "more_body": True})
            await self._body.drop()
            message = {"type": "http.response.body"}
        await self._send(message)

    async def fail(self, scope: Scope, receive: Receive, error: TokenbridgeError, request_id: str) -> None:
        if not self._started:
            await self._fault(scope, error, request_id)(scope, receive, self)
