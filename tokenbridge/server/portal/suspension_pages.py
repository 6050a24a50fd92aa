"""Suspending one card or key, and lifting that; each asks first."""

from __future__ import annotations

import asyncio
from typing import Annotated, Final

from fastapi import APIRouter, Path
from starlette.responses import Response

from tokenbridge.errors import LastFactor, NotFound
from tokenbridge.server.portal.front import see_other
from tokenbridge.server.portal.member import Member, SignedIn
from tokenbridge.server.self_service.suspensions import Suspended
from tokenbridge.server.store import suspensions
from tokenbridge.server.store.suspensions import Ref

router = APIRouter(include_in_schema=False)

LIST: Final = "/self-service/keys"
Thing = Annotated[str, Path(pattern=f"^({suspensions.PATTERN})$")]


@router.get("/self-service/suspend/{thing}")
async def ask_suspend(member: SignedIn, thing: Thing) -> Response:
    found = await asyncio.to_thread(member.front.suspensions.look, member.session, ref_of(thing))
    return member.page("suspend.html", device=found, back=LIST)


@router.post("/self-service/suspend/{thing}")
async def suspend(member: SignedIn, thing: Thing) -> Response:
    """New recovery codes, if there are any, are in this answer and nowhere else."""
    suspending, ref = member.front.suspensions, ref_of(thing)
    found = await asyncio.to_thread(suspending.look, member.session, ref)
    confirmed = member.visit.text("last", 8) == "yes"
    try:
        done = await asyncio.to_thread(
            suspending.suspend, member.session, frozenset({thing}), member.request_id, confirmed=confirmed
        )
    except LastFactor as err:
        return member.page("suspend.html", 409, device=found, back=LIST, error=err)
    return suspended(member, done)


@router.get("/self-service/lift/{thing}")
async def ask_lift(member: SignedIn, thing: Thing) -> Response:
    lift = member.front.suspensions.may_lift
    found = await asyncio.to_thread(lift, member.session, ref_of(thing), member.request_id)
    return member.page("lift.html", device=found, back=LIST)


@router.post("/self-service/lift/{thing}")
async def lift(member: SignedIn, thing: Thing) -> Response:
    await asyncio.to_thread(member.front.suspensions.lift, member.session, ref_of(thing), member.request_id)
    return see_other(f"{LIST}?done=lifted")


def suspended(member: Member, done: Suspended) -> Response:
    """What was suspended, and what is left."""
    return member.page("suspended.html", suspended=done, codes=done.codes)


def ref_of(thing: str) -> Ref:
    """Raises `NotFound`."""
    found = suspensions.parse(thing)
    if found is None:
        raise NotFound
    return found
