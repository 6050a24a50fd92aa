"""The HTTP API of fallback methods: parse, call, answer. docs/api.md describes it."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Request, Response
from pydantic import Field

from tokenbridge.errors import BadRequest, NotAllowedNow
from tokenbridge.rp.proof import FALLBACK_METHODS, Method
from tokenbridge.server.api import ERRORS, Bearer, Body, RequestId, SignIns, outcome
from tokenbridge.server.approvals import Asked
from tokenbridge.server.deliveries import Deliveries, Fate
from tokenbridge.server.method_setup import MethodDesk
from tokenbridge.server.second_step import Begun

router = APIRouter()


class StartBody(Body):
    method: str = Field(max_length=32)


class SetupBody(Body):
    """A number for messages, an algorithm for an app, nothing for recovery codes."""

    number: str = Field(default="", max_length=64)
    algorithm: str = Field(default="", max_length=16)


class ConfirmBody(Body):
    code: str = Field(min_length=1, max_length=64)


class PhoneBody(Body):
    """What is not said stays as it is."""

    whatsapp: bool | None = None
    voice: bool | None = None


async def _desk(request: Request) -> MethodDesk:
    desk: MethodDesk = request.app.state.methods
    return desk


async def _deliveries(request: Request) -> Deliveries:
    found: Deliveries = request.app.state.deliveries
    return found


Sent = Annotated[Deliveries, Depends(_deliveries)]
Desk = Annotated[MethodDesk, Depends(_desk)]
PhoneId = Annotated[int, Path(ge=1, le=2**31 - 1)]


@router.post("/api/sign-in/{transaction}/start", responses=ERRORS)
async def start(transaction: str, body: StartBody, desk: SignIns, sent: Sent, request_id: RequestId) -> dict[str, Any]:
    """Send the message of a method that the challenge named, or ask the telephone."""
    return begun(await desk.send(transaction, _method(body.method), request_id), watched=sent.on)


@router.get("/api/sign-in/{transaction}/message", responses=ERRORS)
async def message(transaction: str, sent: Sent) -> dict[str, Any]:
    """What is known of the sign-in's newest message: whether it did not get there, or has taken another's place."""
    return _fate(await asyncio.to_thread(sent.of_sign_in, transaction))


@router.get("/api/sign-in/{transaction}/approval", responses=ERRORS)
async def asked(transaction: str, desk: SignIns) -> dict[str, Any]:
    """Whether the telephone has answered."""
    found = await desk.asked(transaction)
    if found is None:
        raise NotAllowedNow("This sign-in has asked no telephone.", next_step="Send a request first.")
    return waiting(found)


@router.post("/api/sign-in/{transaction}/approval", responses=ERRORS)
async def approval(transaction: str, desk: SignIns, request_id: RequestId) -> dict[str, Any]:
    """Go on with what the telephone has answered."""
    return outcome(await desk.approval(transaction, request_id))


@router.get("/api/methods", responses=ERRORS)
async def listed(token: Bearer, desk: Desk) -> dict[str, Any]:
    """The fallback methods of the session's account."""
    return await desk.listed(token)


@router.post("/api/methods/{method}", status_code=201, responses=ERRORS)
async def enrol(
    method: str, body: SetupBody, token: Bearer, desk: Desk, sent: Sent, request_id: RequestId
) -> dict[str, Any]:
    """Begin to set a method up; it counts once it is confirmed."""
    offer = await desk.enrol(token, _method(method), body.number or body.algorithm, request_id)
    return {**offer.shown, **(begun(offer.begun, watched=sent.on) if offer.begun is not None else {})}


@router.get("/api/methods/message", responses=ERRORS)
async def setup_message(token: Bearer, sent: Sent) -> dict[str, Any]:
    """What is known of the newest message that confirms a number of the session's account."""
    return _fate(await asyncio.to_thread(sent.of_setup, token))


@router.post("/api/methods/{method}/confirm", status_code=204, responses=ERRORS)
async def confirm(method: str, body: ConfirmBody, token: Bearer, desk: Desk, request_id: RequestId) -> Response:
    await desk.confirm(token, _method(method), body.code, request_id)
    return Response(status_code=204)


@router.post("/api/recovery-codes", status_code=201, responses=ERRORS)
async def recovery_codes(token: Bearer, desk: Desk, request_id: RequestId) -> dict[str, Any]:
    """A new set, which counts at once; older codes are void."""
    return dict((await desk.enrol(token, Method.RECOVERY, "", request_id)).shown)


@router.delete("/api/methods/totp", status_code=204, responses=ERRORS)
async def remove_app(token: Bearer, desk: Desk, request_id: RequestId, confirm_last: bool = False) -> Response:
    await desk.remove_app(token, request_id, confirmed=confirm_last)
    return Response(status_code=204)


@router.delete("/api/phones/{phone_id}", status_code=204, responses=ERRORS)
async def remove_phone(
    phone_id: PhoneId, token: Bearer, desk: Desk, request_id: RequestId, confirm_last: bool = False
) -> Response:
    await desk.remove_phone(token, phone_id, request_id, confirmed=confirm_last)
    return Response(status_code=204)


@router.delete("/api/phone-apps/{phone_id}", status_code=204, responses=ERRORS)
async def remove_phone_app(
    phone_id: PhoneId, token: Bearer, desk: Desk, request_id: RequestId, confirm_last: bool = False
) -> Response:
    await desk.remove_phone_app(token, phone_id, request_id, confirmed=confirm_last)
    return Response(status_code=204)


@router.patch("/api/phones/{phone_id}", status_code=204, responses=ERRORS)
async def change_phone(
    phone_id: PhoneId, body: PhoneBody, token: Bearer, desk: Desk, request_id: RequestId
) -> Response:
    for method, on in ((Method.WHATSAPP, body.whatsapp), (Method.VOICE, body.voice)):
        if on is not None:
            await desk.set_way(token, phone_id, method, request_id, on=on)
    return Response(status_code=204)


def begun(found: Begun, *, watched: bool) -> dict[str, Any]:
    """`watched`: it may become known that the message did not get there."""
    return {
        "method": str(found.method),
        "sent_to": found.sent_to,
        "resend_at": found.resend_at.isoformat(),
        "expires_at": found.expires_at.isoformat(),
        "typed": found.typed,
        **({"watched": True} if watched and found.typed else {}),
        **({"number": found.number} if found.number else {}),
    }


def waiting(found: Asked) -> dict[str, Any]:
    return {
        "method": str(found.method),
        "answered": not found.waiting,
        "expires_at": found.expires_at.isoformat(),
        **({"number": found.number} if found.number else {}),
        **({"not_taken": found.not_taken, "message": found.problem} if found.not_taken else {}),
    }


def _fate(found: Fate | None) -> dict[str, Any]:
    """Raises `NotAllowedNow` when nothing was sent."""
    if found is None:
        raise NotAllowedNow("No message was sent here.", next_step="Have one sent first.")
    return {
        "method": str(found.method),
        "sent_to": found.sent_to,
        "expires_at": found.expires_at.isoformat(),
        "undelivered": found.lost,
        **({"instead_of": str(Method.WHATSAPP)} if found.replaces else {}),
    }


def _method(name: str) -> Method:
    try:
        method = Method(name)
    except ValueError:
        method = None
    if method not in FALLBACK_METHODS:
        raise BadRequest("That is no fallback method.", next_step="Use one that was offered.")
    return method
