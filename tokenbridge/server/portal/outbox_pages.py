"""A telephone on a page: what the development outbox holds. Included only with the setting, on loopback."""

from __future__ import annotations

import asyncio
import datetime as dt
from typing import Final

from fastapi import APIRouter, Request
from starlette.responses import Response

from tokenbridge.server.portal.front import see_other
from tokenbridge.server.portal.visit import Visitor
from tokenbridge.server.store import approvals
from tokenbridge.server.voice_calls import Heard, VoiceCalls

router = APIRouter(include_in_schema=False)

MAX_HANDLE: Final = 64
MAX_KEY: Final = 1


@router.get("/outbox")
async def phone(visit: Visitor, request: Request) -> Response:
    outbox = request.app.state.outbox
    found = await asyncio.to_thread(outbox.listed)
    told = [{**message, "at": dt.datetime.fromisoformat(message["at"])} for message in found]
    rings_since = outbox.clock() - approvals.LIFETIME
    answer = visit.front.page(visit, "outbox.html", messages=told, rings_since=rings_since, heard=_heard(request))
    answer.headers["refresh"] = "5"
    return answer


@router.post("/outbox/press")
async def press(visit: Visitor, request: Request) -> Response:
    """Press a key in a call, as the telephone service would tell it."""
    calls: VoiceCalls = request.app.state.voice_calls
    handle, key = visit.text("answer", MAX_HANDLE), visit.text("key", MAX_KEY)
    heard = await asyncio.to_thread(calls.pressed, handle, key, visit.request_id)
    return see_other(f"/outbox?heard={heard.name.lower()}")


def _heard(request: Request) -> str:
    name = request.query_params.get("heard", "").upper()
    return Heard[name] if name in Heard.__members__ else ""
