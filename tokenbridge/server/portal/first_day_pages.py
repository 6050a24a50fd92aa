"""The first day: somebody who has nothing yet sets something up with a one-time enrolment code."""

from __future__ import annotations

import asyncio
import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from typing import Any, Final

from fastapi import APIRouter
from starlette.responses import JSONResponse, Response

from tokenbridge.errors import BadRequest, NotAllowedNow, Rejected, RejectReason, SetupError, TokenbridgeError, TooMany
from tokenbridge.server import problems
from tokenbridge.server.key_enrolment import MAX_NAME
from tokenbridge.server.portal import cookies
from tokenbridge.server.portal.app_pages import MAX_CODE, shown
from tokenbridge.server.portal.front import see_other
from tokenbridge.server.portal.key_pages import MAX_TOKEN, desk
from tokenbridge.server.portal.sign_in_pages import MAX_USERNAME, credential
from tokenbridge.server.portal.visit import Visit, Visitor

router = APIRouter(include_in_schema=False)

MAX_ENROLMENT_CODE: Final = 64
PERMIT_SECONDS: Final = 1800
WAYS: Final = ("app", "key")

_CONTEXT: Final = "first day"


@router.get("/first-day")
async def ask(visit: Visitor) -> Response:
    return visit.front.page(visit, "first-day.html")


@router.post("/first-day")
async def begin(visit: Visitor) -> Response:
    """Check name and code, and go on to the page of what was chosen."""
    username, code = visit.text("username", MAX_USERNAME), visit.text("code", MAX_ENROLMENT_CODE)
    way = visit.text("way", 8)
    try:
        if not username or not code or way not in WAYS:
            raise BadRequest("Enter your user name and the code, and choose one.", next_step="Fill in all fields.")
        await asyncio.to_thread(visit.front.first_app.check, username, code, visit.request_id)
    except (BadRequest, Rejected, TooMany) as err:
        return visit.front.page(
            visit, "first-day.html", int(problems.status(err)), error=err, username=username, way=way
        )
    answer = see_other(f"/first-day/{way}")
    cookies.put(answer, cookies.PERMIT, _seal(visit, username, code), PERMIT_SECONDS)
    return answer


@router.get("/first-day/app")
async def scan(visit: Visitor) -> Response:
    username, code = _permit(visit)
    made = await asyncio.to_thread(visit.front.first_app.begin, username, code, visit.request_id)
    return visit.front.page(visit, "app-scan.html", **shown(made))


@router.post("/first-day/app")
async def app_done(visit: Visitor) -> Response:
    first, (username, code) = visit.front.first_app, _permit(visit)
    app_code = visit.text("code", MAX_CODE)
    try:
        made = await asyncio.to_thread(first.complete, username, code, app_code, visit.request_id)
    except Rejected as err:
        if err.reason is not RejectReason.CODE_WRONG:
            raise
        again = await asyncio.to_thread(first.pending, username, code, visit.request_id)
        return visit.front.page(visit, "app-scan.html", int(problems.status(err)), error=err, **shown(again))
    return _ready(visit, made, "Your authenticator app is set up.")


@router.get("/first-day/key")
async def key(visit: Visitor) -> Response:
    _permit(visit)
    return _key_page(visit)


@router.post("/first-day/key/options")
async def options(visit: Visitor) -> Response:
    username, code = _permit(visit)
    begun = await desk(visit.front).begin_with_code(username, code, visit.request_id)
    return JSONResponse({"registration": begun.token, "options": begun.options})


@router.post("/first-day/key")
async def key_done(visit: Visitor) -> Response:
    try:
        added = await desk(visit.front).complete(
            visit.text("registration", MAX_TOKEN),
            credential(visit),
            visit.text("name", MAX_NAME) or None,
            visit.request_id,
        )
    except (Rejected, BadRequest) as err:
        return _key_page(visit, err)
    return _ready(visit, added.recovery_codes, added.sentence)


def _key_page(visit: Visit, error: TokenbridgeError | None = None) -> Response:
    status = 200 if error is None else int(problems.status(error))
    return visit.front.page(
        visit, "key-add.html", status, error=error, begin="/first-day/key/options", back="/first-day"
    )


def _ready(visit: Visit, codes: tuple[str, ...], also: str) -> Response:
    answer = visit.front.page(visit, "recovery-codes-new.html", codes=codes, also=also, first_day=True)
    cookies.drop(answer, cookies.PERMIT)
    return answer


def _seal(visit: Visit, username: str, code: str) -> str:
    content = json.dumps([username, code]).encode()
    return urlsafe_b64encode(visit.front.keys.ring().encrypt(content, context=_CONTEXT)).decode("ascii")


def _permit(visit: Visit) -> tuple[str, str]:
    """Raises `NotAllowedNow` when the first page was not filled in."""
    try:
        raw = urlsafe_b64decode(cookies.get(visit.request, cookies.PERMIT).encode("ascii"))
        found: Any = json.loads(visit.front.keys.ring().decrypt(raw, context=_CONTEXT))
    except (SetupError, ValueError) as err:
        raise NotAllowedNow("Your name and code are not known any more.", next_step="Start at the first page.") from err
    username, code = found
    return str(username), str(code)
