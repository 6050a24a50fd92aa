"""How errors become HTTP answers, in one table. Outsiders get code and safe message, the log gets the rest."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any, Final

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.types import Scope

from tokenbridge import log
from tokenbridge.errors import (
    BadRequest,
    BodyTooLarge,
    Cancelled,
    ClientUnknown,
    FormStale,
    NonceStale,
    NoSession,
    NotAllowedNow,
    NotFound,
    NumberUnfit,
    OriginRefused,
    PhoneUnknown,
    PolicyRefuses,
    Rejected,
    RejectReason,
    RequestRefused,
    SendFailed,
    SetupError,
    StepUp,
    TokenbridgeError,
    TooMany,
    Undecided,
)

_log = log.get("server")

STATUS: Final[dict[type[TokenbridgeError], HTTPStatus]] = {
    BadRequest: HTTPStatus.BAD_REQUEST,
    OriginRefused: HTTPStatus.FORBIDDEN,
    NotAllowedNow: HTTPStatus.CONFLICT,
    TooMany: HTTPStatus.TOO_MANY_REQUESTS,
    RequestRefused: HTTPStatus.BAD_REQUEST,
    Rejected: HTTPStatus.FORBIDDEN,
    Undecided: HTTPStatus.SERVICE_UNAVAILABLE,
    Cancelled: HTTPStatus.CONFLICT,
    SetupError: HTTPStatus.SERVICE_UNAVAILABLE,
    NoSession: HTTPStatus.UNAUTHORIZED,
    ClientUnknown: HTTPStatus.UNAUTHORIZED,
    PhoneUnknown: HTTPStatus.UNAUTHORIZED,
    NonceStale: HTTPStatus.CONFLICT,
    PolicyRefuses: HTTPStatus.FORBIDDEN,
    NotFound: HTTPStatus.NOT_FOUND,
    StepUp: HTTPStatus.FORBIDDEN,
    FormStale: HTTPStatus.FORBIDDEN,
    NumberUnfit: HTTPStatus.BAD_REQUEST,
    SendFailed: HTTPStatus.BAD_GATEWAY,
    BodyTooLarge: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
}

BLAND: Final = SetupError(
    "The server can't work at the moment.", next_step="Try again later, or tell the people who run it."
)


def status(error: TokenbridgeError) -> HTTPStatus:
    """The HTTP status of an error: the table's row of its nearest class."""
    if isinstance(error, Rejected) and error.reason is RejectReason.CHALLENGE_UNKNOWN:
        return HTTPStatus.NOT_FOUND
    return next((STATUS[kind] for kind in type(error).__mro__ if kind in STATUS), HTTPStatus.INTERNAL_SERVER_ERROR)


def answer(error: TokenbridgeError, request_id: str) -> JSONResponse:
    """The error body of the API."""
    code = status(error)
    scheme = "Basic" if isinstance(error, ClientUnknown) else "Bearer"
    headers = {"WWW-Authenticate": scheme} if code is HTTPStatus.UNAUTHORIZED else {}
    headers |= waiting(error)
    return JSONResponse({"error": {**error.as_dict(), "request_id": request_id}}, code, headers)


def waiting(error: object) -> dict[str, str]:
    """The header that says when to try again (RFC 9110 section 10.2.3), where that is known and helps."""
    seconds = error.retry_after if isinstance(error, TooMany) else None
    return {} if seconds is None else {"Retry-After": str(seconds)}


def fault(_scope: Scope, error: TokenbridgeError, request_id: str) -> JSONResponse:
    """As `answer`, for the outermost layer."""
    return answer(error, request_id)


def request_id(request: Request) -> str:
    return str(getattr(request.state, "request_id", ""))


async def on_tokenbridge_error(request: Request, error: Exception) -> JSONResponse:
    """A typed error as the API tells it."""
    found = logged(request, error)
    # What is wrong with the set-up is the operator's business: it stands in the log.
    return answer(BLAND if isinstance(found, SetupError) else found, request_id(request))


def logged(request: Request, error: Exception) -> TokenbridgeError:
    """The error, logged with its detail at a level that fits."""
    found = error if isinstance(error, TokenbridgeError) else TokenbridgeError(detail=repr(error))
    level = "error" if status(found) >= HTTPStatus.INTERNAL_SERVER_ERROR else "info"
    getattr(_log, level)("request %s: %s: %s (%s)", request_id(request), found.code, found.message, found.detail)
    return found


async def on_invalid_body(request: Request, error: Exception) -> JSONResponse:
    """A body of the wrong shape. The answer names the places, never the values: they may be secrets."""
    problems: list[dict[str, Any]] = list(getattr(error, "errors", list)())
    places = sorted({".".join(str(part) for part in problem.get("loc", ())[1:4]) or "body" for problem in problems})
    message = f"The request can't be understood: {', '.join(places[:5])[:200]}."
    return answer(BadRequest(message), request_id(request))


async def on_http_error(request: Request, error: Exception) -> JSONResponse:
    """What the framework refuses by itself: unknown addresses and methods."""
    found, code = of_framework(error)
    result = answer(found, request_id(request))
    result.status_code = code
    return result


def of_framework(error: Exception) -> tuple[TokenbridgeError, int]:
    """An error of the framework's in our words, and its status."""
    code = error.status_code if isinstance(error, HTTPException) else int(HTTPStatus.BAD_REQUEST)
    return (NotFound() if code == HTTPStatus.NOT_FOUND else BadRequest()), code
