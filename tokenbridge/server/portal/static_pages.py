"""The static files by HTTP."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from tokenbridge.server.portal.front import Front

router = APIRouter(include_in_schema=False)


@router.get("/static/{digest}/{name:path}")
async def static(request: Request, digest: str, name: str) -> Response:
    front: Front = request.app.state.portal
    return front.statics.answer(digest, name, request.headers.get("accept-encoding", ""))
