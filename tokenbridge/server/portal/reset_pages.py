"""Forgotten your password: the user name, one code, another method, the new password. Nobody is signed in by it."""

from __future__ import annotations

from typing import Final

from fastapi import APIRouter
from starlette.responses import JSONResponse, Response

from tokenbridge.errors import (
    BadRequest,
    NotAllowedNow,
    NotFound,
    Rejected,
    Retry,
    SendFailed,
    TokenbridgeError,
    TooMany,
)
from tokenbridge.rp.proof import Method
from tokenbridge.server import problems
from tokenbridge.server.browsers import device_of
from tokenbridge.server.login import APPROVED_ELSEWHERE
from tokenbridge.server.portal import cookies, message_views
from tokenbridge.server.portal.front import see_other
from tokenbridge.server.portal.member import SignedIn
from tokenbridge.server.portal.profile_pages import typed_twice
from tokenbridge.server.portal.sign_in_pages import MAX_CODE, MAX_SENT, MAX_USERNAME, PAGES
from tokenbridge.server.portal.visit import Visit, Visitor
from tokenbridge.server.self_service import password_reset
from tokenbridge.server.self_service.password_reset import Stage, Standing
from tokenbridge.server.self_service.reset_proofs import PasswordResetDesk
from tokenbridge.server.store.password_resets import LIFETIME

router = APIRouter(include_in_schema=False)

SECONDS: Final = int(LIFETIME.total_seconds())
BEGIN: Final = "/password-reset"
STEP: Final = "/password-reset/step"


@router.get(BEGIN)
async def ask(visit: Visitor) -> Response:
    _desk(visit)
    return visit.front.page(visit, "reset.html")


@router.post(BEGIN)
async def begin(visit: Visitor) -> Response:
    """Goes on for every name in the same way."""
    desk, username = _desk(visit), visit.text("username", MAX_USERNAME)
    if not username:
        missing = BadRequest("Enter your user name.", next_step="Fill in the field.")
        return visit.front.page(visit, "reset.html", 400, error=missing)
    return _with(see_other(STEP), await desk.begin(username))


@router.post("/self-service/password/forgotten")
async def begin_signed_in(member: SignedIn) -> Response:
    """For whoever has signed in with a card or key: that is the first method."""
    token = await _desk(member.visit).begin_signed_in(member.session, member.request_id)
    return _with(see_other(STEP), token)


@router.get(STEP)
async def step(visit: Visitor) -> Response:
    return await _step_page(visit)


@router.post(STEP)
async def next_step(visit: Visitor) -> Response:
    """A code, or that the telephone has answered."""
    desk, by = _desk(visit), visit.text("by", 32)
    try:
        if by in APPROVED_ELSEWHERE:
            new = await desk.approval(_token(visit), _who(visit))
        else:
            code = visit.text("code", MAX_CODE)
            if by not in PAGES or not code:
                raise BadRequest("Enter the code.", next_step="Fill in the field.")
            new = await desk.code(_token(visit), Method(by), code, _who(visit))
    except (BadRequest, Rejected, TooMany, NotAllowedNow) as err:
        return await _step_page(visit, error=err)
    return _with(see_other(STEP), new)


@router.post("/password-reset/send")
async def send(visit: Visitor) -> Response:
    by = visit.text("by", 32)
    if by not in PAGES:
        return see_other(STEP)
    try:
        begun = await _desk(visit).send(_token(visit), Method(by), _who(visit))
    except (SendFailed, TooMany, NotAllowedNow) as err:
        return await _step_page(visit, error=err)
    if not begun.typed:
        return see_other(f"{STEP}?by={begun.method}")
    return await _step_page(visit, by=begun.method, sent=begun.sent_to)


@router.get("/password-reset/approval")
async def asked(visit: Visitor) -> Response:
    """Whether the telephone has answered, for the page that waits for it."""
    found = await _desk(visit).asked(_token(visit))
    return JSONResponse({"waiting": found is not None and found.waiting})


@router.get("/password-reset/message")
async def message(visit: Visitor) -> Response:
    """Whether the message did not get there, for the page that waits for its code."""
    _desk(visit)
    return await message_views.news_of(visit, _token(visit))


@router.get("/password-reset/new")
async def ask_new(visit: Visitor) -> Response:
    standing = await _standing(visit)
    if standing is None or standing.stage is not Stage.PASSWORD:
        return see_other(STEP)
    return visit.front.page(visit, "reset-new.html")


@router.post("/password-reset/new")
async def set_new(visit: Visitor) -> Response:
    at = "new"
    try:
        different = typed_twice(visit)
        if different is not None:
            at = "again"
            raise different
        await _desk(visit).finish(_token(visit), visit.fields.get("new", ""), _who(visit))
    except BadRequest as err:
        return visit.front.page(visit, "reset-new.html", 400, error=err, at=at)
    answer = see_other("/password-reset/done")
    cookies.drop(answer, cookies.RESET, cookies.SESSION)
    return answer


@router.get("/password-reset/done")
async def done(visit: Visitor) -> Response:
    _desk(visit)
    return visit.front.page(visit, "reset-done.html")


def _desk(visit: Visit) -> PasswordResetDesk:
    """Raises `NotFound` where resets are switched off."""
    if visit.front.resets is None:
        raise NotFound
    return visit.front.resets


def _token(visit: Visit) -> str:
    return cookies.get(visit.request, cookies.RESET)


def _who(visit: Visit) -> password_reset.Visitor:
    device = device_of(visit.request.headers.get("user-agent", ""))
    return password_reset.Visitor(where=visit.where, device=device, request=visit.request_id)


def _with(answer: Response, token: str) -> Response:
    cookies.put(answer, cookies.RESET, token, SECONDS)
    return answer


async def _standing(visit: Visit) -> Standing | None:
    return await _desk(visit).standing(_token(visit), visit.where)


async def _step_page(
    visit: Visit, *, error: TokenbridgeError | None = None, by: Method | None = None, sent: str = ""
) -> Response:
    """The page of what the reset awaits; `error` is shown there, or where it begins when it is over."""
    standing = await _standing(visit)
    status = 200 if error is None else int(problems.status(error))
    if standing is None:
        return see_other(BEGIN) if error is None else visit.front.page(visit, "reset.html", status, error=error)
    if standing.stage is Stage.PASSWORD:
        return see_other("/password-reset/new")
    ways = [method for method in standing.ways if method in PAGES]
    if not ways:
        return visit.front.page(visit, "reset-one.html")
    if isinstance(error, Rejected) and error.retry is not Retry.AGAIN:
        return visit.front.page(visit, "reset.html", status, error=error)
    wanted = str(by or visit.fields.get("by") or visit.request.query_params.get("by", ""))
    seen = await message_views.view_of(visit, _token(visit), wanted, ways)
    elsewhere = seen.by in APPROVED_ELSEWHERE
    asked = await _desk(visit).asked(_token(visit)) if elsewhere else None
    return visit.front.page(
        visit,
        "reset-step.html",
        status,
        error=error,
        by=str(seen.by),
        sent=seen.sent or sent or visit.text("sent", MAX_SENT),
        undelivered=seen.lost,
        replaces=bool(seen.sent),
        asked=asked if asked is not None and asked.method is seen.by else None,
        barred_until=await _desk(visit).barred_until(_token(visit)) if elsewhere else None,
        others=[str(method) for method in seen.ways if method is not seen.by],
        second=standing.stage is Stage.SECOND,
        step_at=STEP,
        send_at="/password-reset/send",
        poll_at="/password-reset/approval",
        message_at="/password-reset/message",
    )
