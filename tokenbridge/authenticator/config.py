"""authenticatorConfig: enterprise attestation, alwaysUv, minimum PIN length (CTAP 2.1 section 6.11)."""

from __future__ import annotations

from collections.abc import Callable
from enum import IntEnum, unique
from typing import Final

from tokenbridge.authenticator import cbor, parameters
from tokenbridge.authenticator.core import Answer, Core, Parameters
from tokenbridge.authenticator.parameters import MAX_RP_ID
from tokenbridge.authenticator.profile import MAX_PIN_BYTES
from tokenbridge.authenticator.status import Status, refuse, require
from tokenbridge.authenticator.steps import Steps
from tokenbridge.authenticator.token import Permission
from tokenbridge.authenticator.verification import Auth, require_token

PREFIX: Final = b"\xff" * 32 + b"\x0d"
"""What the token signs begins with this (section 6.11)."""


@unique
class SubCommand(IntEnum):
    """Section 6.11."""

    ENABLE_ENTERPRISE_ATTESTATION = 0x01
    TOGGLE_ALWAYS_UV = 0x02
    SET_MIN_PIN_LENGTH = 0x03


@unique
class Member(IntEnum):
    """Members of the request."""

    SUB_COMMAND = 0x01
    PARAMS = 0x02
    PROTOCOL = 0x03
    PARAM = 0x04


@unique
class Param(IntEnum):
    """Members of subCommandParams of setMinPINLength."""

    NEW_MIN_PIN_LENGTH = 0x01
    MIN_PIN_LENGTH_RP_IDS = 0x02
    FORCE_CHANGE_PIN = 0x03


def config(core: Core, source: Parameters) -> Steps[Answer]:
    yield from ()
    number = parameters.required(source, Member.SUB_COMMAND, int)
    handler = _HANDLERS.get(number)
    if handler is None:
        refuse(Status.INVALID_SUBCOMMAND)
    params = parameters.optional(source, Member.PARAMS, dict)
    auth = Auth.of(source, param=Member.PARAM, protocol=Member.PROTOCOL)
    # an unprotected device can be configured by whoever holds it: there is nobody to verify yet
    if core.protected or core.memory.always_uv or auth.param is not None:
        message = PREFIX + bytes([number]) + (b"" if params is None else cbor.encode(params))
        require_token(core, auth, message, Permission.AUTHENTICATOR_CONFIGURATION)
    handler(core, params or {})
    core.save()
    return None


def _enable_enterprise(core: Core, _params: Parameters) -> None:
    require(core.profile.enterprise, Status.INVALID_SUBCOMMAND)
    core.memory.enterprise = True


def _toggle_always_uv(core: Core, _params: Parameters) -> None:
    core.memory.always_uv = not core.memory.always_uv


def _set_min_pin_length(core: Core, params: Parameters) -> None:
    """Section 6.11.4: the length may only grow; a PIN that is too short then has to be changed before it serves."""
    require(core.profile.client_pin, Status.INVALID_SUBCOMMAND)
    memory = core.memory
    asked = parameters.unsigned(params, Param.NEW_MIN_PIN_LENGTH)
    length = memory.min_pin_length if asked is None else asked
    require(memory.min_pin_length <= length <= MAX_PIN_BYTES, Status.PIN_POLICY_VIOLATION)
    rp_ids = parameters.items(params, Param.MIN_PIN_LENGTH_RP_IDS, str)
    _check_rp_ids(core, rp_ids)
    forced = parameters.optional(params, Param.FORCE_CHANGE_PIN, bool) is True
    require(not forced or core.has_pin, Status.PIN_NOT_SET)
    if forced or (memory.pin is not None and memory.pin.length < length):
        memory.force_pin_change = True
        core.token.reset()
    memory.min_pin_length = length
    if rp_ids is not None:
        memory.min_pin_rp_ids = rp_ids


def _check_rp_ids(core: Core, rp_ids: list[str] | None) -> None:
    few = rp_ids is None or len(rp_ids) <= core.profile.max_rp_ids
    require(few, Status.KEY_STORE_FULL)
    require(all(len(rp_id) <= MAX_RP_ID for rp_id in rp_ids or ()), Status.INVALID_LENGTH)


_HANDLERS: Final[dict[int, Callable[[Core, Parameters], None]]] = {
    SubCommand.ENABLE_ENTERPRISE_ATTESTATION: _enable_enterprise,
    SubCommand.TOGGLE_ALWAYS_UV: _toggle_always_uv,
    SubCommand.SET_MIN_PIN_LENGTH: _set_min_pin_length,
}
