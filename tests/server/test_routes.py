"""Every address of the pages belongs to one module, so that the order in which they are put together says nothing."""

from __future__ import annotations

import re
from pathlib import Path

from fastapi.routing import APIRoute
from starlette.routing import Match

from tokenbridge.server import portal
from tokenbridge.server.composition.routes import PAGES, pages

ONLY_WITH_AN_OUTBOX = "outbox"


def test_no_module_of_pages_is_forgotten() -> None:
    there = {path.name.removesuffix("_pages.py") for path in Path(portal.__path__[0]).glob("*_pages.py")}
    assert there == {*PAGES, ONLY_WITH_AN_OUTBOX}
    assert list(PAGES) == sorted(PAGES)


def test_no_address_is_two_modules() -> None:
    names = (*PAGES, ONLY_WITH_AN_OUTBOX)
    routes = [(name, route) for name in names for route in pages(name).routes if isinstance(route, APIRoute)]
    assert len(routes) > 100
    assert all(_takes(route, route) for _, route in routes)
    clashes = {
        (one, route.path, other)
        for one, route in routes
        for other, its in routes
        if one != other and _takes(its, route)
    }
    assert clashes == set()


def _takes(route: APIRoute, what: APIRoute) -> bool:
    """Whether `route` would take a request that is meant for `what`."""
    path = re.sub(r"{[^}]*}", "1", what.path)
    return any(
        route.matches({"type": "http", "method": method, "path": path})[0] is Match.FULL for method in what.methods
    )
