"""The one table that turns a key's status codes, and answers that can't be right, into tokenbridge's errors."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from fido2.ctap import CtapError

from tokenbridge import errors
from tokenbridge.errors import BadKeyData, KeyStatus, TokenbridgeError

ERR = CtapError.ERR

_BY_STATUS: Final[dict[int, Callable[[], TokenbridgeError]]] = {
    ERR.CREDENTIAL_EXCLUDED: errors.CredentialExists,
    ERR.NO_CREDENTIALS: errors.NoCredential,
    ERR.INVALID_CREDENTIAL: errors.NoCredential,
    ERR.KEY_STORE_FULL: errors.KeyFull,
    ERR.FP_DATABASE_FULL: lambda: errors.KeyFull("The security key has no room for another fingerprint."),
    ERR.LARGE_BLOB_STORAGE_FULL: errors.KeyFull,
    ERR.OPERATION_DENIED: errors.KeyRefused,
    ERR.USER_ACTION_TIMEOUT: errors.KeyNotTouched,
    ERR.ACTION_TIMEOUT: errors.KeyNotTouched,
    ERR.TIMEOUT: errors.KeyNotTouched,
    ERR.UP_REQUIRED: errors.KeyNotTouched,
    ERR.KEEPALIVE_CANCEL: lambda: errors.Cancelled("caller"),
    ERR.PIN_INVALID: errors.KeyPinWrong,
    ERR.PIN_BLOCKED: errors.KeyPinBlocked,
    ERR.PIN_AUTH_BLOCKED: errors.KeyPinPaused,
    ERR.PIN_NOT_SET: errors.KeyPinMissing,
    ERR.PIN_POLICY_VIOLATION: lambda: errors.KeyPinUnfit(
        "The security key does not take that PIN.", next_step="Choose a longer one, or one that was not used before."
    ),
    ERR.UV_INVALID: errors.KeyUvFailed,
    ERR.UV_BLOCKED: errors.KeyUvBlocked,
    ERR.PUAT_REQUIRED: errors.KeyVerificationWanted,
    ERR.UNSUPPORTED_ALGORITHM: lambda: errors.KeyUnsupported(
        "The security key has no algorithm that the site accepts."
    ),
    ERR.UNSUPPORTED_OPTION: errors.KeyUnsupported,
    ERR.INVALID_COMMAND: errors.KeyUnsupported,
    ERR.INVALID_SUBCOMMAND: errors.KeyUnsupported,
    ERR.UNAUTHORIZED_PERMISSION: errors.KeyUnsupported,
    ERR.CHANNEL_BUSY: lambda: errors.DeviceBusy("The security key is busy with another program."),
}
"""CTAP 2.1 section 8.2. What is not listed keeps its code as `KeyStatus`."""

MALFORMED: Final = (
    ValueError, TypeError, LookupError, AttributeError, ArithmeticError, AssertionError, struct.error, RecursionError,
    MemoryError,
)  # fmt: skip
"""What python-fido2 raises on answers that it can't take apart; it makes N zeros of a number in place of bytes."""


def error_of(status: int) -> TokenbridgeError:
    """The error for a status; the class, the words and the next step are the table's."""
    make = _BY_STATUS.get(status)
    if make is None:
        return KeyStatus("The security key refused.", status=status)
    error = make()
    error.detail = error.detail or f"CTAP status {status:02X}"
    return error


@contextmanager
def by_finger(built_in: bool) -> Iterator[None]:
    """Inside `translated`, around a request with the option "uv": a refusal then means that the finger was not known.

    Keys answer one way or the other (CTAP 2.1 sections 6.1.2 and 6.2.2): denied, or that a PIN is wanted instead.
    """
    try:
        yield
    except CtapError as err:
        if built_in and err.code == ERR.OPERATION_DENIED:
            raise errors.KeyUvFailed(detail=str(err)) from err
        if built_in and err.code == ERR.PUAT_REQUIRED:
            raise errors.KeyUvBlocked(detail=str(err)) from err
        raise


@contextmanager
def translated() -> Iterator[None]:
    """Around every call into python-fido2: only `TokenbridgeError` comes out."""
    try:
        yield
    except CtapError as err:
        raise error_of(int(err.code)) from err
    except MALFORMED as err:
        raise BadKeyData(detail=repr(err)) from err
