"""User verification and presence of a ceremony: what the request must bring, and what the person is asked for.

CTAP 2.1 sections 6.1.2 and 6.2.2, the steps that makeCredential and getAssertion have in common.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, auto, unique
from typing import Any

from tokenbridge.authenticator import parameters
from tokenbridge.authenticator.core import Core
from tokenbridge.authenticator.profile import PinProtocol
from tokenbridge.authenticator.status import Refusal, Status, refuse, require
from tokenbridge.authenticator.steps import Need, Result, Steps, Wait, ask, touch
from tokenbridge.authenticator.token import Permission


@dataclass(frozen=True, slots=True, kw_only=True)
class Auth:
    """pinUvAuthParam and pinUvAuthProtocol of a request."""

    param: bytes | None
    protocol: int | None

    @classmethod
    def of(cls, source: Mapping[Any, Any], *, param: int, protocol: int) -> Auth:
        """From the members with these numbers."""
        return cls(param=parameters.optional(source, param, bytes), protocol=parameters.optional(source, protocol, int))

    def checked_protocol(self, core: Core) -> PinProtocol:
        """Refuses with MISSING_PARAMETER or INVALID_PARAMETER."""
        return core.agreement(self.protocol).number


@dataclass(slots=True, kw_only=True)
class Ceremony:
    """A registration or sign-in on its way. `up` and `uv` become what the answer will say."""

    purpose: str
    permission: Permission
    rp_id: str
    client_data_hash: bytes
    auth: Auth
    uv_wanted: bool
    user: str = ""
    up: bool = False
    uv: bool = False

    def wait(self, core: Core, need: Need = Need.TOUCH) -> Wait:
        return core.wait(self.purpose, need=need, rp_id=self.rp_id, user=self.user)


@unique
class Uv(Enum):
    """How built-in user verification ended."""

    MATCHED = auto()
    FAILED = auto()
    BLOCKED = auto()
    TIMED_OUT = auto()
    DENIED = auto()


def probe(core: Core, ceremony: Ceremony) -> Steps[None]:
    """A pinUvAuthParam of no length asks for a touch only, to choose among keys (section 6.1.2 step 1)."""
    if ceremony.auth.param != b"":
        return
    yield from touch(ceremony.wait(core))
    refuse(Status.PIN_INVALID if core.has_pin else Status.PIN_NOT_SET)


def check_uv_option(core: Core, source: Mapping[Any, Any], auth: Auth) -> bool:
    """Whether the option "uv" asks for built-in verification; a pinUvAuthParam makes it void (step 5)."""
    wanted = parameters.optional(source, "uv", bool) is True and auth.param is None
    require(not wanted or core.has_built_in, Status.INVALID_OPTION)
    return wanted


def always_uv(core: Core, ceremony: Ceremony) -> None:
    """With alwaysUv on, what the request lacks is made up for by the sensor, or refused (section 6.1.2 step 6)."""
    if not core.memory.always_uv or ceremony.auth.param is not None or ceremony.uv_wanted:
        return
    if core.has_built_in:
        ceremony.uv_wanted = True
        return
    refuse_unverified(core)


def refuse_unverified(core: Core) -> None:
    refuse(Status.PUAT_REQUIRED if core.profile.client_pin else Status.OPERATION_DENIED)


def verify(core: Core, ceremony: Ceremony) -> Steps[None]:
    """By the token if the request has one, else by the sensor if it is wanted (step 11)."""
    if ceremony.auth.param is not None:
        _verify_token(core, ceremony, ceremony.auth.param)
    elif ceremony.uv_wanted:
        outcome = yield from built_in(core, ceremony.wait(core, Need.VERIFICATION))
        _require_matched(core, outcome)
        ceremony.uv = True
        # the finger on the sensor is evidence of interaction as well
        ceremony.up = True


def _verify_token(core: Core, ceremony: Ceremony, param: bytes) -> None:
    protocol = ceremony.auth.checked_protocol(core)
    token = core.token
    require(token.verifies(protocol, ceremony.client_data_hash, param, core.now), Status.PIN_AUTH_INVALID)
    permitted = token.permits(ceremony.permission) and token.fits(ceremony.rp_id)
    require(permitted and token.user_verified(), Status.PIN_AUTH_INVALID)
    token.bind(ceremony.rp_id)
    ceremony.uv = True


def _require_matched(core: Core, outcome: Uv) -> None:
    match outcome:
        case Uv.MATCHED:
            return
        case Uv.TIMED_OUT:
            raise Refusal(Status.USER_ACTION_TIMEOUT)
        case Uv.BLOCKED if core.has_pin:
            raise Refusal(Status.PUAT_REQUIRED)
        case _:
            raise Refusal(Status.OPERATION_DENIED)


def built_in(core: Core, wait: Wait) -> Steps[Uv]:
    """performBuiltInUv with internal retries (section 6.5.3.1). Only a finger that does not match costs a try."""
    for _ in range(core.profile.uv_tries_per_request):
        if core.memory.uv_tries == 0:
            return Uv.BLOCKED
        result = yield from ask(wait)
        if result is not Result.NO_MATCH:
            return _settled(core, result)
        core.memory.uv_tries -= 1
        core.save()
    return Uv.FAILED if core.memory.uv_tries else Uv.BLOCKED


def _settled(core: Core, result: Result) -> Uv:
    if result is Result.GRANTED:
        if core.memory.uv_tries != core.profile.uv_tries:
            core.memory.uv_tries = core.profile.uv_tries
            core.save()
        return Uv.MATCHED
    return Uv.TIMED_OUT if result is Result.TIMED_OUT else Uv.DENIED


def presence(core: Core, ceremony: Ceremony) -> Steps[None]:
    """A touch, unless the token or the sensor has proved presence already (step 14)."""
    already = core.token.user_present(core.now) if ceremony.auth.param is not None else ceremony.up
    if not already:
        yield from touch(ceremony.wait(core))
    ceremony.up = True


def spend_token(core: Core, ceremony: Ceremony) -> None:
    """After presence was used up, the token serves no other ceremony (step 14.3)."""
    if ceremony.auth.param is not None:
        core.token.spend()


def require_token(core: Core, auth: Auth, message: bytes, permission: Permission) -> None:
    """What the management commands want: a token, signed for `message`, with `permission`."""
    if auth.param is None:
        raise Refusal(Status.PUAT_REQUIRED)
    protocol = auth.checked_protocol(core)
    valid = core.token.verifies(protocol, message, auth.param, core.now) and core.token.permits(permission)
    require(valid, Status.PIN_AUTH_INVALID)
