"""Where Twilio tells which key was pressed in a call (TwiML, <Gather>), and what became of a message or a call
(StatusCallback). Only what Twilio has signed is read.

https://www.twilio.com/docs/usage/security, "Validating requests"; https://www.twilio.com/docs/voice/api/call-resource,
"Call status values".
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import re
from collections.abc import Mapping
from typing import Final
from urllib.parse import parse_qsl

from fastapi import APIRouter, Request
from starlette.responses import Response

from tokenbridge.errors import BadRequest, OriginRefused
from tokenbridge.server.deliveries import Deliveries
from tokenbridge.server.senders import twilio
from tokenbridge.server.store.approvals import Stage
from tokenbridge.server.voice_calls import VoiceCalls

router = APIRouter(include_in_schema=False)
reports = APIRouter(include_in_schema=False)

MAX_FIELDS: Final = 100
MAX_HANDLE: Final = 64
_UNDELIVERED: Final = frozenset({"failed", "undelivered"})
_NOT_TAKEN: Final = {
    "busy": Stage.BUSY,
    "no-answer": Stage.UNANSWERED,
    "failed": Stage.UNREACHED,
    "canceled": Stage.UNREACHED,
}
_ERROR: Final = re.compile(r"[0-9]{1,6}")


@router.post(twilio.ANSWERS + "{handle}")
async def pressed(handle: str, request: Request) -> Response:
    """Answers what is said in the call then. Raises `OriginRefused` for what Twilio has not signed."""
    calls: VoiceCalls = request.app.state.voice_calls
    fields = await _signed(request, request.app.state.twilio, twilio.ANSWERS, handle)
    request_id = str(request.state.request_id)
    heard = await asyncio.to_thread(calls.pressed, handle, fields.get("Digits", ""), request_id)
    return Response(twilio.spoken(heard), media_type="application/xml")


@reports.post(twilio.REPORTS + "{reference}", status_code=204)
async def delivered(reference: str, request: Request) -> Response:
    """Says nothing, whatever there is of that reference. Raises `OriginRefused` for what Twilio has not signed."""
    desk: Deliveries = request.app.state.deliveries
    fields = await _signed(request, request.app.state.reports.twilio, twilio.REPORTS, reference)
    status, error = fields.get("MessageStatus", ""), fields.get("ErrorCode", "")
    if status in _UNDELIVERED:
        code = int(error) if _ERROR.fullmatch(error) else 0
        why, gone = f"{status}, error {code}", twilio.is_recipient(code)
        await asyncio.to_thread(desk.failed, reference, why, str(request.state.request_id), unreachable=gone)
    return Response(status_code=204)


@reports.post(twilio.CALLS + "{handle}", status_code=204)
async def ended(handle: str, request: Request) -> Response:
    """As `delivered`, of a call."""
    calls: VoiceCalls = request.app.state.voice_calls
    fields = await _signed(request, request.app.state.reports.twilio, twilio.CALLS, handle)
    what = _NOT_TAKEN.get(fields.get("CallStatus", ""))
    if what is not None:
        await asyncio.to_thread(calls.not_taken, handle, what, str(request.state.request_id))
    return Response(status_code=204)


async def _signed(request: Request, lines: twilio.Lines, path: str, name: str) -> dict[str, str]:
    """The fields of a request to `path` and `name`, once it is clear that Twilio has signed them."""
    fields = _fields(await request.body())
    wanted = signature(lines.token, f"{lines.callback}{path}{name}", fields)
    given = request.headers.get("x-twilio-signature", "")
    if len(name) > MAX_HANDLE or not hmac.compare_digest(wanted, given.encode("utf-8", "surrogatepass")):
        raise OriginRefused("That does not come from the telephone service.")
    return fields


def signature(token: str, address: str, fields: Mapping[str, str]) -> bytes:
    """HMAC-SHA1 in base64 over the address and the fields, sorted by name, each name followed by its value."""
    signed = address + "".join(name + fields[name] for name in sorted(fields))
    return base64.b64encode(hmac.digest(token.encode(), signed.encode("utf-8", "surrogatepass"), hashlib.sha1))


def _fields(body: bytes) -> dict[str, str]:
    try:
        pairs = parse_qsl(body.decode("utf-8"), keep_blank_values=True, max_num_fields=MAX_FIELDS, errors="strict")
    except ValueError as err:
        raise BadRequest("The form can't be understood.", detail=str(err)) from err
    if len(dict(pairs)) != len(pairs):
        raise BadRequest("The form can't be understood.", detail="a field comes twice")
    return dict(pairs)
