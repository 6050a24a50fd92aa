"""Signing in and out: the first page, the step after it, and the page that says why nothing more was asked."""

from __future__ import annotations

import asyncio
import json
from typing import Any, Final

from fastapi import APIRouter
from starlette.responses import JSONResponse, Response

from tokenbridge.errors import (
    BadRequest,
    MethodNotOffered,
    NoSession,
    NotAllowedNow,
    Rejected,
    Retry,
    SendFailed,
    TokenbridgeError,
    TooMany,
)
from tokenbridge.rp.policy import Outcome
from tokenbridge.rp.proof import Method
from tokenbridge.rp.rules import FALLBACK, PORTAL
from tokenbridge.server import problems
from tokenbridge.server.browsers import device_of
from tokenbridge.server.ledger import MAX_TOKEN, Done
from tokenbridge.server.login import APPROVED_ELSEWHERE
from tokenbridge.server.portal import cookies, message_views
from tokenbridge.server.portal.front import see_other
from tokenbridge.server.portal.member import SignedIn
from tokenbridge.server.portal.visit import Visit, Visitor
from tokenbridge.server.sign_in import Waiting

router = APIRouter(include_in_schema=False)

MAX_USERNAME: Final = 128
MAX_PASSWORD: Final = 1024
MAX_CODE: Final = 64
MAX_SENT: Final = 64
MAX_MEMBERS: Final = 16

PAGES: Final = (*FALLBACK, Method.PASSWORD)
"""Methods that have a page for the second step, as `templates/step/METHOD.html`."""
_EXPECTED: Final = (Rejected, NotAllowedNow, TooMany, BadRequest)


@router.get("/sign-in")
async def ask(visit: Visitor) -> Response:
    """The first page; whoever is signed in already comes here to prove more, or not at all."""
    signed_in = await _is_signed_in(visit)
    if signed_in and not visit.onward:
        return see_other("/profile")
    return _first_page(visit, again=signed_in)


@router.post("/sign-in")
async def by_password(visit: Visitor) -> Response:
    username, password = visit.text("username", MAX_USERNAME), visit.fields.get("password", "")
    if not username or not 1 <= len(password) <= MAX_PASSWORD:
        missing = BadRequest("Enter your user name and your password.", next_step="Fill in both fields.")
        return _first_page(visit, error=missing, username=username)
    desk = visit.front.sign_ins
    ticket = await desk.start(PORTAL, visit.where)
    try:
        done = await desk.password(ticket.token, username, password, visit.request_id)
    except _EXPECTED as err:
        return _first_page(visit, error=err, username=username)
    return await _go_on(visit, ticket.token, done, wanted=_wanted(visit))


@router.post("/sign-in/key-options")
async def key_options(visit: Visitor) -> Response:
    """Begin a sign-in for a key, with or without a name: what the browser asks the key for."""
    ticket = await visit.front.sign_ins.start(PORTAL, visit.where, visit.text("username", MAX_USERNAME) or None)
    if ticket.key_options is None:
        raise NotAllowedNow("This server takes no security keys.", next_step="Use another way to sign in.")
    # Not in the cookie: another tab of the same browser may be at the second step of its own sign-in.
    return JSONResponse({"options": ticket.key_options, "sign_in": ticket.token})


@router.post("/sign-in/key")
async def by_key(visit: Visitor) -> Response:
    """A key's answer, on the first page (`sign_in` then says of which sign-in) or as the second step. The challenge is
    spent by it."""
    token = visit.text("sign_in", MAX_TOKEN) or cookies.get(visit.request, cookies.SIGN_IN)
    try:
        done = await visit.front.sign_ins.key(token, credential(visit), visit.request_id)
    except _EXPECTED as err:
        return _first_page(visit, error=err)
    return await _go_on(visit, token, done)


@router.get("/sign-in/step")
async def step(visit: Visitor) -> Response:
    """What is needed after the first proof."""
    waiting = await _waiting(visit)
    return see_other("/sign-in") if waiting is None else await _step_page(visit, waiting)


@router.post("/sign-in/step")
async def next_step(visit: Visitor) -> Response:
    """A code, or the password after a key."""
    waiting, token = await _waiting(visit), cookies.get(visit.request, cookies.SIGN_IN)
    if waiting is None and visit.text("by", 32) not in APPROVED_ELSEWHERE:
        return see_other("/sign-in")
    try:
        done = await _present(visit, waiting, token)
    except _EXPECTED as err:
        if err.retry is Retry.AGAIN and waiting is not None and await _waiting(visit) is not None:
            return await _step_page(visit, waiting, error=err)
        return _first_page(visit, error=err)
    return await _go_on(visit, token, done)


@router.get("/sign-in/approval")
async def asked(visit: Visitor) -> Response:
    """Whether the telephone has answered, for the page that waits for it; it then sends its form."""
    found = await visit.front.sign_ins.asked(cookies.get(visit.request, cookies.SIGN_IN))
    return JSONResponse({"waiting": found is not None and found.waiting})


@router.get("/sign-in/message")
async def message(visit: Visitor) -> Response:
    """Whether the message did not get there, for the page that waits for its code; it then opens anew."""
    return await message_views.news_of(visit, cookies.get(visit.request, cookies.SIGN_IN))


@router.post("/sign-in/send")
async def send(visit: Visitor) -> Response:
    """Have a message sent, or the telephone asked. WhatsApp may turn out to be a text message; the page says what it
    was."""
    waiting, token = await _waiting(visit), cookies.get(visit.request, cookies.SIGN_IN)
    by = visit.text("by", 32)
    if waiting is None:
        return see_other("/sign-in")
    if by not in waiting.methods:
        raise MethodNotOffered
    try:
        device = device_of(visit.request.headers.get("user-agent", ""))
        begun = await visit.front.sign_ins.send(token, Method(by), visit.request_id, device)
    except (SendFailed, TooMany, NotAllowedNow) as err:
        if await _waiting(visit) is None:
            raise
        return await _step_page(visit, waiting, error=err)
    if not begun.typed:
        return see_other(step_address(visit.onward, begun.method))
    return await _step_page(visit, waiting, by=begun.method, sent=begun.sent_to)


@router.get("/signed-in")
async def signed_in(member: SignedIn) -> Response:
    """Why no second prompt came, or what was used, in one sentence."""
    sentence = await asyncio.to_thread(member.front.activity.sentence, member.profile.sign_in_ref)
    return member.page("signed-in.html", sentence=sentence)


@router.post("/sign-out")
async def sign_out(visit: Visitor) -> Response:
    if visit.session:
        await _end(visit)
    answer = see_other("/signed-out")
    cookies.drop(answer, cookies.SESSION)
    return answer


@router.get("/signed-out")
async def signed_out(visit: Visitor) -> Response:
    return visit.front.page(visit, "signed-out.html")


def credential(visit: Visit) -> dict[str, Any]:
    """The key's answer in a form: JSON, which the verifier checks and bounds. Raises `BadRequest`."""
    try:
        found = json.loads(visit.fields.get("credential", ""))
    except (ValueError, RecursionError) as err:
        raise BadRequest("The security key's answer can't be understood.") from err
    if not isinstance(found, dict) or len(found) > MAX_MEMBERS:
        raise BadRequest("The security key's answer can't be understood.")
    return found


async def _present(visit: Visit, waiting: Waiting | None, token: str) -> Done:
    desk, by = visit.front.sign_ins, visit.text("by", 32)
    if by in APPROVED_ELSEWHERE or waiting is None:  # what was declined is over, and says so
        return await desk.approval(token, visit.request_id)
    if by == Method.PASSWORD:
        password = visit.fields.get("password", "")
        if not 1 <= len(password) <= MAX_PASSWORD:
            raise _again("Enter your password.")
        return await desk.password(token, waiting.username, password, visit.request_id)
    code = visit.text("code", MAX_CODE)
    if by not in waiting.methods or not code:
        raise _again("Enter the code.")
    return await desk.code(token, code, visit.request_id, Method(by))


def _again(message: str) -> BadRequest:
    found = BadRequest(message, next_step="Fill in the field.")
    found.retry = Retry.AGAIN
    return found


async def _go_on(visit: Visit, token: str, done: Done, wanted: Method | None = None) -> Response:
    """To the page that fits what the sign-in has come to; `wanted`: with which method its next step opens."""
    if done.opened is not None:
        return await enter(visit, done.opened.token, onward=visit.onward)
    if done.answer is not None and done.answer.decision.outcome is Outcome.CHALLENGE:
        answer = see_other(step_address(visit.onward, wanted))
        cookies.put(answer, cookies.SIGN_IN, token, visit.front.sign_in_seconds)
        return answer
    sentence = done.answer.decision.sentence if done.answer is not None else ""
    return visit.front.page(visit, "denied.html", 403, sentence=sentence)


def _wanted(visit: Visit) -> Method | None:
    """With what the second step opens for those who come from the page of lost things."""
    asked = visit.text("by", 32) or visit.request.query_params.get("by", "")
    return Method.RECOVERY if asked == Method.RECOVERY else None


def step_address(onward: str, by: Method | None = None) -> str:
    asked = {"by": str(by) if by is not None else "", "next": onward}
    query = "&".join(f"{name}={value}" for name, value in asked.items() if value)
    return f"/sign-in/step?{query}" if query else "/sign-in/step"


async def enter(visit: Visit, session: str, *, onward: str) -> Response:
    """A new session has a new token, whatever the browser had before: the old session ends."""
    front = visit.front
    if visit.session:
        await _end(visit)
    device = device_of(visit.request.headers.get("user-agent", ""))
    await asyncio.to_thread(front.own_sessions.note_device, session, device)
    profile = await asyncio.to_thread(front.profiles.of, session)
    answer = see_other("/self-service/app" if profile.needs_method else onward or "/signed-in")
    cookies.put(answer, cookies.SESSION, session)
    cookies.drop(answer, cookies.SIGN_IN, cookies.VISIT)
    return answer


async def _end(visit: Visit) -> None:
    try:
        await visit.front.sessions.end(visit.session, visit.request_id)
    except NoSession:
        return


async def _is_signed_in(visit: Visit) -> bool:
    if not visit.session:
        return False
    try:
        await visit.front.sessions.look(visit.session)
    except NoSession:
        return False
    return True


async def _waiting(visit: Visit) -> Waiting | None:
    token = cookies.get(visit.request, cookies.SIGN_IN)
    return await visit.front.sign_ins.waiting(token) if token else None


def _first_page(
    visit: Visit, *, error: TokenbridgeError | None = None, username: str = "", again: bool = False
) -> Response:
    status = 200 if error is None else int(problems.status(error))
    return visit.front.page(
        visit,
        "sign-in.html",
        status,
        error=error,
        username=username,
        again=again,
        onward=visit.onward,
        wanted=_wanted(visit),
    )


async def _step_page(
    visit: Visit, waiting: Waiting, *, error: TokenbridgeError | None = None, by: Method | None = None, sent: str = ""
) -> Response:
    """`sent`: to which number a message went, masked."""
    ways = [method for method in waiting.methods if method in PAGES]
    if not ways:
        raise NotAllowedNow
    wanted = str(by or visit.fields.get("by") or visit.request.query_params.get("by", ""))
    seen = await message_views.view_of(visit, cookies.get(visit.request, cookies.SIGN_IN), wanted, ways)
    return visit.front.page(
        visit,
        "step.html",
        200 if error is None else int(problems.status(error)),
        error=error,
        by=str(seen.by),
        sent=seen.sent or sent or visit.text("sent", MAX_SENT),
        undelivered=seen.lost,
        replaces=bool(seen.sent),
        asked=waiting.asked if waiting.asked is not None and waiting.asked.method is seen.by else None,
        barred_until=waiting.barred_until,
        others=[str(method) for method in seen.ways if method is not seen.by],
        sentence=await asyncio.to_thread(visit.front.activity.sentence, waiting.ref),
        options=waiting.key_options,
        onward=visit.onward,
    )
