"""Security keys and cards: the list, registering, renaming and removing keys."""

from __future__ import annotations

import asyncio
import datetime as dt
from typing import Annotated, Final

from fastapi import APIRouter, Path
from starlette.responses import JSONResponse, Response

from tokenbridge.errors import BadRequest, LastFactor, NotAllowedNow, NotFound, Rejected
from tokenbridge.server import problems
from tokenbridge.server.key_desk import KeyDesk
from tokenbridge.server.key_enrolment import MAX_NAME
from tokenbridge.server.portal.front import Front, see_other
from tokenbridge.server.portal.member import Member, SignedIn
from tokenbridge.server.portal.sign_in_pages import credential

router = APIRouter(include_in_schema=False)

MAX_TOKEN: Final = 128
KeyId = Annotated[int, Path(ge=1, le=2**31 - 1)]


def desk(front: Front) -> KeyDesk:
    """Raises `NotAllowedNow` where keys can't be had."""
    if front.key_desk is None:
        raise NotAllowedNow("This server takes no security keys.", next_step="Set up another method.")
    return front.key_desk


@router.get("/self-service/keys")
async def listed(member: SignedIn) -> Response:
    found = await desk(member.front).listed(member.session)
    dates = (("created", "created"), ("last_used", "last_used"), ("suspended", "suspended_at"))
    keys = [{**key, **{name: _date(key[at]) for name, at in dates}} for key in found["keys"]]
    recognised = await asyncio.to_thread(member.front.suspensions.recognised, member.session)
    return member.page("keys.html", keys=keys, recognised=recognised)


@router.get("/self-service/keys/add")
async def ask_add(member: SignedIn) -> Response:
    profiles = member.front.profiles
    await asyncio.to_thread(profiles.may_change, member.session, "register a key", member.request_id)
    return member.page("key-add.html", begin="/self-service/keys/options", back="/self-service/keys")


@router.post("/self-service/keys/options")
async def options(member: SignedIn) -> Response:
    """What the browser asks the new key for."""
    begun = await desk(member.front).begin_signed_in(member.session, member.request_id)
    return JSONResponse({"registration": begun.token, "options": begun.options})


@router.post("/self-service/keys/add")
async def add(member: SignedIn) -> Response:
    """The new key. Recovery codes that were made with it are in the answer, and nowhere else."""
    visit = member.visit
    try:
        added = await desk(member.front).complete(
            visit.text("registration", MAX_TOKEN),
            credential(visit),
            visit.text("name", MAX_NAME) or None,
            member.request_id,
        )
    except (Rejected, BadRequest) as err:
        return member.page(
            "key-add.html",
            int(problems.status(err)),
            error=err,
            begin="/self-service/keys/options",
            back="/self-service/keys",
        )
    if added.recovery_codes:
        return member.page("recovery-codes-new.html", codes=added.recovery_codes, also=added.sentence)
    return see_other("/self-service/keys?done=key")


@router.get("/self-service/keys/{key_id}/rename")
async def ask_rename(member: SignedIn, key_id: KeyId) -> Response:
    return member.page("key-rename.html", name=await _name(member, key_id))


@router.post("/self-service/keys/{key_id}/rename")
async def rename(member: SignedIn, key_id: KeyId) -> Response:
    name = member.visit.fields.get("name", "")[: MAX_NAME * 2]
    try:
        await desk(member.front).rename(member.session, key_id, name, member.request_id)
    except BadRequest as err:
        return member.page("key-rename.html", 400, name=name, error=err)
    return see_other("/self-service/keys?done=key-renamed")


@router.get("/self-service/keys/{key_id}/remove")
async def ask_remove(member: SignedIn, key_id: KeyId) -> Response:
    await asyncio.to_thread(member.front.profiles.may_change, member.session, "remove a key", member.request_id)
    return member.page("remove.html", what=f"the key “{await _name(member, key_id)}”", back="/self-service/keys")


@router.post("/self-service/keys/{key_id}/remove")
async def remove(member: SignedIn, key_id: KeyId) -> Response:
    name, confirmed = await _name(member, key_id), member.visit.text("last", 8) == "yes"
    try:
        await desk(member.front).remove(member.session, key_id, member.request_id, confirmed=confirmed)
    except LastFactor as err:
        return member.page("remove.html", 409, what=f"the key “{name}”", back="/self-service/keys", error=err)
    return see_other("/self-service/keys?done=key-removed")


async def _name(member: Member, key_id: int) -> str:
    found = await desk(member.front).listed(member.session)
    name = next((str(key["name"]) for key in found["keys"] if key["id"] == key_id), None)
    if name is None:
        raise NotFound("There is no such key in this account.", next_step="See the list of your keys.")
    return name


def _date(text: str | None) -> dt.datetime | None:
    return dt.datetime.fromisoformat(text) if text else None
