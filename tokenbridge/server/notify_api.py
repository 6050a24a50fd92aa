"""Where GOV.UK Notify tells what became of a text message ("Callbacks", delivery receipts). It shows a token."""

from __future__ import annotations

import asyncio
import hmac
import json
from typing import Any, Final

from fastapi import APIRouter, Request
from starlette.responses import Response

from tokenbridge.errors import OriginRefused
from tokenbridge.server.deliveries import Deliveries

router = APIRouter(include_in_schema=False)

PATH: Final = "/hooks/notify/delivery"
MAX_REFERENCE: Final = 64
_UNDELIVERED: Final = frozenset({"permanent-failure", "technical-failure"})
"""The other failure comes after three days, when nobody waits for a code any more."""


@router.post(PATH, status_code=204)
async def delivered(request: Request) -> Response:
    """Says nothing, whatever there is of that reference. Raises `OriginRefused` for who does not show the token."""
    wanted = f"Bearer {request.app.state.reports.notify}".encode()
    given = request.headers.get("authorization", "").encode("utf-8", "surrogatepass")
    if not hmac.compare_digest(wanted, given):
        raise OriginRefused("That does not come from the service that sends messages.")
    desk: Deliveries = request.app.state.deliveries
    told = _told(await request.body())
    status, reference = told.get("status"), told.get("reference")
    if status in _UNDELIVERED and isinstance(reference, str) and len(reference) <= MAX_REFERENCE:
        gone = status == "permanent-failure"
        await asyncio.to_thread(desk.failed, reference, str(status), str(request.state.request_id), unreachable=gone)
    return Response(status_code=204)


def _told(body: bytes) -> dict[str, Any]:
    """What can't be understood says nothing."""
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return {name: value for name, value in found.items() if isinstance(value, str)} if isinstance(found, dict) else {}
