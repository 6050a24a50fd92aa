"""A request of somebody who administers accounts. Everybody else is told that there is no such page."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar

from fastapi import Depends
from starlette.responses import HTMLResponse

from tokenbridge.errors import RequestRefused
from tokenbridge.server import problems
from tokenbridge.server.administration.authority import Authority, Task
from tokenbridge.server.administration.desks import Administration
from tokenbridge.server.portal.member import Member, SignedIn
from tokenbridge.server.portal.visit import Visit

T = TypeVar("T")


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

    def form(self, template: str, error: RequestRefused | None = None, **values: Any) -> HTMLResponse:
        """The page of a form; after `error` again, with what was wrong."""
        return self.page(template, 200 if error is None else int(problems.status(error)), error=error, **values)

    async def look(self, run: Callable[..., T], *given: Any) -> T:
        """What a desk says to this session, beside the event loop."""
        return await asyncio.to_thread(run, self.session, *given)

    async def change(self, run: Callable[..., T], *given: Any, **named: Any) -> T:
        """As `look`, for what is put on record with this request."""
        return await asyncio.to_thread(run, self.session, *given, self.request_id, **named)

    async def may(self, task: Task, account_id: int = 0) -> str:
        """As `Directory.may`."""
        return await asyncio.to_thread(self.desks.directory.may, self.session, task, self.request_id, account_id)


async def admin(member: SignedIn) -> Admin:
    """Raises `NotFound` for everybody else, `StepUp` below two factors, and as `member` does."""
    directory = member.front.administration.directory
    return Admin(member=member, authority=await asyncio.to_thread(directory.authority, member.session))


Administers = Annotated[Admin, Depends(admin)]
