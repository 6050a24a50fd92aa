"""One request of a browser, checked: for this host, from a page of ours, with the token that its form was made with."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Annotated, Final
from urllib.parse import parse_qsl, urlsplit

from fastapi import Depends
from starlette.requests import Request

from tokenbridge.errors import BadRequest, FormStale, OriginRefused
from tokenbridge.server import keys
from tokenbridge.server.client_address import client_address
from tokenbridge.server.keys import KeyRing
from tokenbridge.server.portal import cookies
from tokenbridge.server.portal.front import Front
from tokenbridge.server.whereabouts import Whereabouts, whereabouts

MAX_FIELDS: Final = 16
FORM: Final = "application/x-www-form-urlencoded"
FORM_FIELD: Final = "form_token"

_PATH: Final = re.compile(r"/(?:[a-z0-9-]+/)*[a-z0-9-]{1,64}")
_MAX_PATH: Final = 128


@dataclass(frozen=True, slots=True, kw_only=True)
class Visit:
    """`session` is the token of the session's cookie, which nobody has looked up yet; empty when there is none.

    `bound` is what forms are bound to; `fresh` when it was made for this request and has to be set as a cookie.
    `fields` are those of the form, each once.
    """

    request: Request
    front: Front
    session: str
    bound: str
    fresh: bool
    fields: Mapping[str, str] = field(default_factory=dict)

    @property
    def request_id(self) -> str:
        return str(self.request.state.request_id)

    @property
    def where(self) -> Whereabouts:
        """From where this visit comes, for policy and risk."""
        return whereabouts(client_address(self.request), cookies.get(self.request, cookies.DEVICE))

    @property
    def form_token(self) -> str:
        return form_token(self.front.keys.ring(), self.bound)

    @property
    def onward(self) -> str:
        """Where to go after the sign-in: a path of ours, or empty."""
        return local_path(self.fields.get("next") or self.request.query_params.get("next", ""))

    def text(self, name: str, most: int) -> str:
        """A field without blanks around it. Raises `BadRequest` when it is longer than `most` characters."""
        value = self.fields.get(name, "")
        if len(value) > most:
            raise BadRequest("A field of the form is too long.", next_step="Go back and type less.")
        return value.strip()


def form_token(ring: KeyRing, bound: str) -> str:
    """What a form holds: authenticated with the key file, and of no use with another session."""
    return ring.seal(b"portal form\0" + hashlib.sha256(bound.encode()).digest())


def local_path(text: str) -> str:
    """`text` if it is a path of the portal, else nothing: never an address of another site, whatever browsers make of
    backslashes, control characters and double slashes."""
    return text if len(text) <= _MAX_PATH and _PATH.fullmatch(text) else ""


def arrived(request: Request) -> Visit:
    """A visit whose form, if it has one, nobody has read yet. Raises `OriginRefused`."""
    front: Front = request.app.state.portal
    _check_host(request, front.site)
    if request.method == "POST":
        _check_source(request, front.site)
    session, waiting = cookies.get(request, cookies.SESSION), cookies.get(request, cookies.VISIT)
    bound = session or waiting
    return Visit(request=request, front=front, session=session, bound=bound or keys.new_token(), fresh=not bound)


async def visit(request: Request) -> Visit:
    """Raises `OriginRefused`, `BadRequest` or `FormStale`."""
    found = arrived(request)
    if request.method != "POST":
        return found
    if media_type(request) != FORM:
        raise BadRequest
    return replace(found, fields=checked(found, pairs_of(await request.body())))


Visitor = Annotated[Visit, Depends(visit)]


def media_type(request: Request) -> str:
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


def pairs_of(body: bytes) -> list[tuple[str, str]]:
    """The fields of a form (`application/x-www-form-urlencoded`). Raises `BadRequest`."""
    try:
        return parse_qsl(body.decode("utf-8"), keep_blank_values=True, max_num_fields=MAX_FIELDS, errors="strict")
    except ValueError as err:
        raise BadRequest("The form can't be understood.", detail=str(err)) from err


def checked(visit: Visit, pairs: list[tuple[str, str]]) -> dict[str, str]:
    """The fields of a form, each once, without the token that it has to hold. Raises `BadRequest` or `FormStale`."""
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise BadRequest("The form can't be understood.", detail="a field comes twice")
    shown, bound = fields.pop(FORM_FIELD, ""), visit.bound.encode()
    if visit.fresh or not visit.front.keys.ring().sealed(b"portal form\0" + hashlib.sha256(bound).digest(), shown):
        raise FormStale
    return fields


def _check_host(request: Request, site: str) -> None:
    """Only the name that the server was set up with: pages and redirects never follow what a request claims."""
    if request.headers.getlist("host") != [urlsplit(site).netloc]:
        raise OriginRefused("This server is known by another address.", next_step=f"Open {site} instead.")


def _check_source(request: Request, site: str) -> None:
    """Every browser says where a POST comes from: what does not is no browser, or hides it."""
    origin, fetched = request.headers.get("origin"), request.headers.get("sec-fetch-site", "same-origin")
    if origin != site or fetched != "same-origin":
        raise OriginRefused(
            "This form was sent from another site, so nothing was done.", next_step=f"Open {site} and start there."
        )
