"""The HTTP API: parse, call, answer. No rule of sign-in stands here. docs/api.md describes it."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterable
from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends, Request, Response
from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from tokenbridge.errors import BadRequest, NoSession, NotAllowedNow
from tokenbridge.rp.proof import Method
from tokenbridge.rp.webeid import Algorithm
from tokenbridge.server import problems
from tokenbridge.server.client_address import client_address
from tokenbridge.server.ledger import Done
from tokenbridge.server.sessions import SessionDesk
from tokenbridge.server.sign_in import SignInDesk, Ticket
from tokenbridge.server.store.sessions import describe
from tokenbridge.server.whereabouts import MAX_DEVICE, whereabouts

ERRORS: Final[dict[int | str, dict[str, Any]]] = {
    400: {"description": "The request can't be understood"},
    401: {"description": "No session, or a program that is not known"},
    403: {"description": "The evidence, the password or the code was refused"},
    404: {"description": "There is no such sign-in"},
    409: {"description": "Not at this point of the sign-in"},
    413: {"description": "The body is too large"},
    429: {"description": "Too many attempts"},
    502: {"description": "A message could not be sent"},
    503: {"description": "The server can't work at the moment"},
}

router = APIRouter(responses=ERRORS)

CODES: Final = (Method.TOTP, Method.RECOVERY, Method.SMS, Method.WHATSAPP)
Client = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9._-]{1,64}$")]


class Body(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class StartBody(Body):
    """`client` names the program that asks; policy rules may refer to it. `username`: whose keys to ask for.

    `device` is a random word that a browser or workstation keeps: one that is new to the account is told to the policy.
    """

    client: Client
    device: str | None = Field(default=None, min_length=16, max_length=MAX_DEVICE)
    username: str | None = Field(default=None, min_length=1, max_length=128)


class CardBody(Body):
    """A Web eID authentication token; its fields are checked by the verifier, which bounds them."""

    token: dict[str, Any] = Field(max_length=16)


class PasswordBody(Body):
    username: str = Field(min_length=1, max_length=128)
    password: str = Field(min_length=1, max_length=1024)


class CodeBody(Body):
    method: str = Field(max_length=32)
    code: str = Field(min_length=1, max_length=64)


# Coroutines, although they wait for nothing: the framework gives each plain function to a thread.
async def _sign_ins(request: Request) -> SignInDesk:
    desk: SignInDesk = request.app.state.sign_ins
    return desk


async def _sessions(request: Request) -> SessionDesk:
    desk: SessionDesk = request.app.state.sessions
    return desk


async def bearer(request: Request) -> str:
    """The token of `Authorization: Bearer` (RFC 6750 section 2.1)."""
    kind, _, token = request.headers.get("authorization", "").partition(" ")
    if kind.lower() != "bearer" or not token.strip():
        raise NoSession
    return token.strip()


async def _request_id(request: Request) -> str:
    return problems.request_id(request)


SignIns = Annotated[SignInDesk, Depends(_sign_ins)]
Sessions = Annotated[SessionDesk, Depends(_sessions)]
RequestId = Annotated[str, Depends(_request_id)]
Bearer = Annotated[str, Depends(bearer)]


@router.get("/healthz")
async def healthz() -> dict[str, str]:
    return {"status": "ok"}


@router.post("/api/sign-in", status_code=201)
async def start(body: StartBody, request: Request, desk: SignIns) -> dict[str, Any]:
    """Begin a sign-in: what to sign, until when, and what is accepted."""
    where = whereabouts(client_address(request), body.device or "")
    return _ticket(await desk.start(body.client, where, body.username))


@router.post("/api/sign-in/{transaction}/card")
async def card(transaction: str, body: CardBody, desk: SignIns, request_id: RequestId) -> dict[str, Any]:
    """Present a card's signature. The nonce is spent by this, whatever comes of it."""
    return outcome(await desk.card(transaction, body.token, request_id))


@router.post("/api/sign-in/{transaction}/password")
async def password(transaction: str, body: PasswordBody, desk: SignIns, request_id: RequestId) -> dict[str, Any]:
    return outcome(await desk.password(transaction, body.username, body.password, request_id))


@router.post("/api/sign-in/{transaction}/code")
async def code(transaction: str, body: CodeBody, desk: SignIns, request_id: RequestId) -> dict[str, Any]:
    if body.method not in CODES:
        raise BadRequest("That method takes no code here.", next_step="Use the method that the challenge named.")
    return outcome(await desk.code(transaction, body.code, request_id, Method(body.method)))


@router.delete("/api/sign-in/{transaction}", status_code=204)
async def cancel(transaction: str, desk: SignIns, request_id: RequestId) -> Response:
    await desk.cancel(transaction, request_id)
    return Response(status_code=204)


@router.get("/api/session")
async def session(token: Bearer, desk: Sessions) -> dict[str, Any]:
    """Who is signed in with this token, how strongly and until when."""
    live = await desk.look(token)
    return {
        "account": {"username": live.account.username, "display_name": live.account.display_name},
        "assurance": live.assurance,
        "expires_at": live.expires_at.isoformat(),
    }


@router.delete("/api/session", status_code=204)
async def sign_out(token: Bearer, desk: Sessions, request_id: RequestId) -> Response:
    await desk.end(token, request_id)
    return Response(status_code=204)


def _ticket(ticket: Ticket) -> dict[str, Any]:
    by_key = [{"method": str(Method.KEY), "options": ticket.key_options}] if ticket.key_options is not None else []
    return {
        "transaction": ticket.token,
        "rp": {"name": ticket.rp_name, "origin": ticket.challenge.origin},
        "nonce": ticket.challenge.nonce,
        "expires_at": ticket.challenge.expires_at.isoformat(),
        "accepts": [
            card_offer(ticket.issuers),
            *by_key,
            {"method": str(Method.PASSWORD), "then": [str(method) for method in ticket.after_password]},
        ],
    }


def card_offer(issuers: Iterable[bytes]) -> dict[str, Any]:
    """How a card may sign in. `issuers` are DER names."""
    return {
        "method": str(Method.CARD),
        "format": "web-eid:1",
        "algorithms": list(Algorithm),
        "issuers": [b64encode(name).decode("ascii") for name in issuers],
    }


def outcome(done: Done) -> dict[str, Any]:
    if done.answer is None:
        raise NotAllowedNow
    decision = done.answer.decision
    body: dict[str, Any] = {
        "decision": str(decision.outcome),
        "sentence": decision.sentence,
        "reasons": [{"code": reason.code, "text": reason.text} for reason in decision.reasons],
        "suppressed": [str(method) for method in decision.suppressed],
        "methods": [str(method) for method in decision.methods],
    }
    if done.key_options is not None:
        body["key_options"] = done.key_options
    if done.opened is not None and done.person is not None:
        body["account"] = {"username": done.person.username, "display_name": done.person.display_name}
        body["assurance"] = describe(done.answer.assurance)
        body["session"] = {"token": done.opened.token, "expires_at": done.opened.expires_at.isoformat()}
    return body
