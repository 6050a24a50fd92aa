"""authenticatorGetAssertion and getNextAssertion (CTAP 2.1 sections 6.2 and 6.3); steps are those of section 6.2.2."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum, unique
from typing import Any, Final

from tokenbridge.authenticator import credentials, extensions, parameters, verification
from tokenbridge.authenticator.authenticator_data import authenticator_data, flags
from tokenbridge.authenticator.core import Answer, Core, Parameters
from tokenbridge.authenticator.extensions import Assertion
from tokenbridge.authenticator.memory import Credential
from tokenbridge.authenticator.parameters import PUBLIC_KEY
from tokenbridge.authenticator.ports import KeyGone
from tokenbridge.authenticator.status import Refusal, Status, require
from tokenbridge.authenticator.steps import Steps, slowly
from tokenbridge.authenticator.token import Permission
from tokenbridge.authenticator.verification import Auth, Ceremony

DIGEST_SIZE: Final = 32
FOLLOWING: Final = "assertion"


@unique
class Member(IntEnum):
    """Members of the request."""

    RP_ID = 0x01
    CLIENT_DATA_HASH = 0x02
    ALLOW_LIST = 0x03
    EXTENSIONS = 0x04
    OPTIONS = 0x05
    PARAM = 0x06
    PROTOCOL = 0x07


@unique
class Said(IntEnum):
    """Members of the answer."""

    CREDENTIAL = 0x01
    AUTH_DATA = 0x02
    SIGNATURE = 0x03
    USER = 0x04
    NUMBER_OF_CREDENTIALS = 0x05
    LARGE_BLOB_KEY = 0x07


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """The request, with types checked. `allow` is None if the credential is to be found by the RP alone."""

    ceremony: Ceremony
    allow: list[bytes] | None
    extensions: Mapping[Any, Any]
    options: Mapping[Any, Any]
    up_wanted: bool

    @property
    def rp_id_hash(self) -> bytes:
        return hashlib.sha256(self.ceremony.rp_id.encode("utf-8")).digest()


def get_assertion(core: Core, source: Parameters) -> Steps[Answer]:
    request = _request(core, source)
    ceremony = request.ceremony
    yield from verification.probe(core, ceremony)
    if ceremony.auth.param is not None:
        ceremony.auth.checked_protocol(core)
    ceremony.uv_wanted = verification.check_uv_option(core, request.options, ceremony.auth)
    if request.up_wanted:
        verification.always_uv(core, ceremony)
    wish = extensions.assertion_of(core, request.extensions, up=request.up_wanted)
    yield from verification.verify(core, ceremony)
    found = _credentials(core, request)
    yield from _presence(core, request)
    return (yield from _answer_first(core, request, found, wish))


def get_next_assertion(core: Core, _source: Parameters) -> Steps[Answer]:
    """The next of those that getAssertion found (section 6.3)."""
    request, credential, wish = core.next_of(FOLLOWING)
    return (yield from _answer(core, request, credential, wish, several=True))


def _request(core: Core, source: Parameters) -> Request:
    digest = parameters.required(source, Member.CLIENT_DATA_HASH, bytes)
    require(len(digest) == DIGEST_SIZE, Status.INVALID_LENGTH)
    options = parameters.optional(source, Member.OPTIONS, dict) or {}
    require("rk" not in options, Status.UNSUPPORTED_OPTION)
    ceremony = Ceremony(
        purpose="getAssertion",
        permission=Permission.GET_ASSERTION,
        rp_id=parameters.rp_id_of(source, Member.RP_ID),
        client_data_hash=digest,
        auth=Auth.of(source, param=Member.PARAM, protocol=Member.PROTOCOL),
        uv_wanted=False,
    )
    return Request(
        ceremony=ceremony,
        allow=_allow_list(core, source),
        extensions=parameters.optional(source, Member.EXTENSIONS, dict) or {},
        options=options,
        up_wanted=parameters.optional(options, "up", bool) is not False,
    )


def _allow_list(core: Core, source: Parameters) -> list[bytes] | None:
    """An empty list is none (step 7)."""
    limit = core.profile.max_credentials_in_list
    allowed = parameters.credential_ids(source, Member.ALLOW_LIST, limit=limit)
    return allowed if source.get(Member.ALLOW_LIST) else None


def _credentials(core: Core, request: Request) -> list[Credential]:
    """Those that may be used, the one to use first; refuses with NO_CREDENTIALS if there is none (step 7)."""
    uv = request.ceremony.uv
    if request.allow is None:
        found = credentials.usable(credentials.of_rp(core, request.rp_id_hash), uv=uv, by_list=False)
    else:
        known = credentials.among(core, request.rp_id_hash, request.allow)
        # with a list any one will do, and the host is not told how many fit (step 11)
        found = credentials.usable(known, uv=uv, by_list=True)[:1]
    require(bool(found), Status.NO_CREDENTIALS)
    return found


def _presence(core: Core, request: Request) -> Steps[None]:
    ceremony = request.ceremony
    if request.up_wanted:
        yield from verification.presence(core, ceremony)
        verification.spend_token(core, ceremony)
    else:
        ceremony.up = False


def _answer_first(core: Core, request: Request, found: list[Credential], wish: Assertion) -> Steps[Answer]:
    several = len(found) > 1
    answer = yield from _answer(core, request, found[0], wish, several=several)
    if several and answer is not None:
        answer[Said.NUMBER_OF_CREDENTIALS] = len(found)
        rest = iter([(request, credential, wish) for credential in found[1:]])
        core.follow(FOLLOWING, rest, seconds=core.profile.assertion_seconds)
    return answer


def _answer(core: Core, request: Request, credential: Credential, wish: Assertion, *, several: bool) -> Steps[Answer]:
    ceremony = request.ceremony
    counter = core.counted()
    core.save()
    data = authenticator_data(
        request.rp_id_hash,
        flags(up=ceremony.up, uv=ceremony.uv),
        counter,
        extensions=wish.output(core, credential, uv=ceremony.uv),
    )
    signature = yield from _sign(core, credential, data + ceremony.client_data_hash)
    answer: dict[int, Any] = {
        Said.CREDENTIAL: {"id": credential.id, "type": PUBLIC_KEY},
        Said.AUTH_DATA: data,
        Said.SIGNATURE: signature,
    }
    if credential.user is not None:
        # names are for choosing among several, and for people who were verified (section 6.2.2, "user")
        answer[Said.USER] = credential.user.entity(names=several and ceremony.uv)
    if wish.large_blob_key and credential.large_blob_key:
        answer[Said.LARGE_BLOB_KEY] = extensions.large_blob_key(core, credential)
    return answer


def _sign(core: Core, credential: Credential, message: bytes) -> Steps[bytes]:
    store = core.world.store
    try:
        return (yield from slowly(lambda: store.sign(credential.handle, credential.algorithm, message)))
    except KeyGone as err:
        raise Refusal(Status.NO_CREDENTIALS) from err
