"""One card or key of an account, for those who help: suspending it, lifting that, removing it; each asks first."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from fastapi import APIRouter
from starlette.responses import Response

from tokenbridge.errors import NotFound
from tokenbridge.server.administration.help_desk import HelpDesk
from tokenbridge.server.portal.admin import Administers
from tokenbridge.server.portal.admin_account_pages import Number
from tokenbridge.server.portal.front import see_other
from tokenbridge.server.portal.suspension_pages import Thing, ref_of

router = APIRouter(include_in_schema=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Act:
    """`run` names a method of `HelpDesk`."""

    title: str
    text: str
    button: str
    done: str
    run: str


ACTS: Final = MappingProxyType(
    {
        "suspend": Act(
            title="Suspend",
            text="It signs in nowhere until that is lifted, and sessions that were opened with it end.",
            button="Suspend",
            done="suspended",
            run=HelpDesk.suspend.__name__,
        ),
        "lift": Act(
            title="Lift the suspension of",
            text="It signs in again. Make sure that its owner has it.",
            button="Lift the suspension",
            done="lifted",
            run=HelpDesk.lift.__name__,
        ),
        "remove": Act(
            title="Remove",
            text="It signs in no more, and all sessions of the account end.",
            button="Remove",
            done="device-removed",
            run=HelpDesk.remove.__name__,
        ),
    }
)


@router.get("/admin/accounts/{account_id}/devices/{thing}/{act}")
async def ask(admin: Administers, account_id: Number, thing: Thing, act: str) -> Response:
    wanted = _act(act)
    desk = admin.desks.help_desk
    username, device = await asyncio.to_thread(desk.device, admin.session, account_id, ref_of(thing), admin.request_id)
    return admin.page("device.html", act=wanted, username=username, device=device, account_id=account_id)


@router.post("/admin/accounts/{account_id}/devices/{thing}/{act}")
async def do(admin: Administers, account_id: Number, thing: Thing, act: str) -> Response:
    wanted = _act(act)
    await admin.change(getattr(admin.desks.help_desk, wanted.run), account_id, ref_of(thing))
    return see_other(f"/admin/accounts/{account_id}?done={wanted.done}")


def _act(name: str) -> Act:
    found = ACTS.get(name)
    if found is None:
        raise NotFound
    return found
