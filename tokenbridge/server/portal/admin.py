"""A request of somebody who administers accounts. Everybody else is told that there is no such page."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import Depends
from starlette.responses import HTMLResponse

from tokenbridge.server.administration.authority import Authority, Task
from tokenbridge.server.administration.desks import Administration
from tokenbridge.server.portal.member import Member, SignedIn
from tokenbridge.server.portal.visit import Visit


@dataclass(frozen=True, slots=True, kw_only=True)
class Admin:
    member: Member
    authority: Authority

    @property
    def desks(self) -> Administration:
        return self.member.front.administration

    @property
    def visit(self) -> Visit:
        return self.member.visit

    @property
    def session(self) -> str:
        return self.member.session

    @property
    def request_id(self) -> str:
        return self.member.request_id

    @property
    def manages(self) -> bool:
        return self.authority.may(Task.MANAGE)

    def page(self, template: str, status: int = 200, **values: Any) -> HTMLResponse:
        return self.member.page(f"admin/{template}", status, admin=self, **values)


async def admin(member: SignedIn) -> Admin:
    """Raises `NotFound` for everybody else, `StepUp` below two factors, and as `member` does."""
    directory = member.front.administration.directory
    return Admin(member=member, authority=await asyncio.to_thread(directory.authority, member.session))


Administers = Annotated[Admin, Depends(admin)]
