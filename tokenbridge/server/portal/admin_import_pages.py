"""Importing accounts from a CSV file or from pasted text, and taking the codes that were made for them."""

from __future__ import annotations

from typing import Final

from fastapi import APIRouter
from starlette.responses import Response

from tokenbridge.errors import BadRequest, FileFaulty
from tokenbridge.server.administration import spreadsheet
from tokenbridge.server.administration.authority import Task
from tokenbridge.server.administration.people_file import Imported
from tokenbridge.server.administration.people_rows import MAX_UPLOAD
from tokenbridge.server.portal.admin import Admin, Administers
from tokenbridge.server.portal.front import see_other
from tokenbridge.server.portal.upload import Upload, Uploads

router = APIRouter(include_in_schema=False)

MOST_SHOWN: Final = 500
MOST_DAYS: Final = 14
USUAL_DAYS: Final = 7


@router.get("/admin/import")
async def ask_import(admin: Administers) -> Response:
    await admin.may(Task.MANAGE)
    return admin.page("import.html", waiting=await admin.look(admin.desks.people.waiting))


@router.post("/admin/import")
async def import_people(sent: Uploads) -> Response:
    """What would happen first; with the button below it, what did."""
    admin, text = sent.admin, ""
    try:
        data = _sent(sent)
        text = data.decode("utf-8-sig", "replace")
        if sent.text("do", 8) == "go":
            return await _imported(sent, data)
        found = await admin.change(admin.desks.people.check, data)
    except BadRequest as err:
        # What came from a file is mended there: a text beside the next file would be one too many.
        return _refused(admin, err, "" if sent.files else text)
    if sent.text("do", 8) == "list":
        return attachment("import.csv", _listed(found))
    return admin.page("import-check.html", imported=found, text=text, shown=MOST_SHOWN, days=USUAL_DAYS)


@router.get("/admin/import/codes")
async def ask_codes(admin: Administers) -> Response:
    """Where one comes back to after step-up."""
    await admin.may(Task.MANAGE)
    return see_other("/admin/import")


@router.post("/admin/import/codes")
async def codes(admin: Administers) -> Response:
    sheet = admin.visit.text("sheet", 9)
    if not (sheet.isascii() and sheet.isdigit()):
        raise BadRequest
    return attachment("enrolment-codes.csv", await admin.change(admin.desks.people.take_codes, int(sheet)))


def attachment(name: str, data: bytes, media_type: str = "text/csv; charset=utf-8") -> Response:
    """A file to be saved under `name`."""
    return Response(data, media_type=media_type, headers={"content-disposition": f'attachment; filename="{name}"'})


def _sent(sent: Upload) -> bytes:
    """The file, or the pasted text with the line ends that it had before the browser sent it (CR LF, says HTML)."""
    file, pasted = sent.files.get("file", b""), sent.text("csv", 2 * MAX_UPLOAD).replace("\r\n", "\n")
    if file and pasted.strip():
        raise BadRequest("There is a file and pasted text.", next_step="Give one of them.")
    if not file and not pasted.strip():
        raise BadRequest("There is neither a file nor text.", next_step="Choose a file, or paste its text.")
    return file or pasted.encode("utf-8", "surrogatepass")


async def _imported(sent: Upload, data: bytes) -> Response:
    admin = sent.admin
    days = _days(sent) if sent.text("codes", 8) == "yes" else 0
    done = await admin.change(admin.desks.people.run, data, code_days=days)
    return admin.page("imported.html", imported=done, waiting=await admin.look(admin.desks.people.waiting))


def _days(sent: Upload) -> int:
    text = sent.text("days", 8).strip()
    days = int(text) if text.isascii() and text.isdigit() else 0
    if not 1 <= days <= MOST_DAYS:
        raise BadRequest(f"Codes live 1 to {MOST_DAYS} days.")
    return days


def _refused(admin: Admin, error: BadRequest, text: str) -> Response:
    if not isinstance(error, FileFaulty):
        return admin.form("import.html", error, text=text)
    count = len(error.faults)
    told = f"Nothing was imported: {count} line{' is' if count == 1 else 's are'} wrong."
    return admin.form(
        "import.html", BadRequest(told, next_step=error.hint), text=text, faults=error.faults, shown=MOST_SHOWN
    )


def _listed(found: Imported) -> bytes:
    rows = [
        (str(one.line), one.username, str(one.fate), " ".join(one.changes), "; ".join(one.joined))
        for one in found.outcomes
    ]
    return spreadsheet.written(("line", "username", "what", "changes", "new_groups"), rows)
