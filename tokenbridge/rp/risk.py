"""Notices what is unusual about a sign-in. It blocks nothing: policy decides what follows."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Final

from tokenbridge.rp.rules import Signal

V4_PREFIX: Final = 24
V6_PREFIX: Final = 48
"""What counts as one network: what one site usually has (RFC 6177 section 2 for IPv6)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """`travel`: how soon a sign-in from another country is impossible. `failures`: how many failed ones are many."""

    travel: dt.timedelta = dt.timedelta(hours=3)
    failures: int = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Usual:
    """What an account was used from before; values are opaque here. `last` is the country of its latest use, and when.

    `failures` counts failed sign-ins of late.
    """

    devices: frozenset[str] = frozenset()
    networks: frozenset[str] = frozenset()
    countries: frozenset[str] = frozenset()
    last: tuple[str, dt.datetime] | None = None
    failures: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Use:
    """What the account is used from now. Empty: not known; a country that is not known is no sign of anything."""

    device: str
    network: str
    country: str
    at: dt.datetime


def notice(usual: Usual, now: Use, limits: Limits) -> frozenset[Signal]:
    """What is unusual. An account that was never used before has no habits: all that can be noticed are failures."""
    return frozenset(_noticed(usual, now, limits))


def _noticed(usual: Usual, now: Use, limits: Limits) -> Iterator[Signal]:
    if usual.devices and now.device not in usual.devices:
        yield Signal.NEW_DEVICE
    if usual.networks and now.network not in usual.networks:
        yield Signal.NEW_NETWORK
    if usual.countries and now.country and now.country not in usual.countries:
        yield Signal.NEW_COUNTRY
    if _too_fast(usual, now, limits):
        yield Signal.IMPOSSIBLE_TRAVEL
    if usual.failures >= limits.failures:
        yield Signal.MANY_FAILURES


def _too_fast(usual: Usual, now: Use, limits: Limits) -> bool:
    if usual.last is None or not now.country:
        return False
    country, at = usual.last
    return country != now.country and abs(now.at - at) < limits.travel


def network_of(address: str) -> str:
    """The network that an address belongs to, as text; empty when it is no address."""
    try:
        found = ip_address(address)
    except ValueError:
        return ""
    mapped = found.ipv4_mapped if isinstance(found, IPv6Address) else None
    host: IPv4Address | IPv6Address = mapped or found
    return str(ip_network((host, V4_PREFIX if host.version == 4 else V6_PREFIX), strict=False))
