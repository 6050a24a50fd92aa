"""A client that speaks ASGI to an application in this process, lines of an answer one by one, and can hang up."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from typing import Any

from starlette.types import ASGIApp, Message


class Call:
    """One request under way."""

    def __init__(self, app: ASGIApp, method: str, path: str, body: bytes = b"", *, program: str = "portal") -> None:
        path, _, query = path.partition("?")
        scope = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "1.1",
            "method": method,
            "scheme": "http",
            "path": path,
            "raw_path": path.encode(),
            "query_string": query.encode(),
            "headers": [(b"host", b"bridge")],
            "client": (program, 7),
            "server": None,
        }
        self._chunks = [body[at : at + 4096] for at in range(0, len(body), 4096)] or [b""]
        self._gone = asyncio.Event()
        self._sent: asyncio.Queue[Message | None] = asyncio.Queue()
        self._rest = b""
        self.chunks_read = 0
        self.task = asyncio.create_task(self._run(app, scope))

    async def _run(self, app: ASGIApp, scope: dict[str, Any]) -> None:
        try:
            await app(scope, self._receive, self._sent.put)
        finally:
            self._sent.put_nowait(None)

    async def _receive(self) -> Message:
        if self._chunks:
            self.chunks_read += 1
            return {"type": "http.request", "body": self._chunks.pop(0), "more_body": bool(self._chunks)}
        await self._gone.wait()
        return {"type": "http.disconnect"}

    async def status(self) -> int:
        message = await self._sent.get()
        assert message is not None
        assert message["type"] == "http.response.start"
        status: int = message["status"]
        return status

    async def lines(self, end: bytes = b"\n") -> AsyncIterator[dict[str, Any]]:
        """After `status`. Without `end` each part of the answer is one."""
        while (message := await self._sent.get()) is not None:
            self._rest += message.get("body", b"") + (b"" if end else b"\n")
            *whole, self._rest = self._rest.split(b"\n")
            for line in whole:
                yield json.loads(line)

    async def answer(self) -> tuple[int, Any]:
        """Status and JSON of an answer that is whole."""
        status = await self.status()
        content = b""
        while (message := await self._sent.get()) is not None:
            content += message.get("body", b"")
        await self.task
        return status, json.loads(content) if content else None

    async def hang_up(self) -> None:
        self._gone.set()
        await asyncio.wait({self.task})


async def call(app: ASGIApp, method: str, path: str, body: bytes | Mapping[str, Any] = b"") -> tuple[int, Any]:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return await Call(app, method, path, content).answer()
