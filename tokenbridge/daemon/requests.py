"""What handlers take out of a request: bounded JSON bodies with known members, and who asks."""

from __future__ import annotations

import json
from collections.abc import Mapping, Set
from typing import Any, Final

from starlette.requests import Request

from tokenbridge.errors import BadRequest

MAX_BODY: Final = 16384
MAX_WAIT: Final = 3600.0


async def body_of(request: Request, known: Set[str], *, most: int = MAX_BODY) -> dict[str, Any]:
    raw = bytearray()
    async for chunk in request.stream():
        raw += chunk
        if len(raw) > most:
            raise BadRequest("The request is too large.")
    try:
        body = json.loads(raw or b"{}")
    except (ValueError, RecursionError) as err:
        raise BadRequest("The request is not JSON.") from err
    if not isinstance(body, dict) or set(body) - known:
        raise BadRequest(f"The request may have these members: {', '.join(sorted(known))}.")
    return body


def text(body: Mapping[str, Any], key: str) -> str:
    value = body.get(key) or ""
    if not isinstance(value, str):
        raise BadRequest(f"{key} must be text.")
    return value


def seconds(body: Mapping[str, Any], default: float) -> float:
    value = body.get("wait_seconds", default)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= MAX_WAIT:
        raise BadRequest(f"wait_seconds must be between 0 and {MAX_WAIT:.0f}.")
    return float(value)


def program(request: Request) -> str:
    """Who asks, as the kernel says (see `app.SameUserProtocol`): "name (pid)"."""
    return f"{request.client.host} ({request.client.port})" if request.client is not None else ""


def flag(body: Mapping[str, Any], key: str) -> bool:
    value = body.get(key, False)
    if not isinstance(value, bool):
        raise BadRequest(f"{key} must be true or false.")
    return value


def number(body: Mapping[str, Any], key: str, *, least: int, most: int) -> int | None:
    """None when it is not given."""
    value = body.get(key)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise BadRequest(f"{key} must be a whole number between {least} and {most}.")
    return value


def one_of(body: Mapping[str, Any], key: str, choices: tuple[str, ...]) -> str:
    """One of `choices`, or "" when it is not given."""
    value = text(body, key)
    if value not in ("", *choices):
        raise BadRequest(f"{key} must be one of {', '.join(choices)}.")
    return value
