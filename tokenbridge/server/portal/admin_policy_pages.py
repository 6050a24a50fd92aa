"""The policy: in words, in an editor, checked against every account, applied, and put back."""

from __future__ import annotations

import hashlib
from typing import Annotated, Any, Final

from fastapi import APIRouter, Path
from starlette.responses import Response

from tokenbridge.errors import BadRequest, NotAllowedNow, PolicyInvalid
from tokenbridge.rp.policy_lines import line_of
from tokenbridge.server.administration.authority import Task
from tokenbridge.server.administration.policy_changes import Checked, Proposal
from tokenbridge.server.client_address import client_address
from tokenbridge.server.policy_place import NO_FILE
from tokenbridge.server.portal.admin import Admin, Administers
from tokenbridge.server.portal.admin_import_pages import attachment
from tokenbridge.server.portal.front import see_other
from tokenbridge.server.portal.upload import MAX_POLICY, Upload, Uploads

router = APIRouter(include_in_schema=False)

MAX_TEXT: Final = 256
MOST_FAULTS: Final = 100
BEGINNING: Final = '[[rule]]\nname = "default"\n'
"""What holds without a file, written down."""

Number = Annotated[int, Path(ge=1, le=2**31 - 1)]


@router.get("/admin/policy")
async def policy(admin: Administers) -> Response:
    view = await admin.look(admin.desks.standing.in_force)
    return admin.page("policy.html", view=view, replaced=await admin.look(admin.desks.policy.replaced))


@router.get("/admin/policy/edit")
async def ask_edit(admin: Administers) -> Response:
    await admin.may(Task.GOVERN)
    opened = await admin.look(admin.desks.policy.open)
    content = opened.held.content if opened.held.digest != NO_FILE else BEGINNING.encode()
    return await _editor(admin, content.decode("utf-8", "replace"), opened.held.digest)


@router.get("/admin/policy/editions/{number}")
async def ask_put_back(admin: Administers, number: Number) -> Response:
    """The editor with a text that was in force before: it is checked and applied like any other."""
    await admin.may(Task.GOVERN)
    content = await admin.look(admin.desks.policy.edition, number)
    opened = await admin.look(admin.desks.policy.open)
    return await _editor(admin, content.decode("utf-8", "replace"), opened.held.digest, again=number)


@router.post("/admin/policy/edit")
async def edit(sent: Uploads) -> Response:
    """Faults, or what the text would change; or the text as a file; or, with the other button, the change itself."""
    admin, text, what = sent.admin, _text(sent), sent.text("do", 8)
    given = Proposal(
        content=text.encode("utf-8", "surrogatepass"),
        seen=sent.text("seen", 64),
        typed=sent.text("confirm", MAX_TEXT),
        address=client_address(admin.visit.request),
    )
    # What is applied is what was looked at: a text that was changed since is checked again.
    same = hashlib.sha256(given.content).hexdigest() == sent.text("checked", 64)
    try:
        if what != "apply" or not same:
            checked = await admin.look(admin.desks.policy.check, given)
            if what == "save":
                return attachment("policy.toml", given.content, "application/toml")
            return _checked(admin, text, given, checked)
        asked = await admin.change(admin.desks.policy.apply, given)
    except PolicyInvalid as err:
        return await _faults(admin, text, given, err)
    except NotAllowedNow as err:
        return await _editor(admin, text, given.seen, error=err)
    return see_other("/admin/policy?done=policy") if asked is None else _checked(admin, text, given, asked)


def _text(sent: Upload) -> str:
    # Browsers send line ends as CR LF (HTML, form submission).
    text = sent.text("text", 2 * MAX_POLICY).replace("\r\n", "\n")
    if len(text) > MAX_POLICY:
        raise BadRequest(f"The policy is longer than {MAX_POLICY >> 10} KiB.", next_step="Put the file in place.")
    return text


def _checked(admin: Admin, text: str, given: Proposal, checked: Checked) -> Response:
    error = BadRequest(f"Type “{checked.words}” to confirm.") if given.typed and checked.words else None
    digest = hashlib.sha256(given.content).hexdigest()
    return admin.form("policy-check.html", error, text=text, seen=given.seen, checked=checked, digest=digest)


async def _faults(admin: Admin, text: str, given: Proposal, err: PolicyInvalid) -> Response:
    count = len(err.faults)
    error = BadRequest(
        f"The policy has {count} fault{'' if count == 1 else 's'}.", next_step="Mend the text and check it again."
    )
    found = [(line_of(text, fault), fault) for fault in err.faults[:MOST_FAULTS]]
    found.sort(key=lambda place: place[0] or 0)
    return await _editor(admin, text, given.seen, error=error, faults=found)


async def _editor(
    admin: Admin, text: str, seen: str, error: BadRequest | NotAllowedNow | None = None, **more: Any
) -> Response:
    opened = await admin.look(admin.desks.policy.open)
    values = {"text": text, "seen": seen, "outdated": seen != opened.held.digest, "hindrance": opened.hindrance, **more}
    return (
        admin.page("policy-edit.html", **values) if error is None else admin.form("policy-edit.html", error, **values)
    )
