"""Exit codes by kind of error, so that scripts need not read text. Part of the interface; see docs/errors.md."""

from __future__ import annotations

from typing import Final

from tokenbridge import errors

OK: Final = 0
FAILED: Final = 1
USAGE: Final = 2
DEVICE: Final = 3
PIN: Final = 4
REFUSED: Final = 5
CHALLENGED: Final = 6
SETUP: Final = 7
CANCELLED: Final = 130

FAMILIES: Final[tuple[tuple[type[errors.TokenbridgeError], int], ...]] = (
    (errors.PinWrong, PIN),
    (errors.PinBlocked, PIN),
    (errors.PinUnfit, PIN),
    (errors.KeyPinWrong, PIN),
    (errors.KeyPinBlocked, PIN),
    (errors.KeyPinPaused, PIN),
    (errors.KeyPinMissing, PIN),
    (errors.KeyPinMustChange, PIN),
    (errors.KeyPinUnfit, PIN),
    (errors.KeyUvFailed, PIN),
    (errors.DeviceError, DEVICE),
    (errors.CardError, DEVICE),
    (errors.SecurityKeyError, DEVICE),
    (errors.Cancelled, CANCELLED),
    (errors.RequestRefused, REFUSED),
    (errors.Rejected, REFUSED),
    (errors.Undecided, CHALLENGED),
    (errors.SetupError, SETUP),
)
"""The first family that an error belongs to decides; anything else is `FAILED`."""


def exit_code(code: str) -> int:
    """The exit code for the error with the stable code `code`, also when another process reported it."""
    for kind in errors.tree():
        if kind.code == code:
            return code_of(kind)
    return FAILED


def code_of(kind: type[errors.TokenbridgeError]) -> int:
    return next((number for family, number in FAMILIES if issubclass(kind, family)), FAILED)
