"""The table of commands (CTAP 2.1 section 6): which byte means what, and whether this device has it."""

from __future__ import annotations

from enum import IntEnum, unique
from typing import Final

from tokenbridge.authenticator.bio_enrollment import bio_enrollment
from tokenbridge.authenticator.client_pin import client_pin
from tokenbridge.authenticator.config import config
from tokenbridge.authenticator.core import Command, Core
from tokenbridge.authenticator.credential_management import credential_management
from tokenbridge.authenticator.get_assertion import get_assertion, get_next_assertion
from tokenbridge.authenticator.get_info import get_info
from tokenbridge.authenticator.large_blobs import large_blobs
from tokenbridge.authenticator.make_credential import make_credential
from tokenbridge.authenticator.reset import reset, selection


@unique
class CommandByte(IntEnum):
    """Named as in section 6; the last two are those of FIDO_2_1_PRE."""

    MAKE_CREDENTIAL = 0x01
    GET_ASSERTION = 0x02
    GET_INFO = 0x04
    CLIENT_PIN = 0x06
    RESET = 0x07
    GET_NEXT_ASSERTION = 0x08
    BIO_ENROLLMENT = 0x09
    CREDENTIAL_MANAGEMENT = 0x0A
    SELECTION = 0x0B
    LARGE_BLOBS = 0x0C
    CONFIG = 0x0D
    BIO_ENROLLMENT_PREVIEW = 0x40
    CREDENTIAL_MANAGEMENT_PREVIEW = 0x41


COMMANDS: Final[dict[int, Command]] = {
    CommandByte.MAKE_CREDENTIAL: make_credential,
    CommandByte.GET_ASSERTION: get_assertion,
    CommandByte.GET_INFO: get_info,
    CommandByte.CLIENT_PIN: client_pin,
    CommandByte.RESET: reset,
    CommandByte.GET_NEXT_ASSERTION: get_next_assertion,
    CommandByte.BIO_ENROLLMENT: bio_enrollment,
    CommandByte.CREDENTIAL_MANAGEMENT: credential_management,
    CommandByte.SELECTION: selection,
    CommandByte.LARGE_BLOBS: large_blobs,
    CommandByte.CONFIG: config,
    CommandByte.BIO_ENROLLMENT_PREVIEW: bio_enrollment,
    CommandByte.CREDENTIAL_MANAGEMENT_PREVIEW: credential_management,
}

NEXT_COMMANDS: Final = frozenset(
    {
        CommandByte.GET_NEXT_ASSERTION,
        CommandByte.CREDENTIAL_MANAGEMENT,
        CommandByte.CREDENTIAL_MANAGEMENT_PREVIEW,
    }
)
"""Commands that may go on with what an earlier one left open (sections 6.3 and 6.8)."""


def offered(core: Core, command: int) -> bool:
    """Whether the model has the command."""
    profile = core.profile
    has = {
        CommandByte.CLIENT_PIN: profile.user_verification,
        CommandByte.BIO_ENROLLMENT: profile.fingerprints,
        CommandByte.CREDENTIAL_MANAGEMENT: profile.credential_management,
        CommandByte.LARGE_BLOBS: profile.large_blobs,
        CommandByte.CONFIG: profile.config,
        CommandByte.BIO_ENROLLMENT_PREVIEW: profile.fingerprints and profile.preview,
        CommandByte.CREDENTIAL_MANAGEMENT_PREVIEW: profile.credential_management and profile.preview,
    }
    return {int(byte): offer for byte, offer in has.items()}.get(command, True)
