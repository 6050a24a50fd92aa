"""What to do when phone, key or card are lost: before signing in, and afterwards."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.responses import Response

from tokenbridge.server.portal.member import SignedIn
from tokenbridge.server.portal.visit import Visitor

router = APIRouter(include_in_schema=False)


@router.get("/lost")
async def before(visit: Visitor) -> Response:
    """For those who can't sign in."""
    return visit.front.page(visit, "lost.html")


@router.get("/self-service/lost")
async def after(member: SignedIn) -> Response:
    """For those who could, by another way: what is lost has to go."""
    return member.page("lost-something.html")
