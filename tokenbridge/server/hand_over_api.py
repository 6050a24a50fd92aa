"""The HTTP API of hand-overs, as the bridge uses it: parse, call, answer. docs/api.md describes it."""

from __future__ import annotations

from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends, Path, Request, Response

from tokenbridge.server.api import ERRORS, CardBody, RequestId, card_offer, outcome
from tokenbridge.server.hand_over import HandOverDesk

router = APIRouter(responses=ERRORS)


async def _desk(request: Request) -> HandOverDesk:
    desk: HandOverDesk = request.app.state.hand_overs
    return desk


Desk = Annotated[HandOverDesk, Depends(_desk)]
Ref = Annotated[str, Path(pattern=r"^[A-Za-z0-9_-]{1,128}$")]

PAGE: Final = "/sign-in/card"
"""Where the browser beside the bridge goes on, with the code behind it."""

ADD_PAGE: Final = "/self-service/cards"
"""Likewise, to add the card to an account."""

ADDING: Final = "The card is good. Your browser asks whether to add it to your account."


@router.get("/api/hand-over/{ref}")
async def asked(ref: Ref, request: Request, desk: Desk) -> dict[str, Any]:
    """What a card is asked to sign, in the form of a sign-in that was begun; for whom and in which browser."""
    found = await desk.asked(ref)
    return {
        "transaction": ref,
        "rp": {"name": request.app.state.parts.settings.name, "origin": found.challenge.origin},
        "nonce": found.challenge.nonce,
        "expires_at": found.challenge.expires_at.isoformat(),
        "accepts": [card_offer(found.issuers)],
        "account": found.account,
        "device": found.device,
        "purpose": "add-card" if found.adds else "sign-in",
    }


@router.post("/api/hand-over/{ref}/card")
async def card(ref: Ref, body: CardBody, request: Request, desk: Desk, request_id: RequestId) -> dict[str, Any]:
    """Present the card's signature. The session goes to the browser: open `continue` in the one beside the bridge."""
    brought = await desk.card(ref, body.token, request_id)
    origin = request.app.state.origin
    if brought.done is None:
        onward = f"{origin}{ADD_PAGE}/{brought.code}"
        return {"decision": "allow", "sentence": ADDING, "methods": [], "continue": onward}
    told = outcome(brought.done)
    told.pop("session", None)
    return {**told, "continue": f"{origin}{PAGE}/{brought.code}"}


@router.delete("/api/hand-over/{ref}", status_code=204)
async def cancel(ref: Ref, desk: Desk) -> Response:
    await desk.cancel(ref)
    return Response(status_code=204)
