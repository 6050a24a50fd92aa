"""A telephone on a page: what the development outbox holds. Included only with the setting, on loopback."""

from __future__ import annotations

import asyncio
import datetime as dt

from fastapi import APIRouter, Request
from starlette.responses import Response

from tokenbridge.server.portal.visit import Visitor

router = APIRouter(include_in_schema=False)


@router.get("/outbox")
async def phone(visit: Visitor, request: Request) -> Response:
    found = await asyncio.to_thread(request.app.state.outbox.listed)
    told = [{**message, "at": dt.datetime.fromisoformat(message["at"])} for message in found]
    answer = visit.front.page(visit, "outbox.html", messages=told)
    answer.headers["refresh"] = "5"
    return answer
