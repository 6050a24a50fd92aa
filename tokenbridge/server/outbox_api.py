"""The development outbox over HTTP. The composition root includes it only with the setting, on loopback."""

from __future__ import annotations

import asyncio
from typing import Any

from fastapi import APIRouter, Request

router = APIRouter()


@router.get("/api/outbox")
async def listed(request: Request) -> dict[str, Any]:
    """What would have been sent, the newest first."""
    return {"messages": await asyncio.to_thread(request.app.state.outbox.listed)}
