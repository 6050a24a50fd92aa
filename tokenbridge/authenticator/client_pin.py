"""authenticatorClientPIN: setting and changing the PIN, tries, and tokens (CTAP 2.1 section 6.5.5)."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum, unique
from typing import Any, Final

from tokenbridge.authenticator import parameters
from tokenbridge.authenticator.core import Answer, Core, Parameters
from tokenbridge.authenticator.memory import Pin
from tokenbridge.authenticator.pin_protocol import KeyAgreement, SharedSecret
from tokenbridge.authenticator.profile import MAX_PIN_BYTES
from tokenbridge.authenticator.status import Refusal, Status, refuse, require
from tokenbridge.authenticator.steps import Need, Steps
from tokenbridge.authenticator.token import CEREMONIES, Permission
from tokenbridge.authenticator.verification import Uv, built_in

DIGEST_SIZE: Final = 16
PADDED_PIN: Final = 64


@unique
class SubCommand(IntEnum):
    """Section 6.5.5.1."""

    GET_PIN_RETRIES = 0x01
    GET_KEY_AGREEMENT = 0x02
    SET_PIN = 0x03
    CHANGE_PIN = 0x04
    GET_PIN_TOKEN = 0x05
    GET_PIN_UV_AUTH_TOKEN_USING_UV_WITH_PERMISSIONS = 0x06
    GET_UV_RETRIES = 0x07
    GET_PIN_UV_AUTH_TOKEN_USING_PIN_WITH_PERMISSIONS = 0x09


@unique
class Member(IntEnum):
    """Members of the request."""

    PROTOCOL = 0x01
    SUB_COMMAND = 0x02
    KEY_AGREEMENT = 0x03
    PARAM = 0x04
    NEW_PIN_ENC = 0x05
    PIN_HASH_ENC = 0x06
    PERMISSIONS = 0x09
    RP_ID = 0x0A


@unique
class Said(IntEnum):
    """Members of the answer."""

    KEY_AGREEMENT = 0x01
    TOKEN = 0x02
    PIN_RETRIES = 0x03
    POWER_CYCLE_STATE = 0x04
    UV_RETRIES = 0x05


def client_pin(core: Core, source: Parameters) -> Steps[Answer]:
    number = parameters.required(source, Member.SUB_COMMAND, int)
    require(core.profile.user_verification, Status.INVALID_COMMAND)
    if number == SubCommand.GET_PIN_UV_AUTH_TOKEN_USING_UV_WITH_PERMISSIONS:
        return (yield from _token_by_built_in(core, source))
    handler = _HANDLERS.get(number)
    if handler is None or (number in _PIN_ONLY and not core.profile.client_pin):
        refuse(Status.INVALID_SUBCOMMAND)
    return handler(core, source)


def power_cycle_wanted(core: Core) -> bool:
    """Whether three wrong PINs in a row have closed the PIN until the device is plugged in again (section 6.5.5.6)."""
    return core.wrong_pins >= core.profile.pin_tries_per_power


def _pin_retries(core: Core, _source: Parameters) -> Answer:
    return {Said.PIN_RETRIES: core.memory.pin_tries, Said.POWER_CYCLE_STATE: power_cycle_wanted(core)}


def _uv_retries(core: Core, _source: Parameters) -> Answer:
    require(core.profile.built_in, Status.INVALID_SUBCOMMAND)
    return {Said.UV_RETRIES: core.memory.uv_tries}


def _key_agreement(core: Core, source: Parameters) -> Answer:
    number = parameters.required(source, Member.PROTOCOL, int)
    return {Said.KEY_AGREEMENT: core.agreement(number).public()}


@dataclass(frozen=True, slots=True)
class _Dialogue:
    """The secret agreed on for one request, and the authenticator's half of it."""

    agreement: KeyAgreement
    secret: SharedSecret


def _agree(core: Core, source: Parameters) -> _Dialogue:
    number = parameters.required(source, Member.PROTOCOL, int)
    peer = parameters.required(source, Member.KEY_AGREEMENT, dict)
    agreement = core.agreement(number)
    return _Dialogue(agreement, agreement.decapsulate(peer))


def _set_pin(core: Core, source: Parameters) -> Answer:
    """Section 6.5.5.5."""
    new_pin = parameters.required(source, Member.NEW_PIN_ENC, bytes)
    param = parameters.required(source, Member.PARAM, bytes)
    dialogue = _agree(core, source)
    require(not core.has_pin, Status.PIN_AUTH_INVALID)
    require(dialogue.secret.verifies(new_pin, param), Status.PIN_AUTH_INVALID)
    core.memory.pin = _new_pin(core, dialogue.secret, new_pin)
    _pin_renewed(core)
    return None


def _change_pin(core: Core, source: Parameters) -> Answer:
    """Section 6.5.5.6."""
    new_pin = parameters.required(source, Member.NEW_PIN_ENC, bytes)
    pin_hash = parameters.required(source, Member.PIN_HASH_ENC, bytes)
    param = parameters.required(source, Member.PARAM, bytes)
    _require_tries(core)
    dialogue = _agree(core, source)
    require(dialogue.secret.verifies(new_pin + pin_hash, param), Status.PIN_AUTH_INVALID)
    _check_pin(core, dialogue, pin_hash)
    renewed = _new_pin(core, dialogue.secret, new_pin)
    old = core.memory.pin
    same = old is not None and hmac.compare_digest(old.digest, renewed.digest)
    require(not (core.memory.force_pin_change and same), Status.PIN_POLICY_VIOLATION)
    core.memory.pin = renewed
    _pin_renewed(core)
    return None


def _pin_renewed(core: Core) -> None:
    core.memory.pin_tries = core.profile.pin_tries
    core.memory.force_pin_change = False
    core.save()
    core.token.reset()


def _new_pin(core: Core, secret: SharedSecret, sealed: bytes) -> Pin:
    """The PIN in newPinEnc, if the rules allow it; its length counts in code points (section 6.5.1)."""
    clear = secret.decrypt(sealed)
    if clear is None or len(clear) != PADDED_PIN:
        raise Refusal(Status.INVALID_PARAMETER)
    pin = clear.rstrip(b"\0")
    try:
        length = len(pin.decode("utf-8"))
    except UnicodeDecodeError as err:
        raise Refusal(Status.PIN_POLICY_VIOLATION) from err
    require(core.memory.min_pin_length <= length and len(pin) <= MAX_PIN_BYTES, Status.PIN_POLICY_VIOLATION)
    return Pin(digest=hashlib.sha256(pin).digest()[:DIGEST_SIZE], length=length)


def _require_tries(core: Core) -> None:
    require(core.has_pin, Status.PIN_NOT_SET)
    require(core.memory.pin_tries > 0, Status.PIN_BLOCKED)
    require(not power_cycle_wanted(core), Status.PIN_AUTH_BLOCKED)


def _check_pin(core: Core, dialogue: _Dialogue, sealed: bytes) -> None:
    """Compare. The try is spent, durably, before the comparison, so that cutting the power saves nobody one."""
    core.memory.pin_tries -= 1
    core.save()
    clear = dialogue.secret.decrypt(sealed)
    stored = core.memory.pin
    if stored is not None and clear is not None and hmac.compare_digest(stored.digest, clear):
        core.wrong_pins = 0
        core.memory.pin_tries = core.profile.pin_tries
        core.memory.uv_tries = core.profile.uv_tries
        core.save()
        return
    dialogue.agreement.regenerate()
    core.wrong_pins += 1
    require(core.memory.pin_tries > 0, Status.PIN_BLOCKED)
    require(not power_cycle_wanted(core), Status.PIN_AUTH_BLOCKED)
    refuse(Status.PIN_INVALID)


def _pin_token(core: Core, source: Parameters) -> Answer:
    """The token of CTAP 2.0: for ceremonies, and the first RP ID binds it (section 6.5.5.7.1)."""
    unfit = Member.PERMISSIONS in source or Member.RP_ID in source
    require(not unfit, Status.INVALID_PARAMETER)
    return _token_by_pin(core, source, CEREMONIES, None)


def _pin_token_with_permissions(core: Core, source: Parameters) -> Answer:
    """Section 6.5.5.7.2."""
    permissions, rp_id = _permissions(core, source)
    return _token_by_pin(core, source, permissions, rp_id)


def _token_by_pin(core: Core, source: Parameters, permissions: Permission, rp_id: str | None) -> Answer:
    pin_hash = parameters.required(source, Member.PIN_HASH_ENC, bytes)
    dialogue = _agree(core, source)
    _require_tries(core)
    _check_pin(core, dialogue, pin_hash)
    require(not core.memory.force_pin_change, Status.PIN_INVALID)
    return _token(core, dialogue, permissions, rp_id, user_present=False)


def _token_by_built_in(core: Core, source: Parameters) -> Steps[Answer]:
    """Section 6.5.5.7.3."""
    permissions, rp_id = _permissions(core, source)
    dialogue = _agree(core, source)
    require(core.profile.built_in, Status.INVALID_SUBCOMMAND)
    require(core.has_built_in, Status.NOT_ALLOWED)
    require(core.memory.uv_tries > 0, Status.UV_BLOCKED)
    outcome = yield from built_in(core, core.wait("clientPIN", need=Need.VERIFICATION, rp_id=rp_id or ""))
    match outcome:
        case Uv.MATCHED:
            return _token(core, dialogue, permissions, rp_id, user_present=True)
        case Uv.TIMED_OUT:
            raise Refusal(Status.USER_ACTION_TIMEOUT)
        case Uv.BLOCKED:
            raise Refusal(Status.UV_BLOCKED)
        case Uv.DENIED:
            raise Refusal(Status.OPERATION_DENIED)
        case _:
            raise Refusal(Status.UV_INVALID)


def _token(
    core: Core, dialogue: _Dialogue, permissions: Permission, rp_id: str | None, *, user_present: bool
) -> Answer:
    number = dialogue.agreement.number
    token = core.token.begin(number, permissions, rp_id, user_present=user_present, now=core.now)
    return {Said.TOKEN: dialogue.secret.encrypt(token)}


def _permissions(core: Core, source: Parameters) -> tuple[Permission, str | None]:
    """Those that the request asks for and this device has (section 6.5.5.7); unknown bits are of no account."""
    asked = parameters.required(source, Member.PERMISSIONS, int)
    rp_id = parameters.optional(source, Member.RP_ID, str)
    require(asked > 0, Status.INVALID_PARAMETER)
    profile = core.profile
    offered = {
        Permission.CREDENTIAL_MANAGEMENT: profile.credential_management,
        Permission.BIO_ENROLLMENT: profile.fingerprints,
        Permission.LARGE_BLOB_WRITE: profile.large_blobs,
        Permission.AUTHENTICATOR_CONFIGURATION: profile.config,
    }
    lacking = any(asked & permission and not has for permission, has in offered.items())
    require(not lacking, Status.UNAUTHORIZED_PERMISSION)
    require(rp_id is not None or not asked & CEREMONIES, Status.MISSING_PARAMETER)
    return Permission(asked & sum(Permission)), rp_id


_Handler = Callable[[Core, Parameters], dict[Any, Any] | None]
_HANDLERS: Final[dict[int, _Handler]] = {
    SubCommand.GET_PIN_RETRIES: _pin_retries,
    SubCommand.GET_KEY_AGREEMENT: _key_agreement,
    SubCommand.SET_PIN: _set_pin,
    SubCommand.CHANGE_PIN: _change_pin,
    SubCommand.GET_PIN_TOKEN: _pin_token,
    SubCommand.GET_UV_RETRIES: _uv_retries,
    SubCommand.GET_PIN_UV_AUTH_TOKEN_USING_PIN_WITH_PERMISSIONS: _pin_token_with_permissions,
}
_PIN_ONLY: Final = frozenset(
    {
        SubCommand.GET_PIN_RETRIES,
        SubCommand.SET_PIN,
        SubCommand.CHANGE_PIN,
        SubCommand.GET_PIN_TOKEN,
        SubCommand.GET_PIN_UV_AUTH_TOKEN_USING_PIN_WITH_PERMISSIONS,
    }
)
"""What a device without PIN does not have."""
