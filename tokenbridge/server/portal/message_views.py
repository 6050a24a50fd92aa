"""What pages that wait for a code say of its message: that it is lost, or that a text message has taken its place."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from starlette.responses import JSONResponse, Response

from tokenbridge.rp.proof import Method
from tokenbridge.server.deliveries import Fate
from tokenbridge.server.portal.visit import Visit


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageView:
    """`by`: with which method the page opens, of those in `ways`. `sent`: to which number a text message went in place
    of a WhatsApp message, masked; empty: none did. `lost`: the message of `by` did not get there."""

    by: Method
    ways: tuple[Method, ...]
    sent: str = ""
    lost: bool = False


async def view_of(visit: Visit, token: str, wanted: str, ways: Sequence[Method]) -> MessageView:
    """What a page says that is to open with the method `wanted`, or with the first of `ways`, which are not none."""
    return view(await asyncio.to_thread(visit.front.deliveries.fate, token), wanted, tuple(ways))


def view(fate: Fate | None, wanted: str, ways: tuple[Method, ...]) -> MessageView:
    by = next((method for method in ways if method == wanted), ways[0])
    if fate is None:
        return MessageView(by=by, ways=ways)
    replaced = fate.replaces and not fate.lost and Method.SMS in ways
    no_way_any_more = wanted == Method.WHATSAPP and by is not Method.WHATSAPP  # the number is not on WhatsApp
    if Method.SMS in ways and (no_way_any_more or (replaced and by is Method.WHATSAPP)):
        by = Method.SMS
    if replaced:
        left = tuple(method for method in ways if method is not Method.WHATSAPP)
        return MessageView(by=by, ways=left, sent=fate.sent_to if by is Method.SMS else "")
    about = by is fate.method or (fate.replaces and by is Method.WHATSAPP) or (no_way_any_more and by is Method.SMS)
    return MessageView(by=by, ways=ways, lost=fate.lost and about)


async def news_of(visit: Visit, token: str) -> Response:
    """For a page that waits for the code of a message: whether there is something new to say, after which it asks no
    more."""
    fate = await asyncio.to_thread(visit.front.deliveries.fate, token)
    return news(fate, visit.request.query_params.get("by", ""))


def news(fate: Fate | None, by: str) -> Response:
    lost = fate is not None and fate.lost
    instead = fate is not None and fate.replaces and not lost and by == Method.WHATSAPP
    return JSONResponse({"undelivered": lost, "instead": instead})
