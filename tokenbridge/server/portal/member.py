"""A request of somebody who is signed in."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import Depends
from starlette.responses import HTMLResponse

from tokenbridge.errors import NoSession
from tokenbridge.server.portal.front import Front
from tokenbridge.server.portal.visit import Visit, Visitor
from tokenbridge.server.self_service.profile import Profile


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    visit: Visit
    profile: Profile

    @property
    def front(self) -> Front:
        return self.visit.front

    @property
    def session(self) -> str:
        return self.visit.session

    @property
    def request_id(self) -> str:
        return self.visit.request_id

    def page(self, template: str, status: int = 200, **values: Any) -> HTMLResponse:
        """A page with the navigation of those who are signed in. `?done=` names what was just done, if we know it."""
        done = self.visit.request.query_params.get("done", "")
        return self.front.page(self.visit, template, status, profile=self.profile, done=done, **values)


async def member(visit: Visitor) -> Member:
    """Moves the session's idle limit. Raises `NoSession`, and as `visit` does."""
    if not visit.session:
        raise NoSession
    await visit.front.sessions.look(visit.session)
    return Member(visit=visit, profile=await asyncio.to_thread(visit.front.profiles.of, visit.session))


SignedIn = Annotated[Member, Depends(member)]
