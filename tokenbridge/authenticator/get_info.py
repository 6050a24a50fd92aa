"""authenticatorGetInfo (CTAP 2.1 section 6.4)."""

from __future__ import annotations

from enum import IntEnum, unique
from typing import Any, Final

from tokenbridge.authenticator import extensions
from tokenbridge.authenticator.core import Answer, Core, Parameters
from tokenbridge.authenticator.profile import Profile
from tokenbridge.authenticator.steps import Steps

FINGERPRINT_INTERNAL: Final = 0x02
PASSCODE_INTERNAL: Final = 0x04
"""USER_VERIFY_FINGERPRINT_INTERNAL and USER_VERIFY_PASSCODE_INTERNAL (FIDO Registry section 3.1)."""


@unique
class Said(IntEnum):
    """Members of the answer."""

    VERSIONS = 0x01
    EXTENSIONS = 0x02
    AAGUID = 0x03
    OPTIONS = 0x04
    MAX_MSG_SIZE = 0x05
    PIN_UV_AUTH_PROTOCOLS = 0x06
    MAX_CREDENTIAL_COUNT_IN_LIST = 0x07
    MAX_CREDENTIAL_ID_LENGTH = 0x08
    TRANSPORTS = 0x09
    ALGORITHMS = 0x0A
    MAX_SERIALIZED_LARGE_BLOB_ARRAY = 0x0B
    FORCE_PIN_CHANGE = 0x0C
    MIN_PIN_LENGTH = 0x0D
    FIRMWARE_VERSION = 0x0E
    MAX_CRED_BLOB_LENGTH = 0x0F
    MAX_RP_IDS_FOR_SET_MIN_PIN_LENGTH = 0x10
    PREFERRED_PLATFORM_UV_ATTEMPTS = 0x11
    UV_MODALITY = 0x12
    REMAINING_DISCOVERABLE_CREDENTIALS = 0x14


def get_info(core: Core, _source: Parameters) -> Steps[Answer]:
    yield from ()
    profile = core.profile
    said: dict[int, Any] = {
        Said.VERSIONS: _versions(core),
        Said.EXTENSIONS: extensions.names(core),
        Said.AAGUID: profile.aaguid,
        Said.OPTIONS: options(core),
        Said.MAX_MSG_SIZE: profile.max_message,
        Said.MAX_CREDENTIAL_COUNT_IN_LIST: profile.max_credentials_in_list,
        Said.MAX_CREDENTIAL_ID_LENGTH: profile.max_credential_id,
        Said.TRANSPORTS: list(profile.transports),
        Said.ALGORITHMS: [{"alg": int(one), "type": "public-key"} for one in profile.algorithms],
        Said.FIRMWARE_VERSION: profile.firmware,
    }
    said.update(_verification(core))
    said.update(_rooms(core))
    return said


def options(core: Core) -> dict[str, bool]:
    """Option ids (table of section 6.4); absent ones are not supported."""
    profile, memory = core.profile, core.memory
    fingers, preview = profile.fingerprints, profile.preview
    built_in = profile.built_in
    rows = (
        ("plat", True, False),
        ("rk", True, profile.discoverable),
        ("up", True, True),
        ("clientPin", profile.client_pin, core.has_pin),
        ("uv", built_in, core.has_built_in),
        ("bioEnroll", fingers, bool(memory.fingerprints)),
        ("uvBioEnroll", fingers, True),
        ("uvAcfg", built_in and profile.config, True),
        ("userVerificationMgmtPreview", fingers and preview, bool(memory.fingerprints)),
        ("pinUvAuthToken", profile.user_verification, True),
        ("makeCredUvNotRqd", profile.user_verification, profile.uv_not_required and not memory.always_uv),
        ("credMgmt", profile.credential_management, True),
        ("credentialMgmtPreview", profile.credential_management and preview, True),
        ("largeBlobs", profile.large_blobs, True),
        ("ep", profile.enterprise, memory.enterprise),
        ("authnrCfg", profile.config, True),
        ("alwaysUv", profile.config, memory.always_uv),
        ("setMinPINLength", profile.config and profile.client_pin, True),
    )
    return {name: value for name, has, value in rows if has}


def _versions(core: Core) -> list[str]:
    names = {
        "U2F_V2": core.speaks_u2f,
        "FIDO_2_0": True,
        "FIDO_2_1_PRE": core.profile.preview,
        "FIDO_2_1": True,
    }
    return [name for name, spoken in names.items() if spoken]


def _verification(core: Core) -> dict[int, Any]:
    profile, memory = core.profile, core.memory
    said: dict[int, Any] = {}
    if profile.user_verification:
        said[Said.PIN_UV_AUTH_PROTOCOLS] = [int(number) for number in profile.pin_protocols]
    if profile.client_pin:
        said[Said.FORCE_PIN_CHANGE] = memory.force_pin_change
        said[Said.MIN_PIN_LENGTH] = memory.min_pin_length
        if profile.config:
            said[Said.MAX_RP_IDS_FOR_SET_MIN_PIN_LENGTH] = profile.max_rp_ids
    if profile.built_in:
        said[Said.PREFERRED_PLATFORM_UV_ATTEMPTS] = profile.uv_tries_per_request
        said[Said.UV_MODALITY] = _modality(profile)
    return said


def _modality(profile: Profile) -> int:
    return (FINGERPRINT_INTERNAL if profile.fingerprints else 0) | (PASSCODE_INTERNAL if profile.verifies_itself else 0)


def _rooms(core: Core) -> dict[int, Any]:
    profile = core.profile
    said: dict[int, Any] = {}
    if profile.large_blobs:
        said[Said.MAX_SERIALIZED_LARGE_BLOB_ARRAY] = profile.max_large_blobs
    if profile.discoverable:
        said[Said.MAX_CRED_BLOB_LENGTH] = profile.max_blob
        said[Said.REMAINING_DISCOVERABLE_CREDENTIALS] = core.rooms_left
    return said
