"""Signing in with a smartcard: the page hands over to the bridge, and the bridge opens the browser again."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path
from starlette.responses import Response

from tokenbridge.rp.rules import PORTAL
from tokenbridge.server import hand_over
from tokenbridge.server.browsers import device_of
from tokenbridge.server.hand_over import Browser
from tokenbridge.server.portal import cookies
from tokenbridge.server.portal.front import see_other
from tokenbridge.server.portal.sign_in_pages import MAX_USERNAME, enter, step_address
from tokenbridge.server.portal.visit import Visitor

router = APIRouter(include_in_schema=False)

Code = Annotated[str, Path(pattern=r"^[A-Za-z0-9_-]{1,128}$")]


@router.post("/sign-in/card")
async def begin(visit: Visitor) -> Response:
    """The link that starts the bridge, or that a script brings to its door. The user name, if one was typed, is shown
    to the person there."""
    front = visit.front
    ticket = await front.sign_ins.start(PORTAL, visit.where)
    username = visit.text("username", MAX_USERNAME)
    browser = Browser(
        secret=visit.bound,
        account=username,
        device=device_of(visit.request.headers.get("user-agent", "")),
        onward=visit.onward,
    )
    ref = await front.hand_overs.begin(ticket.token, browser)
    link = hand_over.link(front.site, ref)
    answer = front.page(visit, "card.html", reach=front.door, link=link, username=username, onward=visit.onward)
    cookies.put(answer, cookies.SIGN_IN, ticket.token, front.sign_in_seconds)
    return answer


@router.get("/sign-in/card/{code}")
async def come_back(visit: Visitor, code: Code) -> Response:
    """Opened by the bridge. It counts in the browser that began, and once: a GET that a link of others can't use."""
    found = await visit.front.hand_overs.redeem(code, visit.bound)
    if found.session is not None:
        return await enter(visit, found.session, onward=found.onward)
    return see_other(step_address(found.onward))
