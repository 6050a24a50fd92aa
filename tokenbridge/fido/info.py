"""What a key says about itself (authenticatorGetInfo, CTAP 2.1 section 6.4), as far as anything here depends on it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum, unique
from typing import Any, Final
from uuid import UUID

from fido2.ctap2.base import Info

from tokenbridge.interaction import one_line

MAX_TEXT: Final = 64
MAX_ITEMS: Final = 64


@unique
class Verification(StrEnum):
    """How a key can find out that the right person holds it."""

    NONE = "none"
    PIN = "pin"
    BUILT_IN = "built-in"


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyFacts:
    """Untrusted: a key may say anything. Texts are bounded and printable."""

    versions: tuple[str, ...]
    aaguid: str = ""
    firmware: int = 0
    options: dict[str, bool]
    extensions: tuple[str, ...] = ()
    pin_protocols: tuple[int, ...] = ()
    min_pin_length: int = 4
    max_pin_length: int = 63
    force_pin_change: bool = False
    always_uv: bool = False
    credentials_in_list: int = 1
    id_length: int = 0
    rooms_left: int | None = None
    transports: tuple[str, ...] = ()

    @property
    def has_pin(self) -> bool:
        return self.options.get("clientPin") is True

    @property
    def takes_pin(self) -> bool:
        """Whether it can have a PIN, set or not."""
        return "clientPin" in self.options

    @property
    def has_built_in(self) -> bool:
        """Whether fingerprints (or the like) are enrolled."""
        return self.options.get("uv") is True

    @property
    def takes_fingerprints(self) -> bool:
        return "bioEnroll" in self.options or "userVerificationMgmtPreview" in self.options

    @property
    def lists_credentials(self) -> bool:
        return self.options.get("credMgmt") is True or self.options.get("credentialMgmtPreview") is True

    @property
    def ctap2(self) -> bool:
        return any(version.startswith("FIDO_2") for version in self.versions)

    @property
    def keeps_credentials(self) -> bool:
        return self.options.get("rk") is True

    @property
    def can_verify(self) -> bool:
        return self.has_pin or self.has_built_in


U2F_ONLY: Final = KeyFacts(versions=("U2F_V2",), options={})


def facts_of(info: Info) -> KeyFacts:
    """Raises what `status.translated` catches when the fields are not what the specification says they are."""
    return KeyFacts(
        versions=_texts(info.versions),
        aaguid=str(UUID(bytes=bytes(info.aaguid))),
        firmware=int(info.firmware_version),
        options={
            one_line(str(name)[:MAX_TEXT]): value is True for name, value in list(info.options.items())[:MAX_ITEMS]
        },
        extensions=_texts(info.extensions),
        pin_protocols=tuple(int(number) for number in list(info.pin_uv_protocols)[:MAX_ITEMS]),
        min_pin_length=max(4, int(info.min_pin_length)),
        max_pin_length=min(63, int(info.max_pin_length)),
        force_pin_change=info.force_pin_change is True,
        always_uv=info.options.get("alwaysUv") is True,
        credentials_in_list=max(1, int(info.max_creds_in_list)),
        id_length=int(info.max_cred_id_length),
        rooms_left=None if info.remaining_disc_creds is None else int(info.remaining_disc_creds),
        transports=_texts(info.transports),
    )


def _texts(values: Any) -> tuple[str, ...]:
    return tuple(one_line(str(value)[:MAX_TEXT]) for value in list(values)[:MAX_ITEMS])
