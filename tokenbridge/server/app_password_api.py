"""The HTTP API of app passwords: parse, call, answer. docs/app-passwords.md tells how mail and web servers use it."""

from __future__ import annotations

import base64
import binascii
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request, Response
from pydantic import Field

from tokenbridge.errors import ClientUnknown
from tokenbridge.server.api import ERRORS, Bearer, Body, RequestId
from tokenbridge.server.app_passwords import AppPasswordDesk, Presented
from tokenbridge.server.client_address import client_address
from tokenbridge.server.key_api import KeyId

router = APIRouter(responses=ERRORS)

MAX_AUTHORIZATION = 1024


class NewBody(Body):
    """`client` is the program that it is for; `name` is what the person calls it."""

    client: str = Field(min_length=1, max_length=64)
    name: str = Field(min_length=1, max_length=64)


class CheckBody(Body):
    username: str = Field(min_length=1, max_length=128)
    password: str = Field(min_length=1, max_length=128)


async def _desk(request: Request) -> AppPasswordDesk:
    desk: AppPasswordDesk = request.app.state.app_passwords
    return desk


async def _client(request: Request) -> tuple[str, str]:
    """Name and secret of `Authorization: Basic` (RFC 7617)."""
    kind, _, given = request.headers.get("authorization", "")[:MAX_AUTHORIZATION].partition(" ")
    try:
        name, colon, secret = base64.b64decode(given.strip(), validate=True).decode("utf-8").partition(":")
    except (binascii.Error, UnicodeDecodeError, ValueError) as err:
        raise ClientUnknown from err
    if kind.lower() != "basic" or not colon:
        raise ClientUnknown
    return name, secret


Desk = Annotated[AppPasswordDesk, Depends(_desk)]
Client = Annotated[tuple[str, str], Depends(_client)]


@router.post("/api/app-password/check")
async def check(request: Request, body: CheckBody, client: Client, desk: Desk, request_id: RequestId) -> dict[str, Any]:
    """Whether this is an app password of that person for the client that asks. Yes is 200, everything else is no."""
    given = Presented(username=body.username, password=body.password, address=client_address(request))
    who = await desk.check(*client, given, request_id)
    return {"username": who.username, "display_name": who.display_name}


@router.get("/api/app-passwords")
async def listed(token: Bearer, desk: Desk) -> dict[str, Any]:
    """The person's app passwords, and the programs for which one can be made."""
    return await desk.listed(token)


@router.post("/api/app-passwords", status_code=201)
async def make(body: NewBody, token: Bearer, desk: Desk, request_id: RequestId) -> dict[str, Any]:
    """Make an app password. It is in this answer and nowhere else. `refused` says why the policy does not let it in as
    things are now, and is null where it does."""
    made = await desk.make(token, body.client, body.name, request_id)
    refused = {"message": made.refused.message, "next_step": made.refused.hint} if made.refused is not None else None
    return {"id": made.id, "name": made.name, "client": made.client, "password": made.password, "refused": refused}


@router.delete("/api/app-passwords/{password_id}", status_code=204)
async def revoke(password_id: KeyId, token: Bearer, desk: Desk, request_id: RequestId) -> Response:
    await desk.revoke(token, password_id, request_id)
    return Response(status_code=204)
