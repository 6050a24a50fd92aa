"""One HTTP request to a service that sends messages: bounded in time and size, tried again where that is safe."""

from __future__ import annotations

import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import httpx

from tokenbridge.errors import SendFailed, SendFault

TIMEOUT: Final = httpx.Timeout(5.0, connect=3.0)
DEADLINE: Final = 12.0
PAUSE: Final = 0.5
TRIES: Final = 3
MAX_ANSWER: Final = 64 << 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    status: int
    body: Any


def client(authority: Path | None = None) -> httpx.Client:
    """`authority`: a file with a certificate to trust instead of the usual ones, if it is there."""
    own = ssl.create_default_context(cafile=str(authority)) if authority is not None and authority.exists() else True
    return httpx.Client(timeout=TIMEOUT, follow_redirects=False, trust_env=False, verify=own)


def post(
    http: httpx.Client, request: Callable[[], httpx.Request], *, clock: Callable[[], float] = time.monotonic
) -> Answer:
    """Send what `request` makes anew for each try. Raises `SendFailed`.

    Tried again when the service was certainly not reached or answered 5xx. After a time-out the message may be on its
    way: sending it twice costs money and confuses, so that is the caller's, who can ask for another.
    """
    end, problem = clock() + DEADLINE, ""
    for left in reversed(range(TRIES)):
        try:
            answer = _once(http, request())
        except (httpx.ConnectError, httpx.ConnectTimeout) as err:
            answer, problem = None, repr(err)
        except httpx.HTTPError as err:
            raise SendFailed(SendFault.UNREACHABLE, detail=repr(err)) from err
        if answer is not None and answer.status < 500:
            return answer
        if answer is not None:
            problem = f"status {answer.status}"
        if not left or clock() + PAUSE >= end:
            break
        time.sleep(PAUSE)
    raise SendFailed(SendFault.UNREACHABLE, detail=problem)


def _once(http: httpx.Client, request: httpx.Request) -> Answer:
    response = http.send(request, stream=True)
    try:
        data = b""
        for part in response.iter_bytes():
            data += part
            if len(data) > MAX_ANSWER:
                raise SendFailed(SendFault.DAMAGED, detail="the answer is too large")
    finally:
        response.close()
    try:
        body = httpx.Response(response.status_code, content=data).json()
    except ValueError:
        body = None
    return Answer(status=response.status_code, body=body)
