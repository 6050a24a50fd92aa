"""Removing one of several things of an account: the page that asks, and the form that does it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from starlette.responses import Response

from tokenbridge.errors import LastFactor
from tokenbridge.server import problems
from tokenbridge.server.portal.front import see_other
from tokenbridge.server.portal.member import Member


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """`listed` and `named`: where `methods.listed` has the things, and which of their members is the name. `words` hold
    the name, `unknown` stands for one that is gone. `back`: the page of all; `done`: what it then says."""

    listed: str
    named: str
    words: str
    unknown: str
    back: str
    done: str


async def page(member: Member, kind: Kind, number: int, error: LastFactor | None = None) -> Response:
    found = (await member.front.methods.listed(member.session))[kind.listed]
    name = next((row[kind.named] for row in found if row["id"] == number), None)
    status = 200 if error is None else int(problems.status(error))
    what = kind.unknown if name is None else kind.words.format(name)
    return member.page("remove.html", status, what=what, back=kind.back, error=error)


async def carry_out(member: Member, kind: Kind, number: int, remove: Callable[..., Awaitable[None]]) -> Response:
    """Where nothing but the password would be left, the page asks once more."""
    confirmed = member.visit.text("last", 8) == "yes"
    try:
        await remove(member.session, number, member.request_id, confirmed=confirmed)
    except LastFactor as err:
        return await page(member, kind, number, err)
    return see_other(f"{kind.back}?done={kind.done}")
