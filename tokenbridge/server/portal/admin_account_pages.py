"""Accounts for those who administer them: finding, adding, and changing one; each change asks first."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from types import MappingProxyType
from typing import Annotated, Final, TypeAlias

from fastapi import APIRouter, Path
from starlette.responses import Response

from tokenbridge.errors import BadRequest, NotFound
from tokenbridge.server.administration.acts import Held, NewCode
from tokenbridge.server.administration.authority import Task
from tokenbridge.server.portal.admin import Admin, Administers
from tokenbridge.server.portal.front import see_other
from tokenbridge.server.store.accounts import NewAccount

router = APIRouter(include_in_schema=False)

MAX_TEXT: Final = 256
MOST_PAGES: Final = 10_000

Number = Annotated[int, Path(ge=1, le=2**31 - 1)]
Run: TypeAlias = Callable[[Admin, int], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Action:
    """A change that needs nothing but a yes."""

    title: str
    text: str
    button: str
    done: str
    run: Run


def _switch(*, disabled: bool) -> Run:
    def run(admin: Admin, account_id: int) -> None:
        admin.desks.accounts.set_disabled(admin.session, account_id, admin.request_id, disabled=disabled)

    return run


ACTIONS: Final = MappingProxyType(
    {
        "disable": Action(
            title="Disable",
            text="Nobody can sign in to this account until it is enabled again. All its sessions end at once.",
            button="Disable the account",
            done="disabled",
            run=_switch(disabled=True),
        ),
        "enable": Action(
            title="Enable",
            text="The owner can sign in again, with what is set up.",
            button="Enable the account",
            done="enabled",
            run=_switch(disabled=False),
        ),
        "end-sessions": Action(
            title="End all sessions of",
            text="The owner is signed out everywhere, and can sign in again.",
            button="End all sessions",
            done="their-sessions-ended",
            run=lambda admin, which: admin.desks.accounts.end_sessions(admin.session, which, admin.request_id),
        ),
    }
)


@router.get("/admin/accounts")
async def search(admin: Administers) -> Response:
    given = admin.visit.request.query_params
    text, page = given.get("q", "").strip()[:MAX_TEXT].replace("\0", ""), given.get("page", "")
    at = min(int(page), MOST_PAGES) if page.isascii() and page.isdigit() and len(page) < 9 else 0
    found = await admin.look(admin.desks.directory.search, text, at)
    return admin.page("accounts.html", found=found, text=text, at=at)


@router.get("/admin/accounts/add")
async def ask_add(admin: Administers) -> Response:
    await admin.may(Task.MANAGE)
    return admin.page("add.html")


@router.post("/admin/accounts/add")
async def add(admin: Administers) -> Response:
    given = {name: admin.visit.text(name, MAX_TEXT) for name in ("username", "display_name", "email", "organisation")}
    new = NewAccount(
        username=given["username"],
        display_name=given["display_name"],
        email=given["email"] or None,
        organisation=given["organisation"],
    )
    try:
        made = await admin.change(admin.desks.accounts.add, new)
    except BadRequest as err:
        return admin.form("add.html", err, given=given)
    return see_other(f"/admin/accounts/{made}?done=added")


@router.get("/admin/accounts/{account_id}")
async def one(admin: Administers, account_id: Number) -> Response:
    return await _about(admin, "account.html", account_id)


@router.get("/admin/accounts/{account_id}/code")
async def ask_code(admin: Administers, account_id: Number) -> Response:
    return admin.page("code.html", username=await admin.may(Task.MANAGE, account_id), account_id=account_id)


@router.post("/admin/accounts/{account_id}/code")
async def code(admin: Administers, account_id: Number) -> Response:
    made = await admin.change(admin.desks.accounts.new_code, account_id)
    return _code_page(admin, account_id, made, reset=False)


@router.get("/admin/accounts/{account_id}/reset")
async def ask_reset(admin: Administers, account_id: Number) -> Response:
    await admin.may(Task.RESET, account_id)
    return await _about(admin, "reset.html", account_id)


@router.post("/admin/accounts/{account_id}/reset")
async def reset(admin: Administers, account_id: Number) -> Response:
    kinds = [kind for kind in Held if admin.visit.text(f"remove-{kind}", 8) == "yes"]
    made = await admin.change(admin.desks.help_desk.reset, account_id, kinds)
    return _code_page(admin, account_id, made, reset=True)


@router.get("/admin/accounts/{account_id}/groups")
async def ask_groups(admin: Administers, account_id: Number) -> Response:
    await admin.may(Task.MANAGE, account_id)
    return await _about(admin, "groups.html", account_id)


@router.post("/admin/accounts/{account_id}/groups")
async def groups(admin: Administers, account_id: Number) -> Response:
    name, accounts = admin.visit.text("name", MAX_TEXT), admin.desks.accounts
    change = accounts.leave if admin.visit.text("leave", 8) == "yes" else accounts.join
    try:
        await admin.change(change, account_id, name)
    except BadRequest as err:
        return await _about(admin, "groups.html", account_id, err)
    return see_other(f"/admin/accounts/{account_id}/groups?done=group")


@router.get("/admin/accounts/{account_id}/organisation")
async def ask_organisation(admin: Administers, account_id: Number) -> Response:
    await admin.may(Task.MANAGE, account_id)
    return await _about(admin, "organisation.html", account_id)


@router.post("/admin/accounts/{account_id}/organisation")
async def organisation(admin: Administers, account_id: Number) -> Response:
    try:
        name = admin.visit.text("organisation", MAX_TEXT)
        await admin.change(admin.desks.accounts.set_organisation, account_id, name)
    except BadRequest as err:
        return await _about(admin, "organisation.html", account_id, err)
    return see_other(f"/admin/accounts/{account_id}?done=organisation")


@router.get("/admin/accounts/{account_id}/{action}")
async def ask(admin: Administers, account_id: Number, action: str) -> Response:
    wanted = _action(action)
    return admin.page(
        "confirm.html", action=wanted, username=await admin.may(Task.MANAGE, account_id), account_id=account_id
    )


@router.post("/admin/accounts/{account_id}/{action}")
async def act(admin: Administers, account_id: Number, action: str) -> Response:
    wanted = _action(action)
    await asyncio.to_thread(wanted.run, admin, account_id)
    return see_other(f"/admin/accounts/{account_id}?done={wanted.done}")


def _action(name: str) -> Action:
    found = ACTIONS.get(name)
    if found is None:
        raise NotFound
    return found


async def _about(admin: Admin, template: str, account_id: int, error: BadRequest | None = None) -> Response:
    """A page about one account; with `error` its form again."""
    view = await admin.look(admin.desks.directory.one, account_id)
    return admin.form(template, error, view=view)


def _code_page(admin: Admin, account_id: int, made: NewCode, *, reset: bool) -> Response:
    """The code is in this answer and nowhere else: it is shown once."""
    return admin.page("code-made.html", made=made, account_id=account_id, reset=reset)
