"""What a relying party has proved about a person: methods, factors and one `Proof` per verified piece of evidence.

Nothing is verified here: only the verifiers of this package make a `Proof`, and only after every check has passed.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum, unique
from typing import Final
from uuid import UUID


@unique
class Method(StrEnum):
    """How somebody showed who they are."""

    CARD = "card"
    KEY = "key"
    PASSWORD = "password"  # noqa: S105 - the name of a method
    TOTP = "totp"
    NUMBER_MATCH = "number-match"
    SMS = "sms"
    WHATSAPP = "whatsapp"
    VOICE = "voice"
    RECOVERY = "recovery"
    APP_PASSWORD = "app-password"  # noqa: S105 - the name of a method


@unique
class Factor(StrEnum):
    """Kinds of factor (NIST SP 800-63-4, section 2.3.1)."""

    POSSESSION = "possession"
    KNOWLEDGE = "knowledge"
    INHERENCE = "inherence"


FALLBACK_METHODS: Final[frozenset[Method]] = frozenset(
    {Method.TOTP, Method.NUMBER_MATCH, Method.SMS, Method.WHATSAPP, Method.VOICE, Method.RECOVERY}
)
"""Secondary challenges: what is asked after a password, and what a strong proof makes needless."""

RESTRICTED_METHODS: Final[frozenset[Method]] = frozenset({Method.SMS, Method.WHATSAPP, Method.VOICE})
"""Methods that travel over a telephone number (SP 800-63B-4, section 3.2.9: restricted authenticators)."""

DEVICES: Final[frozenset[Method]] = frozenset({Method.CARD, Method.KEY})


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """One piece of evidence that passed every check.

    `credential` names the credential stably (card: SHA-256 of the certificate in hex). `at` is an aware UTC time.
    `certificate` is DER, `aaguid` 16 bytes; each belongs to its own kind of device. `issuer` is the name of the trust
    anchor that a card's certificate leads to.
    """

    method: Method
    factors: frozenset[Factor]
    hardware_bound: bool = False
    phishing_resistant: bool = False
    user_verified: bool = False
    user_present: bool = False
    synced: bool = False
    credential: str
    at: datetime
    certificate: bytes | None = None
    aaguid: bytes | None = None
    issuer: str = ""

    @property
    def model(self) -> str:
        """What kind of device it was: `card:` and the issuer's name, `key:` and the AAGUID; empty for other methods."""
        match self.method:
            case Method.CARD:
                return f"{Method.CARD}:{self.issuer}"
            case Method.KEY:
                return f"{Method.KEY}:{UUID(bytes=self.aaguid or bytes(16))}"
            case _:
                return ""

    def __post_init__(self) -> None:
        if self.at.tzinfo is None:
            raise ValueError("a proof's time must carry its time zone")
