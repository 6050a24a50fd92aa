"""Profile, My Profile, Self-Service, and turning on multi-factor sign-in."""

from __future__ import annotations

import asyncio
from typing import Final

from fastapi import APIRouter
from starlette.responses import Response

from tokenbridge.errors import BadRequest, Rejected, TooMany
from tokenbridge.server import problems
from tokenbridge.server.portal.front import see_other
from tokenbridge.server.portal.member import SignedIn
from tokenbridge.server.portal.visit import Visit, Visitor

router = APIRouter(include_in_schema=False)

MAX_PASSWORD: Final = 1024


@router.get("/")
async def first(visit: Visitor) -> Response:
    return see_other("/profile" if visit.session else "/sign-in")


@router.get("/profile")
async def profile(member: SignedIn) -> Response:
    return member.page("profile.html")


@router.get("/profile/me")
async def my_profile(member: SignedIn) -> Response:
    sentence = await asyncio.to_thread(member.front.activity.sentence, member.profile.sign_in_ref)
    return member.page("my-profile.html", sentence=sentence)


@router.get("/self-service")
async def self_service(member: SignedIn) -> Response:
    return member.page("self-service.html")


@router.get("/self-service/mfa")
async def ask_mfa(member: SignedIn) -> Response:
    await asyncio.to_thread(member.front.profiles.may_change, member.session, "enable MFA", member.request_id)
    return member.page("mfa.html")


@router.post("/self-service/mfa")
async def enable_mfa(member: SignedIn) -> Response:
    await asyncio.to_thread(member.front.profiles.enable_mfa, member.session, member.request_id)
    return see_other("/self-service/mfa/done")


@router.get("/self-service/mfa/done")
async def mfa_done(member: SignedIn) -> Response:
    if member.profile.mfa_since is None:
        return see_other("/self-service/mfa")
    return member.page("mfa-done.html")


@router.get("/self-service/password")
async def ask_password(member: SignedIn) -> Response:
    profiles = member.front.profiles
    await asyncio.to_thread(profiles.may_change, member.session, "change the password", member.request_id)
    return member.page("password.html")


@router.post("/self-service/password")
async def change_password(member: SignedIn) -> Response:
    fields, at = member.visit.fields, "current"
    current, new = fields.get("current", ""), fields.get("new", "")
    try:
        if not 1 <= len(current) <= MAX_PASSWORD:
            raise BadRequest("Enter your current password.", next_step="Fill in the field.")
        different = typed_twice(member.visit)
        if different is not None:
            at = "again"
            raise different
        await member.front.passwords.change(member.session, current, new, member.request_id)
    except (BadRequest, Rejected, TooMany) as err:
        # What is refused beside the present password is the new one.
        at = "new" if isinstance(err, BadRequest) and current and at == "current" else at
        return member.page("password.html", int(problems.status(err)), error=err, at=at)
    return see_other("/self-service?done=password")


def typed_twice(visit: Visit) -> BadRequest | None:
    """What is wrong with the fields `new` and `again` of a new password; None when they are the same."""
    if visit.fields.get("new", "") == visit.fields.get("again", ""):
        return None
    return BadRequest("The new password was not typed the same twice.", next_step="Type it twice with care.")
