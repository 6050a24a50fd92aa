"""The dashboard and the audit trail."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from typing import Final

from fastapi import APIRouter
from starlette.responses import Response, StreamingResponse

from tokenbridge.errors import BadRequest
from tokenbridge.server.administration.authority import Task
from tokenbridge.server.administration.dashboard import SPANS
from tokenbridge.server.portal import plots
from tokenbridge.server.portal.admin import Administers
from tokenbridge.server.portal.front import see_other
from tokenbridge.server.store import accounts
from tokenbridge.server.store.audit import Search

router = APIRouter(include_in_schema=False)

MAX_TEXT: Final = 128
USUAL_DAYS: Final = 30


@router.get("/admin")
async def dashboard(admin: Administers) -> Response:
    """The help desk has no dashboard: it begins with finding somebody."""
    if not admin.manages:
        return see_other("/admin/accounts")
    asked = admin.visit.request.query_params.get("days", "")
    days = next((span for span in SPANS if str(span) == asked), USUAL_DAYS)
    picture = await admin.look(admin.desks.dashboard.picture, days)
    found = picture.statistics
    totals = {name: found.total(name) for name in ("signed_in", "suppressed", "shown", "failed")}
    return admin.page(
        "dashboard.html",
        picture=picture,
        spans=SPANS,
        totals=totals,
        by_day=plots.columns(found.days),
        methods=plots.by_method(found),
        levels=plots.by_level(found),
        causes=plots.by_cause(found),
    )


@router.get("/admin/audit")
async def audit(admin: Administers) -> Response:
    given = admin.visit.request.query_params
    try:
        entries = await admin.look(admin.desks.trail.search, search_of(given))
    except BadRequest as err:
        return admin.form("audit.html", err, given=given, entries=())
    return admin.page("audit.html", given=given, entries=entries)


@router.get("/admin/audit/export")
async def ask_export(admin: Administers) -> Response:
    """Where one comes back to after step-up."""
    await admin.may(Task.WATCH)
    return see_other("/admin/audit")


@router.post("/admin/audit/export")
async def export(admin: Administers) -> Response:
    trail = admin.desks.trail
    begun = await admin.change(trail.begin_export, search_of(admin.visit.fields))
    headers = {"content-disposition": 'attachment; filename="audit.jsonl"'}
    return StreamingResponse(trail.lines(begun), media_type="application/x-ndjson", headers=headers)


def search_of(given: Mapping[str, str]) -> Search:
    """What a form asks for. Raises `BadRequest`."""
    words = {name: given.get(name, "").strip() for name in ("user", "event", "text")}
    if any(len(word) > MAX_TEXT or "\0" in word for word in words.values()):
        raise BadRequest("What is searched for is too long.", next_step="Type less.")
    since, until = _day(given.get("since", "")), _day(given.get("until", ""))
    return Search(
        account=accounts.normal(words["user"]),
        event=words["event"],
        text=words["text"],
        since=since,
        until=until + dt.timedelta(days=1) if until is not None else None,
    )


def _day(text: str) -> dt.datetime | None:
    if not text.strip():
        return None
    try:
        found = dt.date.fromisoformat(text.strip())
        # The day after is asked for as well.
        return dt.datetime.combine(min(found, dt.date(9999, 12, 30)), dt.time.min, dt.UTC)
    except ValueError as err:
        raise BadRequest("That is not a day.", next_step="Write days as 2026-11-24.") from err
