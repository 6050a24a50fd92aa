"""Recovery codes: how many are left, and a new set, shown once."""

from __future__ import annotations

import asyncio

from fastapi import APIRouter
from starlette.responses import Response

from tokenbridge.rp.proof import Method
from tokenbridge.server.portal.member import SignedIn

router = APIRouter(include_in_schema=False)


@router.get("/self-service/recovery-codes")
async def ask(member: SignedIn) -> Response:
    profiles = member.front.profiles
    await asyncio.to_thread(profiles.may_change, member.session, "new recovery codes", member.request_id)
    return member.page("recovery-codes.html")


@router.post("/self-service/recovery-codes")
async def make(member: SignedIn) -> Response:
    """The codes are in this answer and nowhere else, so it does not redirect."""
    offer = await member.front.methods.enrol(member.session, Method.RECOVERY, "", member.request_id)
    return member.page("recovery-codes-new.html", codes=offer.shown["recovery_codes"], also="")
