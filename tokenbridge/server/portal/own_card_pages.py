"""People's own smartcards: adding one, by the bridge as in a sign-in and confirmed on a page; removing one."""

from __future__ import annotations

import asyncio
from typing import Annotated

from fastapi import APIRouter, Path
from starlette.responses import Response

from tokenbridge.errors import BadRequest, LastFactor
from tokenbridge.rp.rules import PORTAL
from tokenbridge.server import hand_over, problems
from tokenbridge.server.browsers import device_of
from tokenbridge.server.hand_over import Browser
from tokenbridge.server.key_enrolment import MAX_NAME
from tokenbridge.server.portal.card_pages import Code
from tokenbridge.server.portal.front import see_other
from tokenbridge.server.portal.member import Member, SignedIn

router = APIRouter(include_in_schema=False)

CardId = Annotated[int, Path(ge=1, le=2**31 - 1)]


@router.get("/self-service/cards/add")
async def ask_add(member: SignedIn) -> Response:
    await asyncio.to_thread(member.front.own_cards.begin, member.session, member.request_id)
    return member.page("card-add.html")


@router.post("/self-service/cards/add")
async def begin(member: SignedIn) -> Response:
    """The link for the bridge. Nobody gets the token of its transaction: no sign-in comes of it."""
    front, visit = member.front, member.visit
    session_id, username = await asyncio.to_thread(front.own_cards.begin, member.session, member.request_id)
    ticket = await front.sign_ins.start(PORTAL, visit.where)
    browser = Browser(
        secret=visit.bound,
        account=username,
        device=device_of(visit.request.headers.get("user-agent", "")),
        adds_to=session_id,
    )
    ref = await front.hand_overs.begin(ticket.token, browser)
    return member.page("card-add-link.html", reach=front.door, link=hand_over.link(front.site, ref))


@router.get("/self-service/cards/{card_id}/remove")
async def ask_remove(member: SignedIn, card_id: CardId) -> Response:
    await asyncio.to_thread(member.front.profiles.may_change, member.session, "remove a card", member.request_id)
    return await _removal(member, card_id)


@router.post("/self-service/cards/{card_id}/remove")
async def remove(member: SignedIn, card_id: CardId) -> Response:
    confirmed = member.visit.text("last", 8) == "yes"
    try:
        await asyncio.to_thread(
            member.front.own_cards.remove, member.session, card_id, member.request_id, confirmed=confirmed
        )
    except LastFactor as err:
        return await _removal(member, card_id, err)
    return see_other("/self-service/keys?done=card-removed")


async def _removal(member: Member, card_id: int, error: LastFactor | None = None) -> Response:
    card = await asyncio.to_thread(member.front.own_cards.look, member.session, card_id)
    status = 200 if error is None else int(problems.status(error))
    vouched = card.vouched if card.since is None else ""
    return member.page("remove.html", status, what=card.name, back="/self-service/keys", vouched=vouched, error=error)


@router.get("/self-service/cards/{code}")
async def shown(member: SignedIn, code: Code) -> Response:
    """Opened by the bridge: which card it is."""
    card = await asyncio.to_thread(member.front.own_cards.shown, member.session, code, member.request_id)
    return member.page("card-add-confirm.html", card=card)


@router.post("/self-service/cards/{code}")
async def add(member: SignedIn, code: Code) -> Response:
    """Recovery codes that were made with it are in the answer, and nowhere else."""
    cards, name = member.front.own_cards, member.visit.text("name", MAX_NAME)
    try:
        made = await asyncio.to_thread(cards.add, member.session, code, name, member.request_id)
    except BadRequest as err:
        card = await asyncio.to_thread(cards.shown, member.session, code, member.request_id)
        return member.page("card-add-confirm.html", 400, card=card, error=err)
    if made:
        return member.page("recovery-codes-new.html", codes=made, also="Your card is added.")
    return see_other("/self-service/keys?done=card")
