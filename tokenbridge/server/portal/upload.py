"""Forms with files. Nothing of one is read before its sender's session has shown that it may send it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Annotated, Final

from fastapi import Depends
from python_multipart.exceptions import FormParserError
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request

from tokenbridge.errors import BadRequest, TooMany
from tokenbridge.rp.metadata_blob import MAX_BLOB_BYTES
from tokenbridge.server import certificate_files
from tokenbridge.server.administration import people_rows
from tokenbridge.server.administration.authority import Task
from tokenbridge.server.portal.admin import Admin, admin
from tokenbridge.server.portal.member import member
from tokenbridge.server.portal.visit import FORM, MAX_FIELDS, arrived, checked, media_type, pairs_of
from tokenbridge.server.store import throttle
from tokenbridge.server.store.throttle import Limit

MULTIPART: Final = "multipart/form-data"
MAX_FILES: Final = 2
SLACK: Final = 64 << 10
"""Bytes of a form around what it is for."""
MAX_POLICY: Final = 256 << 10
UPLOADS: Final = Limit(kind="admin-uploads", most=30)


@dataclass(frozen=True, slots=True, kw_only=True)
class Room:
    """How many bytes a form may have, and who may send it."""

    most: int
    task: Task


# What is pasted may come once more as it was shown, and a form without files is longer than its text.
ROOMS: Final[Mapping[str, Room]] = MappingProxyType(
    {
        "/admin/import": Room(most=3 * people_rows.MAX_UPLOAD + SLACK, task=Task.MANAGE),
        "/admin/trust/add": Room(most=4 * certificate_files.MAX_BYTES + SLACK, task=Task.GOVERN),
        "/admin/models": Room(most=MAX_BLOB_BYTES + SLACK, task=Task.GOVERN),
        "/admin/policy/edit": Room(most=3 * MAX_POLICY + SLACK, task=Task.GOVERN),
    }
)
SIZES: Final[Mapping[str, int]] = MappingProxyType({path: room.most for path, room in ROOMS.items()})


@dataclass(frozen=True, slots=True, kw_only=True)
class Upload:
    """A form that was sent by somebody who may. `files` hold what was chosen, by field; an empty choice is none."""

    admin: Admin
    files: Mapping[str, bytes]

    def text(self, name: str, most: int) -> str:
        """A field as it is, blanks around it included. Raises `BadRequest` when it is longer."""
        value = self.admin.visit.fields.get(name, "")
        if len(value) > most:
            raise BadRequest("A field of the form is too long.", next_step="Go back and send less.")
        return value


class _Parser(MultiPartParser):
    # Bounded as it is: files of people and policies have no business on the disk.
    spool_max_size = MAX_BLOB_BYTES + SLACK


async def upload(request: Request) -> Upload:
    """Raises `NoSession`, `NotFound`, `StepUp`, `TooMany`, `BodyTooLarge`, and as `visit` does."""
    room = ROOMS[request.url.path]
    found = await admin(await member(arrived(request)))
    await asyncio.to_thread(_permit, found, room.task)
    if media_type(request) == MULTIPART:
        pairs, files = await _parts(request, room.most)
    elif media_type(request) == FORM:
        pairs, files = pairs_of(await request.body()), {}
    else:
        raise BadRequest
    visit = replace(found.visit, fields=checked(found.visit, pairs))
    return Upload(admin=replace(found, member=replace(found.member, visit=visit)), files=files)


Uploads = Annotated[Upload, Depends(upload)]


def _permit(who: Admin, task: Task) -> None:
    who.desks.directory.may(who.session, task, who.request_id)
    changes = who.desks.directory.gate.changes
    now = changes.clock()
    with changes.database.write() as tx:
        allowed = throttle.allow(tx, UPLOADS, str(who.authority.live.account.id), now)
    if not allowed:
        raise TooMany(seconds=throttle.wait(UPLOADS, now))


async def _parts(request: Request, most: int) -> tuple[list[tuple[str, str]], dict[str, bytes]]:
    """Fields and files of a form as RFC 7578 has it. Raises `BadRequest`, and what the body raises."""
    limits = {"max_files": MAX_FILES, "max_fields": MAX_FIELDS}
    try:
        form = await _Parser(request.headers, request.stream(), max_part_size=most, **limits).parse()
    except (MultiPartException, FormParserError, HTTPException, ValueError) as err:
        raise BadRequest("The form can't be understood.", detail=repr(err)) from err
    pairs: list[tuple[str, str]] = []
    files: dict[str, bytes] = {}
    try:
        for name, value in form.multi_items():
            if isinstance(value, str):
                pairs.append((name, value))
            elif name in files:
                raise BadRequest("The form can't be understood.", detail="a file comes twice")
            else:
                files[name] = await value.read()
    finally:
        await form.close()
    return pairs, {name: data for name, data in files.items() if data}
