"""authenticatorCredentialManagement: discoverable credentials listed, renamed and deleted (CTAP 2.1 section 6.8)."""

from __future__ import annotations

from collections.abc import Callable
from enum import IntEnum, unique
from typing import Any, Final

from tokenbridge.authenticator import cbor, credentials, extensions, parameters
from tokenbridge.authenticator.core import Answer, Core, Parameters
from tokenbridge.authenticator.memory import Credential
from tokenbridge.authenticator.status import Refusal, Status, refuse, require
from tokenbridge.authenticator.steps import Steps
from tokenbridge.authenticator.token import Permission
from tokenbridge.authenticator.verification import Auth, require_token

RPS: Final = "relying parties"
CREDENTIALS: Final = "credentials"
DIGEST_SIZE: Final = 32


@unique
class SubCommand(IntEnum):
    """Section 6.8.1."""

    GET_CREDS_METADATA = 0x01
    ENUMERATE_RPS_BEGIN = 0x02
    ENUMERATE_RPS_GET_NEXT_RP = 0x03
    ENUMERATE_CREDENTIALS_BEGIN = 0x04
    ENUMERATE_CREDENTIALS_GET_NEXT_CREDENTIAL = 0x05
    DELETE_CREDENTIAL = 0x06
    UPDATE_USER_INFORMATION = 0x07


@unique
class Member(IntEnum):
    """Members of the request, and of subCommandParams."""

    SUB_COMMAND = 0x01
    PARAMS = 0x02
    PROTOCOL = 0x03
    PARAM = 0x04


@unique
class Param(IntEnum):
    RP_ID_HASH = 0x01
    CREDENTIAL_ID = 0x02
    USER = 0x03


@unique
class Said(IntEnum):
    """Members of the answer."""

    EXISTING = 0x01
    REMAINING = 0x02
    RP = 0x03
    RP_ID_HASH = 0x04
    TOTAL_RPS = 0x05
    USER = 0x06
    CREDENTIAL_ID = 0x07
    PUBLIC_KEY = 0x08
    TOTAL_CREDENTIALS = 0x09
    CRED_PROTECT = 0x0A
    LARGE_BLOB_KEY = 0x0B


def credential_management(core: Core, source: Parameters) -> Steps[Answer]:
    yield from ()
    number = parameters.required(source, Member.SUB_COMMAND, int)
    if number in _NEXT:
        said: Answer = core.next_of(_NEXT[number])
        return said
    core.forget_following()
    handler = _HANDLERS.get(number)
    if handler is None:
        refuse(Status.INVALID_SUBCOMMAND)
    params = parameters.optional(source, Member.PARAMS, dict)
    message = bytes([number]) + (b"" if params is None else cbor.encode(params))
    auth = Auth.of(source, param=Member.PARAM, protocol=Member.PROTOCOL)
    require_token(core, auth, message, Permission.CREDENTIAL_MANAGEMENT)
    return handler(core, params or {})


def _metadata(core: Core, _params: Parameters) -> Answer:
    require(core.token.rp_id is None, Status.PIN_AUTH_INVALID)
    return {Said.EXISTING: len(core.memory.credentials), Said.REMAINING: core.rooms_left}


def _rps(core: Core, _params: Parameters) -> Answer:
    require(core.token.rp_id is None, Status.PIN_AUTH_INVALID)
    found = {one.rp_id_hash: one.rp_id for one in core.memory.credentials}
    require(bool(found), Status.NO_CREDENTIALS)
    entries = [{Said.RP: {"id": rp_id}, Said.RP_ID_HASH: digest} for digest, rp_id in found.items()]
    core.follow(RPS, iter(entries[1:]), seconds=core.profile.assertion_seconds)
    return {**entries[0], Said.TOTAL_RPS: len(entries)}


def _credentials(core: Core, params: Parameters) -> Answer:
    digest = parameters.required(params, Param.RP_ID_HASH, bytes)
    require(len(digest) == DIGEST_SIZE, Status.INVALID_LENGTH)
    require(core.token.fits_hash(digest), Status.PIN_AUTH_INVALID)
    found = credentials.of_rp(core, digest)
    require(bool(found), Status.NO_CREDENTIALS)
    entries = [_entry(core, one) for one in found]
    core.follow(CREDENTIALS, iter(entries[1:]), seconds=core.profile.assertion_seconds)
    return {**entries[0], Said.TOTAL_CREDENTIALS: len(entries)}


def _entry(core: Core, credential: Credential) -> dict[Any, Any]:
    said: dict[Any, Any] = {
        Said.USER: credential.user.entity(names=True) if credential.user else {},
        Said.CREDENTIAL_ID: {"id": credential.id, "type": parameters.PUBLIC_KEY},
        Said.PUBLIC_KEY: cbor.decode(credential.public_key),
        Said.CRED_PROTECT: int(credential.protection),
    }
    if credential.large_blob_key:
        said[Said.LARGE_BLOB_KEY] = extensions.large_blob_key(core, credential)
    return said


def _delete(core: Core, params: Parameters) -> Answer:
    core.discard(_named(core, params))
    core.save()
    return None


def _update(core: Core, params: Parameters) -> Answer:
    """New names; the user id has to stay (section 6.8.7)."""
    user = parameters.user_of(parameters.required(params, Param.USER, dict), name_limit=core.profile.max_name)
    credential = _named(core, params)
    require(credential.user is not None and credential.user.id == user.id, Status.INVALID_PARAMETER)
    credential.user = user
    core.save()
    return None


def _named(core: Core, params: Parameters) -> Credential:
    """The discoverable credential that credentialId names, if the token may touch it."""
    identity = parameters.credential_id(parameters.required(params, Param.CREDENTIAL_ID, dict))
    for one in core.memory.credentials:
        if one.id == identity:
            require(core.token.fits_hash(one.rp_id_hash), Status.PIN_AUTH_INVALID)
            return one
    raise Refusal(Status.NO_CREDENTIALS)


_Handler = Callable[[Core, Parameters], Answer]
_HANDLERS: Final[dict[int, _Handler]] = {
    SubCommand.GET_CREDS_METADATA: _metadata,
    SubCommand.ENUMERATE_RPS_BEGIN: _rps,
    SubCommand.ENUMERATE_CREDENTIALS_BEGIN: _credentials,
    SubCommand.DELETE_CREDENTIAL: _delete,
    SubCommand.UPDATE_USER_INFORMATION: _update,
}
_NEXT: Final[dict[int, str]] = {
    SubCommand.ENUMERATE_RPS_GET_NEXT_RP: RPS,
    SubCommand.ENUMERATE_CREDENTIALS_GET_NEXT_CREDENTIAL: CREDENTIALS,
}
