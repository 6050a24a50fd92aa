"""The authenticator app: download it, scan the code, type what it shows, done; and removing it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, Final

from fastapi import APIRouter
from starlette.responses import Response

from tokenbridge.errors import LastFactor, NotAllowedNow, Rejected, TooMany
from tokenbridge.rp.proof import Method
from tokenbridge.server import problems
from tokenbridge.server.portal.front import see_other
from tokenbridge.server.portal.member import SignedIn
from tokenbridge.server.portal.qr import picture

router = APIRouter(include_in_schema=False)

MAX_CODE: Final = 16


@router.get("/self-service/app")
async def begin(member: SignedIn) -> Response:
    profiles = member.front.profiles
    await asyncio.to_thread(profiles.may_change, member.session, "set up an authenticator app", member.request_id)
    return member.page("app.html", has_app=Method.TOTP in member.profile.methods)


@router.get("/self-service/app/scan")
async def scan(member: SignedIn) -> Response:
    """Loading it anew goes on with what was begun: the app may have scanned that."""
    methods = member.front.methods
    try:
        made = await methods.pending_app(member.session)
    except NotAllowedNow:
        made = (await methods.enrol(member.session, Method.TOTP, "", member.request_id)).shown
    return member.page("app-scan.html", **shown(made))


@router.post("/self-service/app/scan")
async def confirm(member: SignedIn) -> Response:
    """Recovery codes that were made with it are in the answer, and nowhere else: they are shown once."""
    methods, code = member.front.methods, member.visit.text("code", MAX_CODE)
    try:
        made = await methods.confirm(member.session, Method.TOTP, code, member.request_id, with_codes=True)
    except (Rejected, TooMany) as err:
        again = await methods.pending_app(member.session)
        return member.page("app-scan.html", int(problems.status(err)), error=err, **shown(again))
    if made:
        return member.page("recovery-codes-new.html", codes=made, also="Your authenticator app is set up.")
    return see_other("/self-service?done=app")


@router.get("/self-service/app/remove")
async def ask_remove(member: SignedIn) -> Response:
    profiles = member.front.profiles
    await asyncio.to_thread(profiles.may_change, member.session, "remove the authenticator app", member.request_id)
    return member.page("remove.html", what="your authenticator app", back="/self-service")


@router.post("/self-service/app/remove")
async def remove(member: SignedIn) -> Response:
    confirmed = member.visit.text("last", 8) == "yes"
    try:
        await member.front.methods.remove_app(member.session, member.request_id, confirmed=confirmed)
    except LastFactor as err:
        return member.page("remove.html", 409, what="your authenticator app", back="/self-service", error=err)
    return see_other("/self-service?done=app-removed")


def shown(made: Mapping[str, Any]) -> dict[str, Any]:
    """What the page of a set-up shows: the QR code, and the secret in groups."""
    secret = made["secret"]
    groups = [secret[at : at + 4] for at in range(0, len(secret), 4)]
    return {"picture": picture(made["uri"]), "secret": " ".join(groups), "uri": made["uri"]}
