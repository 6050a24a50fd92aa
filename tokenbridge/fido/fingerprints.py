"""A key's fingerprints: list, add, name, delete (authenticatorBioEnrollment, CTAP 2.1 section 6.7)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from fido2.ctap import CtapError
from fido2.ctap2.bio import BioEnrollment, CaptureError, FPBioEnrollment

from tokenbridge.errors import KeyNotTouched, KeyUnsupported, KeyUvFailed, TokenbridgeError
from tokenbridge.fido.pin import Token
from tokenbridge.fido.session import KeySession
from tokenbridge.fido.values import count, octets, text

INFO: Final = BioEnrollment.TEMPLATE_INFO
MAX_FINGERS: Final = 64
MAX_SAMPLES: Final = 100
MAX_ABSENT: Final = 3
"""Samples in a row for which nobody touched the sensor."""
NO_ACTIVITY: Final = 0x0D

FEEDBACK: Final = {
    0x01: "too high on the sensor",
    0x02: "too low on the sensor",
    0x03: "too far left",
    0x04: "too far right",
    0x05: "moved too fast",
    0x06: "moved too slowly",
    0x07: "not clear enough",
    0x08: "askew",
    0x09: "too short a touch",
    0x0A: "not a finger, or two",
    0x0B: "the same part of the finger again",
    0x0D: "no finger was felt",
    0x0E: "the finger stayed still",
}
"""lastEnrollSampleStatus (section 6.7.4), in words."""

Tell = Callable[[int, str], None]
"""Called after each sample with how many are still needed, and what was wrong with this one (or "")."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finger:
    """`id` is the key's template id."""

    id: bytes
    name: str


def enrolled(session: KeySession, token: Token) -> tuple[Finger, ...]:
    """The fingers that the key knows."""
    with session.calling():
        found = _enrolled(_manage(session, token))
        count(len(found), MAX_FINGERS)
        return tuple(Finger(id=octets(item[INFO.ID]), name=text(item.get(INFO.NAME))) for item in found)


def add(session: KeySession, token: Token, name: str, tell: Tell) -> Finger:
    """Lead a person through the samples. Raises `KeyUvFailed` when the key never gets enough good ones."""
    with session.calling():
        manage = _manage(session, token)
        context = manage.enroll()
        try:
            template = _samples(context, tell)
        except BaseException:
            _give_up(context)
            raise
        if name:
            manage.set_name(template, name)
    session.forget()
    return Finger(id=octets(template), name=name)


def rename(session: KeySession, token: Token, finger: bytes, name: str) -> None:
    with session.calling():
        _manage(session, token).set_name(finger, name)


def delete(session: KeySession, token: Token, finger: bytes) -> None:
    with session.calling():
        _manage(session, token).remove_enrollment(finger)
    session.forget()


def matching(found: tuple[Finger, ...], wanted: str) -> Finger:
    """The one with this name or id (hexadecimal). Raises `KeyUvFailed` for none, or for several."""
    hits = [finger for finger in found if wanted in (finger.name, finger.id.hex())]
    if len(hits) != 1:
        raise KeyUvFailed(
            f"The key knows {len(hits) or 'no'} finger{'s' * (len(hits) > 1)} called {wanted!r}.",
            next_step="See `tokenbridge key fingerprints list`.",
        )
    return hits[0]


def _manage(session: KeySession, token: Token) -> FPBioEnrollment:
    with session.calling() as ctap:
        if not BioEnrollment.is_supported(ctap.info):
            raise KeyUnsupported("This security key has no fingerprint sensor.")
        return FPBioEnrollment(ctap, token.protocol, bytes(token.secret.reveal()))


def _enrolled(manage: FPBioEnrollment) -> Sequence[Mapping[int, Any]]:
    """What python-fido2's own call asks, which wants each finger to have a name; keys may leave it out."""
    try:
        answer = manage._call(FPBioEnrollment.CMD.ENUMERATE_ENROLLMENTS)  # type: ignore[no-untyped-call]
    except CtapError as err:
        if err.code == CtapError.ERR.INVALID_OPTION:  # none (section 6.7.6)
            return ()
        raise
    found: Sequence[Mapping[int, Any]] = answer[BioEnrollment.RESULT.TEMPLATE_INFOS]
    return found


def _samples(context: Any, tell: Tell) -> bytes:
    absent = 0
    for _ in range(MAX_SAMPLES):
        try:
            template = context.capture()
        except CaptureError as err:
            absent = absent + 1 if err.code == NO_ACTIVITY else 0
            if absent >= MAX_ABSENT:
                raise KeyNotTouched() from err
            tell(int(context.remaining or 0), FEEDBACK.get(int(err.code), "not usable"))
            continue
        tell(int(context.remaining or 0), "")
        if template is not None:
            return octets(template)
    raise KeyUvFailed(
        "The key did not get enough good samples of your finger.", next_step="Clean the sensor and retry."
    )


def _give_up(context: Any) -> None:
    """Leave no half-known finger behind; a key that is gone has none anyway."""
    try:
        context.cancel()
    except (CtapError, TokenbridgeError, ValueError):
        return
