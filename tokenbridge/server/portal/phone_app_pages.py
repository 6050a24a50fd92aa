"""Phone apps: the QR code that a phone scans, the number that it then shows, done; and removing a phone."""

from __future__ import annotations

import asyncio
from typing import Annotated, Final

from fastapi import APIRouter, Path
from starlette.responses import Response

from tokenbridge.errors import NotAllowedNow, NotAnswered, Rejected, TokenbridgeError, TooMany
from tokenbridge.server import problems
from tokenbridge.server.portal import removal
from tokenbridge.server.portal.front import see_other
from tokenbridge.server.portal.member import Member, SignedIn
from tokenbridge.server.portal.qr import picture

router = APIRouter(include_in_schema=False)

MAX_CODE: Final = 64
MAX_NUMBER: Final = 8

REMOVED: Final = removal.Kind(
    listed="phone_apps",
    named="name",
    words="the phone {}",
    unknown="this phone",
    back="/self-service/phone-app",
    done="phone-app-removed",
)

Number = Annotated[int, Path(ge=1, le=2**31 - 1)]


@router.get("/self-service/phone-app")
async def listed(member: SignedIn) -> Response:
    return member.page("phone-apps.html", **await member.front.methods.listed(member.session))


@router.post("/self-service/phone-app/add")
async def begin(member: SignedIn) -> Response:
    """A new QR code; those that were shown before are void."""
    code = await asyncio.to_thread(member.front.phone_apps.begin, member.session, member.request_id)
    return _scan_page(member, code)


@router.post("/self-service/phone-app/confirm")
async def confirm(member: SignedIn) -> Response:
    """The number that the phone shows."""
    apps, visit = member.front.phone_apps, member.visit
    code, number = visit.text("code", MAX_CODE), visit.text("number", MAX_NUMBER)
    try:
        await asyncio.to_thread(apps.complete, member.session, code, number, member.request_id)
    except (NotAnswered, Rejected, TooMany) as err:
        return _scan_page(member, code, err)
    except NotAllowedNow as err:
        found = await member.front.methods.listed(member.session)
        return member.page("phone-apps.html", int(problems.status(err)), error=err, **found)
    return see_other("/self-service/phone-app?done=phone-app")


@router.get("/self-service/phone-app/{phone_id}/remove")
async def ask_remove(member: SignedIn, phone_id: Number) -> Response:
    return await removal.page(member, REMOVED, phone_id)


@router.post("/self-service/phone-app/{phone_id}/remove")
async def remove(member: SignedIn, phone_id: Number) -> Response:
    return await removal.carry_out(member, REMOVED, phone_id, member.front.methods.remove_phone_app)


def _scan_page(member: Member, code: str, error: TokenbridgeError | None = None) -> Response:
    # What stands behind # is not sent to any server, so it gets into no log.
    address = f"{member.front.site}/phone/#{code}"
    status = 200 if error is None else int(problems.status(error))
    return member.page("phone-app-scan.html", status, error=error, code=code, picture=picture(address))
