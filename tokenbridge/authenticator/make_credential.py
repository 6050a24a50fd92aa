"""authenticatorMakeCredential (CTAP 2.1 section 6.1). The steps named in comments are those of section 6.1.2."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum, unique
from typing import Any

from tokenbridge.authenticator import credentials, extensions, parameters, verification
from tokenbridge.authenticator.attestation import attest
from tokenbridge.authenticator.authenticator_data import attested_data, authenticator_data, flags
from tokenbridge.authenticator.core import Answer, Core, Parameters
from tokenbridge.authenticator.credentials import Wish
from tokenbridge.authenticator.extensions import Registration
from tokenbridge.authenticator.memory import Credential, Protection
from tokenbridge.authenticator.parameters import PUBLIC_KEY, User
from tokenbridge.authenticator.profile import Algorithm
from tokenbridge.authenticator.status import Refusal, Status, refuse, require
from tokenbridge.authenticator.steps import Steps
from tokenbridge.authenticator.token import Permission
from tokenbridge.authenticator.verification import Auth, Ceremony

DIGEST_SIZE = 32


@unique
class Member(IntEnum):
    """Members of the request."""

    CLIENT_DATA_HASH = 0x01
    RP = 0x02
    USER = 0x03
    PUB_KEY_CRED_PARAMS = 0x04
    EXCLUDE_LIST = 0x05
    EXTENSIONS = 0x06
    OPTIONS = 0x07
    PARAM = 0x08
    PROTOCOL = 0x09
    ENTERPRISE_ATTESTATION = 0x0A


@unique
class Said(IntEnum):
    """Members of the answer."""

    FMT = 0x01
    AUTH_DATA = 0x02
    ATT_STMT = 0x03
    EP_ATT = 0x04
    LARGE_BLOB_KEY = 0x05


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """The request, with types checked. `enterprise` is None if it does not ask for enterprise attestation."""

    ceremony: Ceremony
    user: User
    algorithm_list: list[dict[Any, Any]]
    exclude: list[bytes]
    extensions: Mapping[Any, Any]
    options: Mapping[Any, Any]
    enterprise: int | None

    @property
    def rp_id_hash(self) -> bytes:
        return hashlib.sha256(self.ceremony.rp_id.encode("utf-8")).digest()

    @property
    def discoverable(self) -> bool:
        return parameters.optional(self.options, "rk", bool) is True


def make_credential(core: Core, source: Parameters) -> Steps[Answer]:
    request = _request(core, source)
    ceremony = request.ceremony
    yield from verification.probe(core, ceremony)
    if ceremony.auth.param is not None:
        ceremony.auth.checked_protocol(core)
    algorithm = _algorithm(core, request.algorithm_list)
    _options(core, request)
    _require_verification(core, request)
    enterprise = _enterprise(core, request)
    yield from verification.verify(core, ceremony)
    yield from _exclude(core, request)
    yield from verification.presence(core, ceremony)
    verification.spend_token(core, ceremony)
    wish = extensions.registration_of(core, request.extensions, discoverable=request.discoverable)
    credential = yield from _make(core, request, algorithm, wish)
    return (yield from _answer(core, request, credential, wish, enterprise=enterprise))


def _request(core: Core, source: Parameters) -> Request:
    digest = parameters.required(source, Member.CLIENT_DATA_HASH, bytes)
    require(len(digest) == DIGEST_SIZE, Status.INVALID_LENGTH)
    rp_id = parameters.rp_entity_id(source, Member.RP)
    user = parameters.user_of(parameters.required(source, Member.USER, dict), name_limit=core.profile.max_name)
    algorithm_list = parameters.items(source, Member.PUB_KEY_CRED_PARAMS, dict)
    if algorithm_list is None:
        refuse(Status.MISSING_PARAMETER)
    limit = core.profile.max_credentials_in_list
    auth = Auth.of(source, param=Member.PARAM, protocol=Member.PROTOCOL)
    ceremony = Ceremony(
        purpose="makeCredential",
        permission=Permission.MAKE_CREDENTIAL,
        rp_id=rp_id,
        client_data_hash=digest,
        auth=auth,
        uv_wanted=False,
        user=user.name,
    )
    return Request(
        ceremony=ceremony,
        user=user,
        algorithm_list=algorithm_list,
        exclude=parameters.credential_ids(source, Member.EXCLUDE_LIST, limit=limit) or [],
        extensions=parameters.optional(source, Member.EXTENSIONS, dict) or {},
        options=parameters.optional(source, Member.OPTIONS, dict) or {},
        enterprise=parameters.optional(source, Member.ENTERPRISE_ATTESTATION, int),
    )


def _algorithm(core: Core, wanted: list[dict[Any, Any]]) -> Algorithm:
    """The first that this device has; every entry is checked all the same (step 3)."""
    chosen: Algorithm | None = None
    for entry in wanted:
        kind, number = parameters.required(entry, "type", str), parameters.required(entry, "alg", int)
        if chosen is None and kind == PUBLIC_KEY and number in core.profile.algorithms:
            chosen = Algorithm(number)
    if chosen is None:
        raise Refusal(Status.UNSUPPORTED_ALGORITHM)
    return chosen


def _options(core: Core, request: Request) -> None:
    """Step 5."""
    ceremony, options = request.ceremony, request.options
    ceremony.uv_wanted = verification.check_uv_option(core, options, ceremony.auth)
    require(not request.discoverable or core.profile.discoverable, Status.UNSUPPORTED_OPTION)
    require(parameters.optional(options, "up", bool) is not False, Status.INVALID_OPTION)
    verification.always_uv(core, ceremony)


def _require_verification(core: Core, request: Request) -> None:
    """A protected device makes no credential unverified, save one that is not discoverable (steps 7 to 10)."""
    ceremony = request.ceremony
    if not core.protected or ceremony.uv_wanted or ceremony.auth.param is not None:
        return
    if core.profile.uv_not_required and not request.discoverable:
        return
    verification.refuse_unverified(core)


def _enterprise(core: Core, request: Request) -> bool:
    """Whether the attestation is an enterprise one: vendor-facilitated (1) or platform-managed (2); step 9."""
    if request.enterprise is None:
        return False
    require(core.profile.enterprise and core.memory.enterprise, Status.INVALID_PARAMETER)
    require(request.enterprise in (1, 2), Status.INVALID_OPTION)
    return request.enterprise == 2 or request.ceremony.rp_id in core.profile.enterprise_rp_ids


def _exclude(core: Core, request: Request) -> Steps[None]:
    """One of the excluded credentials is on this device: said only to who touches it (step 12)."""
    ceremony = request.ceremony
    known = credentials.among(core, request.rp_id_hash, request.exclude)
    if not any(ceremony.uv or one.protection is not Protection.UV_REQUIRED for one in known):
        return
    try:
        yield from verification.presence(core, ceremony)
    except Refusal as refusal:
        # touched or not, the answer is the same; a cancelled request has its own
        if refusal.status is Status.KEEPALIVE_CANCEL:
            raise
    refuse(Status.CREDENTIAL_EXCLUDED)


def _make(core: Core, request: Request, algorithm: Algorithm, wish: Registration) -> Steps[Credential]:
    """Steps 15 to 17. The key is made before anything is stored, so that a cancelled request leaves nothing."""
    user = request.user if request.discoverable else None
    if user is not None and not core.rooms_left:
        require(credentials.replaces_one(core, request.rp_id_hash, user), Status.KEY_STORE_FULL)
    credential = yield from credentials.make(
        core,
        Wish(
            rp_id=request.ceremony.rp_id,
            rp_id_hash=request.rp_id_hash,
            algorithm=algorithm,
            user=user,
            protection=wish.protection or Protection.UV_OPTIONAL,
            hmac_secret=wish.hmac_secret,
            blob=extensions.blob_to_keep(core, wish, discoverable=user is not None),
            large_blob_key=wish.large_blob_key,
        ),
    )
    return credential


def _answer(
    core: Core, request: Request, credential: Credential, wish: Registration, *, enterprise: bool
) -> Steps[Answer]:
    data = authenticator_data(
        request.rp_id_hash,
        flags(up=True, uv=request.ceremony.uv),
        core.counted(),
        attested=attested_data(core.profile.aaguid, credential),
        extensions=wish.output(core, credential),
    )
    fmt, statement = yield from attest(core, credential, data, request.ceremony.client_data_hash)
    if credential.discoverable:
        credentials.keep(core, credential)
    core.save()
    answer: dict[int, Any] = {Said.FMT: fmt, Said.AUTH_DATA: data, Said.ATT_STMT: statement}
    if enterprise:
        answer[Said.EP_ATT] = True
    if credential.large_blob_key:
        answer[Said.LARGE_BLOB_KEY] = extensions.large_blob_key(core, credential)
    return answer
