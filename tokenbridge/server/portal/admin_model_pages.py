"""Models of security keys: what is accepted, what is in use, and the metadata that says what they are."""

from __future__ import annotations

from typing import Final

from fastapi import APIRouter
from starlette.responses import Response

from tokenbridge.errors import BadRequest
from tokenbridge.server.portal.admin import Admin, Administers
from tokenbridge.server.portal.front import see_other
from tokenbridge.server.portal.upload import Uploads

router = APIRouter(include_in_schema=False)

MAX_TEXT: Final = 128


@router.get("/admin/models")
async def models(admin: Administers) -> Response:
    return await _page(admin)


@router.post("/admin/models")
async def load(sent: Uploads) -> Response:
    """A metadata blob from a file."""
    blob = sent.files.get("blob", b"")
    try:
        if not blob:
            raise BadRequest("No file was chosen.", next_step="Choose the blob of the metadata service.")
        await sent.admin.change(sent.admin.desks.models.load, blob, sent.files.get("root", b""))
    except BadRequest as err:
        return await _page(sent.admin, err)
    return see_other("/admin/models?done=metadata")


async def _page(admin: Admin, error: BadRequest | None = None) -> Response:
    text = admin.visit.request.query_params.get("q", "").strip()[:MAX_TEXT]
    rules = await admin.look(admin.desks.standing.key_rules)
    view = await admin.look(admin.desks.models.view, text)
    return admin.form("models.html", error, view=view, rules=rules, text=text)
