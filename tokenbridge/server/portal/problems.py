"""How errors become pages: what happened, its code, what to do next, and a number to tell the service desk."""

from __future__ import annotations

from typing import Final

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Scope

from tokenbridge.errors import NoSession, NotFound, SetupError, StepUp, TokenbridgeError
from tokenbridge.server import problems
from tokenbridge.server.portal import cookies
from tokenbridge.server.portal.front import Front, see_other
from tokenbridge.server.portal.visit import local_path

OF_PROGRAMS: Final = ("/api/", "/openapi.json", "/healthz")
"""Addresses that are for programs, whatever they accept."""

_TITLES: Final = {
    403: "That was refused",
    404: "Page not found",
    405: "That can't be done here",
    413: "That is too large",
    429: "Too many attempts",
    503: "The service is not available",
}


def is_for_people(scope: Scope) -> bool:
    """Whether an error is shown as a page: browsers say that they take HTML, programs and scripts of pages do not."""
    accepted = Headers(scope=scope).get("accept", "")
    return "text/html" in accepted and not scope["path"].startswith(OF_PROGRAMS)


def page(front: Front, path: str, error: TokenbridgeError, request_id: str, status: int = 0) -> Response:
    """The page of an error; whoever is not signed in is asked to do so first."""
    if isinstance(error, NoSession):
        return _sign_in(path)
    shown = problems.BLAND if isinstance(error, SetupError) else error
    code = status or int(problems.status(error))
    return front.bare_page(
        "error.html",
        code,
        title="Sign in again for this" if isinstance(error, StepUp) else _TITLES.get(code, "Sorry, that did not work"),
        error=shown,
        next_step=_next_step(shown),
        request_id=request_id,
        again=local_path(path) if isinstance(error, StepUp) else "",
    )


def fault(front: Front, scope: Scope, error: TokenbridgeError, request_id: str) -> Response:
    """For errors that no handler saw."""
    if not is_for_people(scope):
        return problems.answer(error, request_id)
    return page(front, scope["path"], error, request_id)


async def on_error(request: Request, error: Exception) -> Response:
    """A typed error, anywhere on the server."""
    if not is_for_people(request.scope):
        return await problems.on_tokenbridge_error(request, error)
    found = problems.logged(request, error)
    path = request.url.path if request.method == "GET" or isinstance(found, StepUp) else ""
    return page(request.app.state.portal, path, found, problems.request_id(request))


async def on_invalid(request: Request, error: Exception) -> Response:
    """A body or an address of the wrong shape; for people that is a page that does not exist."""
    if not is_for_people(request.scope):
        return await problems.on_invalid_body(request, error)
    return page(request.app.state.portal, "", NotFound(), problems.request_id(request))


async def on_http_error(request: Request, error: Exception) -> Response:
    """What the framework refuses by itself: unknown addresses and methods."""
    if not is_for_people(request.scope):
        return await problems.on_http_error(request, error)
    found, code = problems.of_framework(error)
    return page(request.app.state.portal, request.url.path, found, problems.request_id(request), code)


def _next_step(error: TokenbridgeError) -> str:
    """What people do in a browser, where that is not what programs do."""
    if isinstance(error, NotFound) and error.hint == NotFound.next_step:
        return "Check the address, or start from the first page."
    if isinstance(error, StepUp):
        return "Sign in with the strongest way that you have. Then you come back to this page."
    return error.hint


def _sign_in(path: str) -> Response:
    onward = local_path(path)
    answer = see_other(f"/sign-in?next={onward}" if onward else "/sign-in")
    cookies.drop(answer, cookies.SESSION)
    return answer
