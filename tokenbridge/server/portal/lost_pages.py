"""Lost phone, key or card: what, what is still there, the way in; then what goes, and what takes its place."""

from __future__ import annotations

import asyncio

from fastapi import APIRouter
from starlette.responses import Response

from tokenbridge.errors import BadRequest, LastFactor, NotFound, TokenbridgeError
from tokenbridge.server import problems
from tokenbridge.server.portal.front import see_other
from tokenbridge.server.portal.member import Member, SignedIn
from tokenbridge.server.portal.suspension_pages import suspended
from tokenbridge.server.portal.visit import Visit, Visitor
from tokenbridge.server.self_service.lost import Kind

router = APIRouter(include_in_schema=False)


@router.get("/lost")
async def before(visit: Visitor) -> Response:
    """For those who are not signed in."""
    return visit.front.page(visit, "lost.html")


@router.get("/lost/next")
async def chosen_before(visit: Visitor) -> Response:
    what = _ticked(visit)
    if what:
        return see_other(f"/lost/{what}")
    return visit.front.page(visit, "lost.html", 400, error=_nothing_chosen())


@router.get("/lost/{what}")
async def left(visit: Visitor, what: str) -> Response:
    """What is still there, and by that the way in; the purpose is kept through the sign-in."""
    return visit.front.page(visit, "lost-left.html", what=what, kinds=_kinds(what))


@router.get("/lost/{what}/nothing-left")
async def nothing_left(visit: Visitor, what: str) -> Response:
    _kinds(what)
    return visit.front.page(visit, "lost-nothing.html", what=what)


@router.get("/self-service/lost")
async def after(member: SignedIn) -> Response:
    return member.page("lost-something.html")


@router.get("/self-service/lost/next")
async def chosen_after(member: SignedIn) -> Response:
    what = _ticked(member.visit)
    if what:
        return see_other(f"/self-service/lost/{what}")
    return member.page("lost-something.html", 400, error=_nothing_chosen())


@router.get("/self-service/lost/{what}")
async def show(member: SignedIn, what: str) -> Response:
    return await _page(member, what)


@router.post("/self-service/lost/{what}")
async def remove(member: SignedIn, what: str) -> Response:
    """New recovery codes are in this answer and nowhere else, so it does not redirect."""
    kinds, fields, lost = _kinds(what), member.visit.fields, member.front.lost
    if fields.get("report") == "yes":
        await asyncio.to_thread(lost.report, member.session, kinds, member.request_id)
        return member.page("lost-reported.html", what=what)
    chosen, codes = frozenset(name for name, value in fields.items() if value == "yes"), fields.get("codes") == "yes"
    try:
        if fields.get("act") == "suspend":
            suspend, last = member.front.suspensions.suspend, fields.get("last") == "yes"
            kept = await asyncio.to_thread(
                suspend, member.session, chosen, member.request_id, new_codes=codes, confirmed=last
            )
            return suspended(member, kept)
        done = await asyncio.to_thread(lost.remove, member.session, kinds, chosen, member.request_id, new_codes=codes)
    except (BadRequest, LastFactor) as err:
        return await _page(member, what, err)
    return member.page("lost-done.html", removed=done, codes=done.codes, kinds=kinds)


async def _page(member: Member, what: str, error: TokenbridgeError | None = None) -> Response:
    kinds = _kinds(what)
    found = await asyncio.to_thread(member.front.lost.look, member.session, kinds)
    template = "lost-remove.html" if found.weak is None else "lost-weak.html"
    status = 200 if error is None else int(problems.status(error))
    return member.page(template, status, error=error, found=found, kinds=kinds, what=what)


def _ticked(visit: Visit) -> str:
    """The chosen kinds as the part of an address that keeps them, such as `phone-card`; empty: none."""
    return "-".join(kind for kind in Kind if visit.request.query_params.get(kind))


def _kinds(what: str) -> frozenset[Kind]:
    """Raises `NotFound`."""
    found = frozenset(kind for kind in Kind if kind in what.split("-"))
    if not found or what != "-".join(kind for kind in Kind if kind in found):
        raise NotFound
    return found


def _nothing_chosen() -> BadRequest:
    return BadRequest("Choose what is lost.", next_step="Choose at least one.")
