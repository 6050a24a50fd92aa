"""Extensions of registration and sign-in (CTAP 2.1 section 12): credProtect, credBlob, minPinLength, hmac-secret and
largeBlobKey. What is not listed here is ignored, as the specification wants."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from tokenbridge.authenticator import parameters
from tokenbridge.authenticator.core import Core
from tokenbridge.authenticator.memory import Credential, Protection
from tokenbridge.authenticator.pin_protocol import SharedSecret
from tokenbridge.authenticator.profile import PinProtocol
from tokenbridge.authenticator.status import Refusal, Status, require

CRED_PROTECT: Final = "credProtect"
CRED_BLOB: Final = "credBlob"
HMAC_SECRET: Final = "hmac-secret"  # noqa: S105  the extension's name
LARGE_BLOB_KEY: Final = "largeBlobKey"
MIN_PIN_LENGTH: Final = "minPinLength"

_SALT: Final = 32
_PROTECTIONS: Final = {int(level): level for level in Protection}


def names(core: Core) -> list[str]:
    """Those that this device has, for getInfo."""
    profile = core.profile
    offered = {
        CRED_BLOB: profile.discoverable,
        CRED_PROTECT: profile.user_verification,
        HMAC_SECRET: True,
        LARGE_BLOB_KEY: profile.large_blobs,
        MIN_PIN_LENGTH: profile.client_pin and profile.config,
    }
    return [name for name, has in offered.items() if has]


@dataclass(frozen=True, slots=True, kw_only=True)
class Registration:
    """What a registration asks of the extensions."""

    protection: Protection | None = None
    hmac_secret: bool = False
    blob: bytes | None = None
    large_blob_key: bool = False
    min_pin_length: bool = False

    def output(self, core: Core, credential: Credential) -> dict[str, Any]:
        """For the authenticator data."""
        said: dict[str, Any] = {}
        if self.protection is not None:
            said[CRED_PROTECT] = int(credential.protection)
        if self.hmac_secret:
            said[HMAC_SECRET] = True
        if self.blob is not None:
            said[CRED_BLOB] = bool(credential.blob) or (self.blob == b"" and credential.discoverable)
        if self.min_pin_length and credential.rp_id in core.memory.min_pin_rp_ids:
            said[MIN_PIN_LENGTH] = core.memory.min_pin_length
        return said


def registration_of(core: Core, source: Mapping[Any, Any], *, discoverable: bool) -> Registration:
    """Read a registration's extensions; refuses values that they don't have."""
    here = set(names(core))
    level = parameters.optional(source, CRED_PROTECT, int) if CRED_PROTECT in here else None
    require(level is None or level in _PROTECTIONS, Status.INVALID_OPTION)
    wants_key = parameters.optional(source, LARGE_BLOB_KEY, bool) if LARGE_BLOB_KEY in here else None
    # section 12.3: the value is true, and the credential discoverable
    require(wants_key is None or (wants_key and discoverable), Status.INVALID_OPTION)
    return Registration(
        protection=None if level is None else _PROTECTIONS[level],
        hmac_secret=parameters.optional(source, HMAC_SECRET, bool) is True,
        blob=parameters.optional(source, CRED_BLOB, bytes) if CRED_BLOB in here else None,
        large_blob_key=wants_key is True,
        min_pin_length=MIN_PIN_LENGTH in here and parameters.optional(source, MIN_PIN_LENGTH, bool) is True,
    )


def blob_to_keep(core: Core, wish: Registration, *, discoverable: bool) -> bytes:
    """The credBlob if it can be kept (section 12.2): in discoverable credentials, up to the model's size."""
    fits = wish.blob is not None and len(wish.blob) <= core.profile.max_blob
    return wish.blob if wish.blob is not None and fits and discoverable else b""


@dataclass(frozen=True, slots=True, kw_only=True)
class Assertion:
    """What a sign-in asks of the extensions. `salts` are decrypted; `secret` encrypts what comes of them."""

    blob: bool = False
    large_blob_key: bool = False
    salts: tuple[bytes, ...] = ()
    secret: SharedSecret | None = None

    def output(self, core: Core, credential: Credential, *, uv: bool) -> dict[str, Any]:
        """For the authenticator data."""
        said: dict[str, Any] = {}
        if self.blob:
            said[CRED_BLOB] = credential.blob
        if self.secret is not None and credential.hmac_secret:
            key = _credential_random(core, credential, uv=uv)
            outputs = b"".join(hmac.new(key, salt, hashlib.sha256).digest() for salt in self.salts)
            said[HMAC_SECRET] = self.secret.encrypt(outputs)
        return said


def assertion_of(core: Core, source: Mapping[Any, Any], *, up: bool) -> Assertion:
    """Read a sign-in's extensions."""
    here = set(names(core))
    wants_key = parameters.optional(source, LARGE_BLOB_KEY, bool) if LARGE_BLOB_KEY in here else None
    require(wants_key is not False, Status.INVALID_OPTION)
    wish = parameters.optional(source, HMAC_SECRET, dict)
    # section 12.5: hmac-secret needs user presence
    require(wish is None or up, Status.UNSUPPORTED_OPTION)
    salts, secret = ((), None) if wish is None else _salts(core, wish)
    return Assertion(
        blob=CRED_BLOB in here and parameters.optional(source, CRED_BLOB, bool) is True,
        large_blob_key=wants_key is True,
        salts=salts,
        secret=secret,
    )


def large_blob_key(core: Core, credential: Credential) -> bytes:
    """The key of the credential's entry in the large-blob array (section 12.3)."""
    return core.world.store.derive(b"large blob key" + credential.id)


def _credential_random(core: Core, credential: Credential, *, uv: bool) -> bytes:
    """CredRandomWithUV or CredRandomWithoutUV (section 12.5)."""
    return core.world.store.derive((b"hmac-secret with uv" if uv else b"hmac-secret") + credential.id)


def _salts(core: Core, wish: Mapping[Any, Any]) -> tuple[tuple[bytes, ...], SharedSecret]:
    """keyAgreement 1, saltEnc 2, saltAuth 3, pinUvAuthProtocol 4 (one if absent)."""
    peer = parameters.required(wish, 1, dict)
    sealed, signature = parameters.required(wish, 2, bytes), parameters.required(wish, 3, bytes)
    number = parameters.optional(wish, 4, int)
    secret = core.agreement(PinProtocol.ONE if number is None else number).decapsulate(peer)
    require(secret.verifies(sealed, signature), Status.PIN_AUTH_INVALID)
    clear = secret.decrypt(sealed)
    if clear is None or len(clear) not in (_SALT, 2 * _SALT):
        raise Refusal(Status.INVALID_PARAMETER)
    return tuple(clear[i : i + _SALT] for i in range(0, len(clear), _SALT)), secret
