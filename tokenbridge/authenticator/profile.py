"""What model of security key it is: everything about an authenticator that does not change while it is used."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum, StrEnum, unique
from typing import Final

from tokenbridge.wire.ctaphid import MAX_MESSAGE


@unique
class Algorithm(IntEnum):
    """COSE algorithms that credentials may have (IANA COSE registry)."""

    ES256 = -7
    EDDSA = -8
    ES384 = -35
    RS256 = -257


@unique
class AttestationFormat(StrEnum):
    """What makeCredential proves about the model (WebAuthn section 8)."""

    NONE = "none"
    PACKED_SELF = "packed-self"
    """Signed by the credential's own key: proves nothing about the model."""
    PACKED_BATCH = "packed-batch"
    """Signed by a key that all authenticators of the model share, with its certificates."""


@unique
class PinProtocol(IntEnum):
    """PIN/UV auth protocols (CTAP 2.1 sections 6.5.6 and 6.5.7)."""

    ONE = 1
    TWO = 2


ALL_ALGORITHMS: Final = (Algorithm.ES256, Algorithm.EDDSA, Algorithm.ES384, Algorithm.RS256)
MIN_PIN_LENGTH: Final = 4
MAX_PIN_BYTES: Final = 63
MAX_MESSAGE_SIZE: Final = MAX_MESSAGE
CANONICAL_TRANSPORTS: Final = ("usb",)


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """One model. Sizes are bytes, times seconds; sections are CTAP 2.1's. The defaults are a usual full key's."""

    aaguid: bytes = bytes(16)
    firmware: int = 0x00010000
    device_version: tuple[int, int, int] = (1, 0, 0)
    algorithms: tuple[Algorithm, ...] = ALL_ALGORITHMS
    attestation: AttestationFormat = AttestationFormat.PACKED_BATCH
    transports: tuple[str, ...] = CANONICAL_TRANSPORTS
    pin_protocols: tuple[PinProtocol, ...] = (PinProtocol.TWO, PinProtocol.ONE)

    client_pin: bool = True
    """Whether it can have a PIN."""
    fingerprints: bool = False
    """Whether it has a fingerprint sensor: built-in user verification, once a finger is enrolled."""
    verifies_itself: bool = False
    """Whether it always has built-in user verification of another kind, such as a prompt of its own for a PIN."""
    discoverable: bool = True
    credential_management: bool = True
    config: bool = True
    large_blobs: bool = True
    u2f: bool = True
    """Whether it speaks CTAP1; needs batch attestation, since a U2F registration carries a certificate."""
    enterprise: bool = False
    preview: bool = False
    """Whether it also offers the commands of the days before CTAP 2.1 (FIDO_2_1_PRE)."""
    uv_not_required: bool = True
    """makeCredUvNotRqd: credentials that are not discoverable may be made without user verification (6.4)."""

    pin_tries: int = 8
    pin_tries_per_power: int = 3
    """Wrong PINs in a row after which it wants to be plugged in again (6.5.5.6)."""
    min_pin_length: int = MIN_PIN_LENGTH
    uv_tries: int = 5
    uv_tries_per_request: int = 3
    max_message: int = MAX_MESSAGE_SIZE
    max_credentials: int = 50
    max_credentials_in_list: int = 16
    max_credential_id: int = 192
    max_name: int = 64
    max_blob: int = 32
    """Bytes of a credBlob (12.2)."""
    max_large_blobs: int = 4096
    """Bytes of the serialised large-blob array; at least 1024 (6.10)."""
    max_rp_ids: int = 8
    """RP IDs that may be told the minimum PIN length (6.11.4)."""
    enterprise_rp_ids: frozenset[str] = frozenset()

    presence_seconds: float = 30.0
    """How long a person is waited for."""
    reset_seconds: float = 10.0
    """After power-up, in which a reset is taken (6.6)."""
    assertion_seconds: float = 30.0
    """Between getAssertion and getNextAssertion (6.3)."""
    token_first_use_seconds: float = 30.0
    token_presence_seconds: float = 30.0
    token_seconds: float = 600.0
    """Limits of a pinUvAuthToken: until its first use, for the presence it carries, in all (6.5.2.1)."""

    @property
    def user_verification(self) -> bool:
        return self.client_pin or self.built_in

    @property
    def built_in(self) -> bool:
        """Whether it can have built-in user verification."""
        return self.fingerprints or self.verifies_itself
