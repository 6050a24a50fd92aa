"""Answers that go on: one JSON object a line, from a ceremony that lives in a task of its own.

The ceremony ends when the client goes away, and then has the time to tidy up: it is not run inside the request, whose
cancellation would interrupt the tidying too.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import aclosing
from typing import Any, Final

from starlette.responses import StreamingResponse

from tokenbridge.daemon.prompts import Emit
from tokenbridge.errors import Cancelled, TokenbridgeError
from tokenbridge.log import get

MEDIA_TYPE: Final = "application/x-ndjson"
MAX_AHEAD: Final = 64
READ_SECONDS: Final = 30

_log = get("api")

Body = Callable[[Emit], Awaitable[Mapping[str, Any]]]
Line = Mapping[str, Any]


class Streams:
    """The ceremonies and event streams that are under way."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[Line]] = set()

    def respond(self, body: Body) -> StreamingResponse:
        """Run `body`; what it emits and, last, its result or error are the lines of the answer."""
        return StreamingResponse(self._lines(body), media_type=MEDIA_TYPE)

    async def _lines(self, body: Body) -> AsyncGenerator[bytes, None]:
        # Begun with the answer: a caller that is gone before its answer begins has nobody who would end the task.
        lines: asyncio.Queue[Line] = asyncio.Queue(MAX_AHEAD)
        task = asyncio.create_task(_run(body, lines))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        async with aclosing(_lines(lines, task)) as encoded:
            async for line in encoded:
                yield line

    async def close(self) -> None:
        """Cancel all and wait until they have tidied up."""
        tasks = list(self._tasks)
        for task in tasks:
            _cancel(task)
        if tasks:
            await asyncio.wait(tasks, timeout=2)


async def _run(body: Body, lines: asyncio.Queue[Line]) -> Line:
    """The last line. It does not go through the queue, which is full when nobody reads."""
    try:
        return {"event": "done", **await body(lambda line: _put(lines, line))}
    except Cancelled as err:
        return _error(err)
    except TokenbridgeError as err:
        _log.info("%s: %s", err.code, err.detail or err.message)
        return _error(err)
    except asyncio.CancelledError:
        return _error(Cancelled("shutdown"))
    except Exception as err:  # noqa: BLE001  the dispatcher: a defect in one ceremony must not end the bridge
        _log.exception("ceremony failed")
        return _error(TokenbridgeError(detail=repr(err)))


async def _put(lines: asyncio.Queue[Line], line: Line) -> None:
    """A caller that does not read what it asked for has gone away, whatever its connection says."""
    try:
        async with asyncio.timeout(READ_SECONDS):
            await lines.put(line)
    except TimeoutError:
        raise Cancelled("caller") from None


def _error(err: TokenbridgeError) -> Line:
    return {"event": "error", "error": err.as_dict()}


async def _lines(lines: asyncio.Queue[Line], task: asyncio.Task[Line]) -> AsyncGenerator[bytes, None]:
    getting = asyncio.ensure_future(lines.get())
    try:
        while True:
            await asyncio.wait({getting, task}, return_when=asyncio.FIRST_COMPLETED)
            if not getting.done():
                break
            yield _encode(getting.result())
            getting = asyncio.ensure_future(lines.get())
        getting.cancel()
        while not lines.empty():
            yield _encode(lines.get_nowait())
        yield _encode(task.result())
    finally:
        getting.cancel()
        _cancel(task)


def _cancel(task: asyncio.Task[Line]) -> None:
    """Once: a second time would interrupt the tidying up that the first began."""
    if not task.cancelling():
        task.cancel()


def _encode(line: Line) -> bytes:
    return json.dumps(line, separators=(",", ":")).encode() + b"\n"
