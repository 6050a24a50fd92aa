"""Sessions and devices, recent activity, and "was this you?"."""

from __future__ import annotations

import asyncio
from typing import Annotated

from fastapi import APIRouter, Path
from starlette.responses import Response

from tokenbridge.server.portal.front import see_other
from tokenbridge.server.portal.member import SignedIn

router = APIRouter(include_in_schema=False)

Number = Annotated[int, Path(ge=1, le=2**31 - 1)]


@router.get("/sessions")
async def sessions(member: SignedIn) -> Response:
    found = await asyncio.to_thread(member.front.own_sessions.listed, member.session)
    return member.page("sessions.html", sessions=found)


@router.post("/sessions/{session_id}/end")
async def end(member: SignedIn, session_id: Number) -> Response:
    await asyncio.to_thread(member.front.own_sessions.end, member.session, session_id, member.request_id)
    return see_other("/sessions?done=session-ended")


@router.post("/sessions/end-others")
async def end_others(member: SignedIn) -> Response:
    await asyncio.to_thread(member.front.own_sessions.end_others, member.session, member.request_id)
    return see_other("/sessions?done=sessions-ended")


@router.get("/activity")
async def activity(member: SignedIn) -> Response:
    found = await asyncio.to_thread(member.front.activity.recent, member.session)
    return member.page("activity.html", happenings=found)


@router.get("/activity/{number}")
async def one(member: SignedIn, number: Number) -> Response:
    found = await asyncio.to_thread(member.front.activity.one, member.session, number)
    return member.page("was-this-you.html", happening=found)


@router.post("/activity/{number}")
async def report(member: SignedIn, number: Number) -> Response:
    await asyncio.to_thread(member.front.activity.report, member.session, number, member.request_id)
    return see_other("/reported")


@router.get("/reported")
async def reported(member: SignedIn) -> Response:
    return member.page("reported.html")
