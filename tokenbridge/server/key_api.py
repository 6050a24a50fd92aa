"""The HTTP API of security keys: parse, call, answer. docs/api.md describes it."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Request, Response
from pydantic import Field

from tokenbridge.errors import BadRequest, NotAllowedNow
from tokenbridge.server.api import ERRORS, Bearer, Body, RequestId, SignIns, bearer, outcome
from tokenbridge.server.key_desk import KeyDesk
from tokenbridge.server.key_enrolment import Begun

router = APIRouter(responses=ERRORS)


class CredentialBody(Body):
    """`AuthenticationResponseJSON`; its members are checked by the verifier, which bounds them."""

    credential: dict[str, Any] = Field(max_length=16)


class BeginBody(Body):
    """Nothing with a session; without one, both."""

    username: str | None = Field(default=None, min_length=1, max_length=128)
    enrolment_code: str | None = Field(default=None, min_length=1, max_length=64)


class RegistrationBody(Body):
    """`RegistrationResponseJSON`, and what the person calls the key."""

    credential: dict[str, Any] = Field(max_length=16)
    name: str | None = Field(default=None, min_length=1, max_length=64)


class NameBody(Body):
    name: str = Field(min_length=1, max_length=64)


async def _keys(request: Request) -> KeyDesk:
    desk: KeyDesk | None = request.app.state.keys
    if desk is None:
        raise NotAllowedNow(
            "This server takes no security keys: its address is no name.", next_step="Use another way to sign in."
        )
    return desk


Keys = Annotated[KeyDesk, Depends(_keys)]
KeyId = Annotated[int, Path(ge=1, le=2**31 - 1)]


@router.post("/api/sign-in/{transaction}/key")
async def key(transaction: str, body: CredentialBody, desk: SignIns, request_id: RequestId) -> dict[str, Any]:
    """Present a key's assertion. The challenge is spent by this, whatever comes of it."""
    return outcome(await desk.key(transaction, body.credential, request_id))


@router.post("/api/keys/registration", status_code=201)
async def begin(body: BeginBody, request: Request, desk: Keys, request_id: RequestId) -> dict[str, Any]:
    """Begin to register a key, with a session or with an enrolment code."""
    if body.username is not None and body.enrolment_code is not None:
        begun = await desk.begin_with_code(body.username, body.enrolment_code, request_id)
    elif body.username is None and body.enrolment_code is None:
        begun = await desk.begin_signed_in(await bearer(request), request_id)
    else:
        raise BadRequest("A user name and an enrolment code belong together.")
    return {**_begun(begun), "rp": {**begun.options["rp"], "origin": request.app.state.origin}}


@router.post("/api/keys/registration/{registration}", status_code=201)
async def complete(registration: str, body: RegistrationBody, desk: Keys, request_id: RequestId) -> dict[str, Any]:
    """Present the new key. The challenge is spent by this, whatever comes of it."""
    added = await desk.complete(registration, body.credential, body.name, request_id)
    answer = {"key": added.key, "sentence": added.sentence}
    return {**answer, "recovery_codes": list(added.recovery_codes)} if added.recovery_codes else answer


@router.delete("/api/keys/registration/{registration}", status_code=204)
async def give_up(registration: str, desk: Keys) -> Response:
    await desk.cancel(registration)
    return Response(status_code=204)


@router.get("/api/keys")
async def listed(token: Bearer, desk: Keys) -> dict[str, Any]:
    """The keys of the session's account."""
    return await desk.listed(token)


@router.patch("/api/keys/{key_id}")
async def rename(key_id: KeyId, body: NameBody, token: Bearer, desk: Keys, request_id: RequestId) -> dict[str, Any]:
    return {"key": await desk.rename(token, key_id, body.name, request_id)}


@router.delete("/api/keys/{key_id}", status_code=204)
async def remove(
    key_id: KeyId, token: Bearer, desk: Keys, request_id: RequestId, confirm_last: bool = False
) -> Response:
    await desk.remove(token, key_id, request_id, confirmed=confirm_last)
    return Response(status_code=204)


def _begun(begun: Begun) -> dict[str, Any]:
    return {
        "registration": begun.token,
        "account": {"username": begun.username, "display_name": begun.display_name},
        "options": begun.options,
        "expires_at": begun.expires_at.isoformat(),
    }
