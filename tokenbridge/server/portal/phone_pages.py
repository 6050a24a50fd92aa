"""Text and WhatsApp messages: the number, the code that confirms it, done; WhatsApp on or off; removing a number."""

from __future__ import annotations

import asyncio
from typing import Annotated, Final

from fastapi import APIRouter, Path
from starlette.responses import Response

from tokenbridge.errors import BadRequest, NumberUnfit, Rejected, SendFailed, SendFault, TooMany
from tokenbridge.rp.proof import Method
from tokenbridge.server import problems
from tokenbridge.server.portal import message_views, removal
from tokenbridge.server.portal.front import see_other
from tokenbridge.server.portal.member import SignedIn

router = APIRouter(include_in_schema=False)

MAX_NUMBER: Final = 64
MAX_CODE: Final = 16
MAX_SENT_TO: Final = 64
OPTIONAL: Final = (Method.WHATSAPP, Method.VOICE)

REMOVED: Final = removal.Kind(
    listed="phones",
    named="sent_to",
    words="the number {}",
    unknown="this number",
    back="/self-service/phone",
    done="phone-removed",
)

Number = Annotated[int, Path(ge=1, le=2**31 - 1)]


@router.get("/self-service/phone")
async def listed(member: SignedIn) -> Response:
    return member.page("phones.html", **await member.front.methods.listed(member.session))


@router.get("/self-service/phone/add")
async def ask(member: SignedIn) -> Response:
    """Who may not add one is told before typing it."""
    profiles = member.front.profiles
    await asyncio.to_thread(profiles.may_change, member.session, "add a phone number", member.request_id)
    return member.page("phone-add.html", number="")


@router.post("/self-service/phone/add")
async def send(member: SignedIn) -> Response:
    """A code goes to the number; it counts once that is typed."""
    number = member.visit.text("number", MAX_NUMBER)
    try:
        offer = await member.front.methods.enrol(member.session, Method.SMS, number, member.request_id)
    except (NumberUnfit, SendFailed, TooMany) as err:
        return member.page("phone-add.html", int(problems.status(err)), error=err, number=number)
    return member.page("phone-confirm.html", sent_to=offer.begun.sent_to if offer.begun is not None else "")


@router.get("/self-service/phone/message")
async def message(member: SignedIn) -> Response:
    """Whether the message did not get there, for the page that waits for its code."""
    fate = await asyncio.to_thread(member.front.deliveries.of_setup, member.session)
    return message_views.news(fate, "")


@router.get("/self-service/phone/undelivered")
async def undelivered(member: SignedIn) -> Response:
    error = SendFailed(SendFault.RECIPIENT)
    error.message, error.hint = "The message could not be delivered.", "Check the number, or use another one."
    return member.page("phone-add.html", error=error, number="")


@router.post("/self-service/phone/confirm")
async def confirm(member: SignedIn) -> Response:
    code = member.visit.text("code", MAX_CODE)
    try:
        await member.front.methods.confirm(member.session, Method.SMS, code, member.request_id)
    except (Rejected, TooMany) as err:
        sent_to = member.visit.text("sent_to", MAX_SENT_TO)
        return member.page("phone-confirm.html", int(problems.status(err)), error=err, sent_to=sent_to)
    return see_other("/self-service/phone?done=phone")


@router.post("/self-service/phone/{phone_id}/way")
async def way(member: SignedIn, phone_id: Number) -> Response:
    """WhatsApp messages or voice calls on or off for a number."""
    on, by = member.visit.text("on", 8) == "yes", member.visit.text("by", 16)
    if by not in OPTIONAL:
        raise BadRequest
    await member.front.methods.set_way(member.session, phone_id, Method(by), member.request_id, on=on)
    return see_other("/self-service/phone?done=phone-changed")


@router.get("/self-service/phone/{phone_id}/remove")
async def ask_remove(member: SignedIn, phone_id: Number) -> Response:
    return await removal.page(member, REMOVED, phone_id)


@router.post("/self-service/phone/{phone_id}/remove")
async def remove(member: SignedIn, phone_id: Number) -> Response:
    return await removal.carry_out(member, REMOVED, phone_id, member.front.methods.remove_phone)
