"""The HTTP API of phone apps: parse, call, answer. Every request but the first is signed; docs/api.md describes it."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request, Response
from pydantic import Field

from tokenbridge.server.api import ERRORS, Body, RequestId
from tokenbridge.server.browsers import device_of
from tokenbridge.server.phone_desk import PhoneDesk
from tokenbridge.server.phone_requests import MAX_SIGNED

router = APIRouter(responses=ERRORS)


class SignedBody(Body):
    """A JWS in compact form; see `phone_requests`."""

    signed: str = Field(min_length=1, max_length=MAX_SIGNED)


async def _desk(request: Request) -> PhoneDesk:
    desk: PhoneDesk = request.app.state.phones
    return desk


Desk = Annotated[PhoneDesk, Depends(_desk)]


@router.get("/api/phone/nonce")
async def nonce(desk: Desk) -> dict[str, str]:
    """What the next request has to hold."""
    return {"nonce": desk.nonce()}


@router.post("/api/phone/enrolment", status_code=201)
async def enrol(body: SignedBody, request: Request, desk: Desk, request_id: RequestId) -> dict[str, Any]:
    """Set the telephone up with the code of a QR picture; the page that shows it asks for the number in the answer."""
    return await desk.enrol(body.signed, device_of(request.headers.get("user-agent", "")), request_id)


@router.post("/api/phone/request")
async def look(body: SignedBody, desk: Desk) -> dict[str, Any]:
    """What the telephone is asked now."""
    return await desk.look(body.signed)


@router.post("/api/phone/answer", status_code=204)
async def answer(body: SignedBody, desk: Desk, request_id: RequestId) -> Response:
    """Approve or deny."""
    await desk.answer(body.signed, request_id)
    return Response(status_code=204)


@router.post("/api/phone/subscription", status_code=204)
async def subscribe(body: SignedBody, desk: Desk) -> Response:
    """Where pushes go."""
    await desk.subscribe(body.signed)
    return Response(status_code=204)
