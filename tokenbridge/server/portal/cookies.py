"""The portal's cookies. All of them are bound to this very host, sent over TLS only, and out of reach for scripts.

SameSite is Lax, not Strict: people follow links to the portal from e-mails and from other sites, and would look signed
out by Strict. Nothing is lost, since GET changes nothing, and every POST has to come from a page of ours (`visit`).
"""

from __future__ import annotations

from typing import Final

from starlette.requests import Request
from starlette.responses import Response

SESSION: Final = "__Host-tokenbridge-session"
"""The session's token; gone when the browser is closed, since workstations are shared."""
VISIT: Final = "__Host-tokenbridge-visit"
"""Random: what forms are bound to before anybody is signed in."""
SIGN_IN: Final = "__Host-tokenbridge-sign-in"
"""The token of the sign-in that runs."""
PERMIT: Final = "__Host-tokenbridge-first-day"
"""User name and enrolment code, encrypted, between two pages of the first day."""
RESET: Final = "__Host-tokenbridge-reset"
"""The token of the password reset that runs."""

DEVICE: Final = "__Host-tokenbridge-device"
"""Random, set before the first sign-in and kept for a year: by it the browser is recognised as one that was used."""
DEVICE_SECONDS: Final = 365 * 24 * 3600

MAX_VALUE: Final = 1024


def get(request: Request, name: str) -> str:
    """Empty when there is none, or it is no cookie of ours."""
    value = request.cookies.get(name, "")
    return value if len(value) <= MAX_VALUE and value.isascii() else ""


def put(response: Response, name: str, value: str, seconds: int | None = None) -> None:
    """`seconds` None: until the browser is closed."""
    response.set_cookie(name, value, max_age=seconds, path="/", secure=True, httponly=True, samesite="lax")


def drop(response: Response, *names: str) -> None:
    for name in names:
        response.delete_cookie(name, path="/", secure=True, httponly=True, samesite="lax")
