"""Which fallback method is asked for first: the list of what is set up, and the choice."""

from __future__ import annotations

import asyncio

from fastapi import APIRouter
from starlette.responses import Response

from tokenbridge.errors import BadRequest
from tokenbridge.server.portal.front import see_other
from tokenbridge.server.portal.member import Member, SignedIn

router = APIRouter(include_in_schema=False)


@router.get("/self-service/default-method")
async def ask(member: SignedIn) -> Response:
    profiles = member.front.profiles
    await asyncio.to_thread(profiles.may_change, member.session, "choose the default method", member.request_id)
    return await _page(member)


@router.post("/self-service/default-method")
async def choose(member: SignedIn) -> Response:
    """`method` empty: the server chooses."""
    try:
        name = member.visit.text("method", 32)
        await asyncio.to_thread(member.front.preferences.choose, member.session, name, member.request_id)
    except BadRequest as err:
        return await _page(member, err)
    return see_other("/self-service?done=default-method")


async def _page(member: Member, error: BadRequest | None = None) -> Response:
    choice = await asyncio.to_thread(member.front.preferences.look, member.session)
    return member.page("default-method.html", 200 if error is None else 400, error=error, choice=choice)
