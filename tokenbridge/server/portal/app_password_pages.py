"""App passwords: which there are, a new one, shown once, and taking one back."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path
from starlette.responses import Response

from tokenbridge.errors import BadRequest
from tokenbridge.server.portal.front import see_other
from tokenbridge.server.portal.member import Member, SignedIn

router = APIRouter(include_in_schema=False)

MAX_NAME = 64

Number = Annotated[int, Path(ge=1, le=2**31 - 1)]


@router.get("/self-service/app-passwords")
async def listed(member: SignedIn) -> Response:
    return await _page(member)


@router.post("/self-service/app-passwords")
async def make(member: SignedIn) -> Response:
    """The password is in this answer and nowhere else, so it does not redirect."""
    client, name = member.visit.text("client", MAX_NAME), member.visit.text("name", MAX_NAME)
    try:
        made = await member.front.app_passwords.make(member.session, client, name, member.request_id)
    except BadRequest as err:
        return await _page(member, error=err, name=name)
    return member.page("app-password-new.html", made=made)


@router.post("/self-service/app-passwords/{password_id}/revoke")
async def revoke(member: SignedIn, password_id: Number) -> Response:
    await member.front.app_passwords.revoke(member.session, password_id, member.request_id)
    return see_other("/self-service/app-passwords?done=app-password-revoked")


async def _page(member: Member, error: BadRequest | None = None, name: str = "") -> Response:
    found = await member.front.app_passwords.listed(member.session)
    status = 200 if error is None else 400
    return member.page("app-passwords.html", status, error=error, name=name, **found)
