"""The settings about security keys as rules for `rp`. It judges no key."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from enum import StrEnum
from pathlib import Path
from typing import Final, TypeVar
from urllib.parse import urlsplit

from cryptography import x509

from tokenbridge.errors import SetupError
from tokenbridge.rp.key_metadata import Level
from tokenbridge.rp.key_models import KeyPolicy, Need, StaleRule
from tokenbridge.server.settings import Settings

MAX_ROOTS_BYTES: Final = 1 << 20

_AAGUID: Final = re.compile(r"[0-9a-f]{8}-([0-9a-f]{4}-){3}[0-9a-f]{12}")
_Choice = TypeVar("_Choice", bound=StrEnum)


def policy_of(settings: Settings) -> KeyPolicy:
    """Raises `SetupError` that names the setting."""
    return KeyPolicy(
        user_verification=_choice(Need, settings.key_user_verification, "key_user_verification"),
        resident_key=_choice(Need, settings.key_resident, "key_resident"),
        attested=settings.key_attested,
        allowed=_aaguids(settings.key_allowed, "key_allowed"),
        refused=_aaguids(settings.key_refused, "key_refused"),
        minimum=_choice(Level, settings.key_minimum_level, "key_minimum_level") if settings.key_minimum_level else None,
        stale=_choice(StaleRule, settings.key_stale_metadata, "key_stale_metadata"),
    )


def roots_of(settings: Settings) -> tuple[x509.Certificate, ...]:
    """The operator's own roots of makers. Raises `SetupError` that names the file."""
    return tuple(root for path in settings.key_roots for root in read_roots(path))


def read_roots(path: Path) -> tuple[x509.Certificate, ...]:
    """All certificates of a PEM file. Raises `SetupError`."""
    try:
        with path.open("rb") as file:
            data = file.read(MAX_ROOTS_BYTES + 1)
        if len(data) > MAX_ROOTS_BYTES:
            raise ValueError("too large")
        return tuple(x509.load_pem_x509_certificates(data))
    except (OSError, ValueError) as err:
        raise SetupError(
            f"The file of roots {path} can't be used.", next_step="It has to hold PEM certificates.", detail=str(err)
        ) from err


def rp_id_of(settings: Settings) -> str | None:
    """The relying party's identifier (WebAuthn Level 3 section 5.1.2): the origin's host, or a domain above it.

    None when the host is an IP address: keys know sites by name only. Raises `SetupError`.
    """
    host = urlsplit(settings.site).hostname or ""
    if _is_address(host):
        return None
    if not settings.rp_id:
        return host
    if host != settings.rp_id and not (host.endswith(f".{settings.rp_id}") and "." in settings.rp_id):
        raise SetupError(
            f"rp_id {settings.rp_id!r} is neither the host of {settings.site} nor a domain above it.",
            next_step="Remove the setting: the host is right for nearly everybody.",
        )
    return settings.rp_id


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _choice(kind: type[_Choice], value: str, setting: str) -> _Choice:
    try:
        return kind(value)
    except ValueError as err:
        known = ", ".join(kind)
        raise SetupError(f"{setting} can't be {value!r}.", next_step=f"It is one of: {known}.") from err


def _aaguids(values: Iterable[str], setting: str) -> frozenset[bytes]:
    wrong = next((value for value in values if not _AAGUID.fullmatch(value.lower())), None)
    if wrong is not None:
        raise SetupError(
            f"{setting} names {wrong!r}, which is no AAGUID.",
            next_step="An AAGUID looks like 01020304-0506-0708-0102-030405060708.",
        )
    return frozenset(bytes.fromhex(value.replace("-", "")) for value in values)
