"""Keys from before CTAP2 (U2F raw messages 1.2): touch only, no PIN, the site must name the credential."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from enum import IntEnum, unique
from typing import Final, TypeVar

from fido2.ctap1 import ApduError
from fido2.ctap2.base import AssertionResponse
from fido2.webauthn import AttestationObject

from tokenbridge.errors import BadKeyData, NoCredential
from tokenbridge.fido.session import KeySession

T = TypeVar("T")
POLL_SECONDS: Final = 0.2
"""A U2F key answers at once that it wants a touch, and must be asked again (section 3.3)."""
MAX_HANDLE: Final = 255
NO_CHALLENGE: Final = b"\0" * 32


@unique
class SW(IntEnum):
    """Section 3.3."""

    CONDITIONS_NOT_SATISFIED = 0x6985
    WRONG_DATA = 0x6A80


def register(session: KeySession, rp_id: str, client_hash: bytes) -> AttestationObject:
    """A new credential. Waits for a touch."""
    app = _hash(rp_id)
    with session.calling_u2f() as ctap:
        return AttestationObject.from_ctap1(app, _touched(session, lambda: ctap.register(client_hash, app)))


def sign(session: KeySession, rp_id: str, client_hash: bytes, allow: Sequence[bytes]) -> AssertionResponse:
    """An assertion by the first of `allow` that the key knows. Raises `NoCredential`."""
    handle = knows(session, rp_id, allow)
    if handle is None:
        raise NoCredential()
    app = _hash(rp_id)
    with session.calling_u2f() as ctap:
        data = _touched(session, lambda: ctap.authenticate(client_hash, app, handle))
        return AssertionResponse.from_ctap1(app, {"type": "public-key", "id": handle}, data)


def knows(session: KeySession, rp_id: str, handles: Sequence[bytes]) -> bytes | None:
    """The first of `handles` that is the key's, by "check-only" (section 5.1); needs no touch."""
    app = _hash(rp_id)
    for handle in handles:
        if len(handle) <= MAX_HANDLE and _is_known(session, app, handle):
            return handle
    return None


def select(session: KeySession) -> None:
    """Return when the key is touched: a registration that nobody keeps."""
    with session.calling_u2f() as ctap:
        _touched(session, lambda: ctap.register(NO_CHALLENGE, NO_CHALLENGE))


def _is_known(session: KeySession, app: bytes, handle: bytes) -> bool:
    with session.calling_u2f() as ctap:
        try:
            ctap.authenticate(NO_CHALLENGE, app, handle, check_only=True)
        except ApduError as err:
            return err.code == SW.CONDITIONS_NOT_SATISFIED
        raise BadKeyData(detail="it signed without being asked to")


def _touched(session: KeySession, call: Callable[[], T]) -> T:
    """Repeat `call` until the key was touched. Raises `Cancelled`, `TimedOut`, `NoCredential`, `BadKeyData`."""
    while True:
        try:
            return call()
        except ApduError as err:
            if err.code == SW.WRONG_DATA:
                raise NoCredential() from err
            if err.code != SW.CONDITIONS_NOT_SATISFIED:
                raise BadKeyData(detail=f"SW={err.code:04X}") from err
        session.wants_touch()
        session.pause(POLL_SECONDS)


def _hash(rp_id: str) -> bytes:
    return hashlib.sha256(rp_id.encode("utf-8")).digest()
