"""Trust anchors: looking at them, adding one from a file, another rule, removing; each change is shown first."""

from __future__ import annotations

from typing import Annotated, Any, Final

from fastapi import APIRouter, Path
from starlette.responses import Response

from tokenbridge.errors import BadRequest, RequestRefused
from tokenbridge.server import certificate_files
from tokenbridge.server.administration.authority import Task
from tokenbridge.server.administration.trust_changes import Asked, Changing
from tokenbridge.server.client_address import client_address
from tokenbridge.server.portal.admin import Admin, Administers
from tokenbridge.server.portal.front import see_other
from tokenbridge.server.portal.upload import Upload, Uploads
from tokenbridge.server.portal.visit import Visit
from tokenbridge.server.store.anchors import Anchor

router = APIRouter(include_in_schema=False)

MAX_TEXT: Final = 256
MAX_LINES: Final = 8192
MOST_BELOW: Final = 16
FLAGS: Final = ("hardware", "pin_enforced", "legacy_weak", "check_revocation", "map_nhs_uid", "map_upn", "map_email")
LISTS: Final = ("crl_urls", "ocsp_urls", "policy_oids")

Number = Annotated[int, Path(ge=1, le=2**31 - 1)]


@router.get("/admin/trust")
async def trust(admin: Administers) -> Response:
    return admin.page("trust.html", anchors=await admin.look(admin.desks.standing.trust))


@router.get("/admin/trust/add")
async def ask_add(admin: Administers) -> Response:
    await admin.may(Task.GOVERN)
    return admin.page("trust-add.html", rule={"check_revocation": True})


@router.post("/admin/trust/add")
async def add(sent: Uploads) -> Response:
    """What would be trusted first; with the button below it, trusted it is."""
    admin, rule = sent.admin, rule_of(sent.admin.visit)
    name = admin.visit.text("name", MAX_TEXT)
    try:
        anchor = _uploaded(sent, name, rule)
        if admin.visit.text("go", 8) == "yes":
            await admin.change(admin.desks.trust.add, anchor)
            return see_other("/admin/trust?done=trust-added")
        view = await admin.look(admin.desks.trust.look_at, anchor)
    except BadRequest as err:
        return admin.form("trust-add.html", err, name=name, rule=rule)
    pem = certificate_files.armored([anchor.certificate, *anchor.intermediates])
    return admin.page("trust-check.html", view=view, pem=pem, rule=rule, flags=FLAGS, lists=LISTS)


@router.get("/admin/trust/{number}")
async def ask_change(admin: Administers, number: Number) -> Response:
    await admin.may(Task.GOVERN)
    return await _rule_page(admin, number)


@router.post("/admin/trust/{number}")
async def change(admin: Administers, number: Number) -> Response:
    rule, given, desk = rule_of(admin.visit), _given(admin.visit), admin.desks.trust
    try:
        if admin.visit.text("go", 8) == "yes":
            asked = await admin.change(desk.change, number, rule, given)
        else:
            asked = await admin.look(desk.ask_change, number, rule, given)
    except RequestRefused as err:
        return await _rule_page(admin, number, err, rule)
    if asked is None:
        return see_other("/admin/trust?done=trust-changed")
    return _asked_page(admin, asked, given, rule=rule)


@router.get("/admin/trust/{number}/remove")
async def ask_remove(admin: Administers, number: Number) -> Response:
    await admin.may(Task.GOVERN)
    anchor = await admin.look(admin.desks.trust.one, number)
    given = Changing(digest=anchor.digest, address=client_address(admin.visit.request))
    return _asked_page(admin, await admin.look(admin.desks.trust.ask_removal, number, given), given)


@router.post("/admin/trust/{number}/remove")
async def remove(admin: Administers, number: Number) -> Response:
    given = _given(admin.visit)
    asked = await admin.change(admin.desks.trust.remove, number, given)
    if asked is None:
        return see_other("/admin/trust?done=trust-removed")
    return _asked_page(admin, asked, given)


def rule_of(visit: Visit) -> dict[str, Any]:
    """The rule that a form says; what it does not know (files of revocation lists) stays out. Raises `BadRequest`."""
    flags = {name: visit.text(name, 8) == "yes" for name in FLAGS}
    lists = {name: tuple(visit.text(name, MAX_LINES).split()) for name in LISTS}
    return {**flags, **lists}


def _uploaded(sent: Upload, name: str, rule: dict[str, Any]) -> Anchor:
    """The anchor of a form: from the files, or from the text in which the page before showed them."""
    if held := sent.text("pem", 4 * certificate_files.MAX_BYTES):
        first, *below = certificate_files.certificates(held.encode("ascii", "replace"))
        return Anchor(name=name, certificate=first, intermediates=tuple(below), **rule)
    if not sent.files.get("certificate"):
        raise BadRequest("No file was chosen.", next_step="Choose the certificate of the authority.")
    found = certificate_files.certificates(sent.files["certificate"])
    if len(found) != 1:
        raise BadRequest("The file holds several certificates.", next_step="Give those below it in the second file.")
    below = certificate_files.certificates(sent.files["below"]) if sent.files.get("below") else []
    if len(below) > MOST_BELOW:
        raise BadRequest(f"The second file holds more than {MOST_BELOW} certificates.", next_step="Leave some out.")
    return Anchor(name=name, certificate=found[0], intermediates=tuple(below), **rule)


def _given(visit: Visit) -> Changing:
    typed = visit.text("confirm", MAX_TEXT)
    return Changing(digest=visit.text("seen", 64), typed=typed, address=client_address(visit.request))


async def _rule_page(
    admin: Admin, number: int, error: RequestRefused | None = None, rule: dict[str, Any] | None = None
) -> Response:
    anchor = await admin.look(admin.desks.trust.one, number)
    return admin.form("trust-rule.html", error, anchor=anchor, number=number, rule=rule or anchor.rule())


def _asked_page(admin: Admin, asked: Asked, given: Changing, **values: Any) -> Response:
    error = BadRequest(f"Type “{asked.words}” to confirm.") if given.typed and asked.words else None
    template = "trust-remove.html" if asked.after is None else "trust-change.html"
    return admin.form(template, error, asked=asked, seen=given.digest, flags=FLAGS, lists=LISTS, **values)
