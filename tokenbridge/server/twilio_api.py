"""Where Twilio tells which key was pressed in a call (TwiML, <Gather>). Only what Twilio has signed is read.

https://www.twilio.com/docs/usage/security, "Validating requests".
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
from collections.abc import Mapping
from typing import Final
from urllib.parse import parse_qsl

from fastapi import APIRouter, Request
from starlette.responses import Response

from tokenbridge.errors import BadRequest, OriginRefused
from tokenbridge.server.senders import twilio
from tokenbridge.server.voice_calls import VoiceCalls

router = APIRouter(include_in_schema=False)

MAX_FIELDS: Final = 100
MAX_HANDLE: Final = 64


@router.post(twilio.ANSWERS + "{handle}")
async def pressed(handle: str, request: Request) -> Response:
    """Answers what is said in the call then. Raises `OriginRefused` for what Twilio has not signed."""
    lines: twilio.Lines = request.app.state.twilio
    calls: VoiceCalls = request.app.state.voice_calls
    fields = _fields(await request.body())
    address = f"{lines.callback}{twilio.ANSWERS}{handle}"
    wanted = signature(lines.token, address, fields)
    given = request.headers.get("x-twilio-signature", "")
    if len(handle) > MAX_HANDLE or not hmac.compare_digest(wanted, given.encode("utf-8", "surrogatepass")):
        raise OriginRefused("That does not come from the telephone service.")
    request_id = str(request.state.request_id)
    heard = await asyncio.to_thread(calls.pressed, handle, fields.get("Digits", ""), request_id)
    return Response(twilio.spoken(heard), media_type="application/xml")


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
