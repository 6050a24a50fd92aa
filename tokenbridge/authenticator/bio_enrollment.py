"""authenticatorBioEnrollment: fingerprints learnt, listed, renamed and removed (CTAP 2.1 section 6.7)."""

from __future__ import annotations

from collections.abc import Callable
from enum import IntEnum, unique
from typing import Any, Final

from tokenbridge.authenticator import cbor, parameters
from tokenbridge.authenticator.core import Answer, Core, Enrolment, Parameters
from tokenbridge.authenticator.ports import UserVerification
from tokenbridge.authenticator.status import Refusal, Status, require
from tokenbridge.authenticator.steps import Need, Result, Steps, Wait, ask
from tokenbridge.authenticator.token import Permission
from tokenbridge.authenticator.verification import Auth, require_token

FINGERPRINT: Final = 0x01
TEMPLATE_SIZE: Final = 2
MAX_SECONDS: Final = 60.0


@unique
class SubCommand(IntEnum):
    """Section 6.7.1."""

    ENROLL_BEGIN = 0x01
    ENROLL_CAPTURE_NEXT_SAMPLE = 0x02
    CANCEL_CURRENT_ENROLLMENT = 0x03
    ENUMERATE_ENROLLMENTS = 0x04
    SET_FRIENDLY_NAME = 0x05
    REMOVE_ENROLLMENT = 0x06
    GET_FINGERPRINT_SENSOR_INFO = 0x07


@unique
class Member(IntEnum):
    """Members of the request."""

    MODALITY = 0x01
    SUB_COMMAND = 0x02
    PARAMS = 0x03
    PROTOCOL = 0x04
    PARAM = 0x05
    GET_MODALITY = 0x06


@unique
class Param(IntEnum):
    """Members of subCommandParams."""

    TEMPLATE_ID = 0x01
    FRIENDLY_NAME = 0x02
    TIMEOUT_MILLISECONDS = 0x03


@unique
class Said(IntEnum):
    """Members of the answer."""

    MODALITY = 0x01
    FINGERPRINT_KIND = 0x02
    MAX_CAPTURE_SAMPLES_REQUIRED_FOR_ENROLL = 0x03
    TEMPLATE_ID = 0x04
    LAST_ENROLL_SAMPLE_STATUS = 0x05
    REMAINING_SAMPLES = 0x06
    TEMPLATE_INFOS = 0x07
    MAX_TEMPLATE_FRIENDLY_NAME = 0x08


@unique
class SampleStatus(IntEnum):
    """Section 6.7.3: how the last sample was."""

    GOOD = 0x00
    POOR_QUALITY = 0x0B
    NO_USER_ACTIVITY = 0x0D
    NO_USER_PRESENCE_TRANSITION = 0x0E


def bio_enrollment(core: Core, source: Parameters) -> Steps[Answer]:
    sensor = core.world.sensor
    require(sensor is not None, Status.INVALID_COMMAND)
    assert sensor is not None
    if parameters.optional(source, Member.GET_MODALITY, bool):
        return {Said.MODALITY: FINGERPRINT}
    modality = parameters.required(source, Member.MODALITY, int)
    require(modality == FINGERPRINT, Status.INVALID_PARAMETER)
    number = parameters.required(source, Member.SUB_COMMAND, int)
    if number in _OPEN:
        return _OPEN[number](core, sensor, {})
    params = _authorised(core, source, number)
    if number in _CAPTURES:
        return (yield from _CAPTURES[number](core, sensor, params))
    return _HANDLERS[number](core, sensor, params)


def _authorised(core: Core, source: Parameters, number: int) -> Parameters:
    """The parameters, once the token has signed for them."""
    require(number in _CAPTURES or number in _HANDLERS, Status.INVALID_SUBCOMMAND)
    params = parameters.optional(source, Member.PARAMS, dict)
    message = bytes([FINGERPRINT, number]) + (b"" if params is None else cbor.encode(params))
    auth = Auth.of(source, param=Member.PARAM, protocol=Member.PROTOCOL)
    require_token(core, auth, message, Permission.BIO_ENROLLMENT)
    return params or {}


def _sensor_info(core: Core, sensor: UserVerification, _params: Parameters) -> Answer:
    return {
        Said.FINGERPRINT_KIND: int(sensor.kind),
        Said.MAX_CAPTURE_SAMPLES_REQUIRED_FOR_ENROLL: sensor.samples,
        Said.MAX_TEMPLATE_FRIENDLY_NAME: core.profile.max_name,
    }


def _cancel(core: Core, sensor: UserVerification, _params: Parameters) -> Answer:
    if core.enrolment is not None:
        core.enrolment = None
        sensor.enrol_cancel()
    return None


def _begin(core: Core, sensor: UserVerification, params: Parameters) -> Steps[Answer]:
    """A new template and its first sample; one that was not finished is given up (section 6.7.4)."""
    _cancel(core, sensor, {})
    require(len(core.memory.fingerprints) < sensor.capacity, Status.FP_DATABASE_FULL)
    template = core.world.random.bytes(TEMPLATE_SIZE)
    while template in core.memory.fingerprints:
        template = core.world.random.bytes(TEMPLATE_SIZE)
    core.enrolment = Enrolment(template=template, remaining=sensor.samples)
    sensor.enrol_begin(template)
    said = yield from _sample(core, sensor, params, core.enrolment)
    return {Said.TEMPLATE_ID: template, **said}


def _capture_next(core: Core, sensor: UserVerification, params: Parameters) -> Steps[Answer]:
    template = parameters.required(params, Param.TEMPLATE_ID, bytes)
    enrolment = core.enrolment
    if enrolment is None:
        raise Refusal(Status.NOT_ALLOWED)
    require(enrolment.template == template, Status.INVALID_PARAMETER)
    return (yield from _sample(core, sensor, params, enrolment))


def _sample(core: Core, sensor: UserVerification, params: Parameters, enrolment: Enrolment) -> Steps[dict[int, Any]]:
    """One sample; after the last good one the template is kept."""
    milliseconds = parameters.unsigned(params, Param.TIMEOUT_MILLISECONDS)
    seconds = core.profile.presence_seconds if milliseconds is None else min(milliseconds / 1000, MAX_SECONDS)
    result = yield from ask(Wait(need=Need.SAMPLE, purpose="bioEnrollment", seconds=seconds))
    require(result is not Result.DENIED, Status.OPERATION_DENIED)
    if result is Result.GRANTED:
        enrolment.remaining -= 1
        if enrolment.remaining == 0:
            _keep(core, sensor, enrolment)
    return {Said.LAST_ENROLL_SAMPLE_STATUS: _sample_status(result), Said.REMAINING_SAMPLES: enrolment.remaining}


def _sample_status(result: Result) -> SampleStatus:
    match result:
        case Result.GRANTED:
            return SampleStatus.GOOD
        case Result.TIMED_OUT:
            return SampleStatus.NO_USER_ACTIVITY
        case _:
            return SampleStatus.POOR_QUALITY


def _keep(core: Core, sensor: UserVerification, enrolment: Enrolment) -> None:
    sensor.enrol_finish()
    core.memory.fingerprints[enrolment.template] = ""
    core.memory.uv_tries = core.profile.uv_tries
    core.enrolment = None
    core.save()


def _enumerate(core: Core, _sensor: UserVerification, _params: Parameters) -> Answer:
    require(bool(core.memory.fingerprints), Status.INVALID_OPTION)
    infos = [{0x01: template, **({0x02: name} if name else {})} for template, name in core.memory.fingerprints.items()]
    return {Said.TEMPLATE_INFOS: infos}


def _set_name(core: Core, _sensor: UserVerification, params: Parameters) -> Answer:
    name = parameters.required(params, Param.FRIENDLY_NAME, str)
    template = _known(core, params)
    require(len(name.encode("utf-8")) <= core.profile.max_name, Status.INVALID_LENGTH)
    core.memory.fingerprints[template] = name
    core.save()
    return None


def _remove(core: Core, sensor: UserVerification, params: Parameters) -> Answer:
    template = _known(core, params)
    del core.memory.fingerprints[template]
    sensor.remove(template)
    core.save()
    return None


def _known(core: Core, params: Parameters) -> bytes:
    template = parameters.required(params, Param.TEMPLATE_ID, bytes)
    require(template in core.memory.fingerprints, Status.INVALID_OPTION)
    return template


_Handler = Callable[[Core, UserVerification, Parameters], Answer]
_Capture = Callable[[Core, UserVerification, Parameters], Steps[Answer]]
_OPEN: Final[dict[int, _Handler]] = {
    SubCommand.CANCEL_CURRENT_ENROLLMENT: _cancel,
    SubCommand.GET_FINGERPRINT_SENSOR_INFO: _sensor_info,
}
"""What needs no token."""
_CAPTURES: Final[dict[int, _Capture]] = {
    SubCommand.ENROLL_BEGIN: _begin,
    SubCommand.ENROLL_CAPTURE_NEXT_SAMPLE: _capture_next,
}
_HANDLERS: Final[dict[int, _Handler]] = {
    SubCommand.ENUMERATE_ENROLLMENTS: _enumerate,
    SubCommand.SET_FRIENDLY_NAME: _set_name,
    SubCommand.REMOVE_ENROLLMENT: _remove,
}
