"""Tells policy what is unusual about a sign-in, and learns from those that succeed. It decides nothing."""

from __future__ import annotations

import datetime as dt
import hmac
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from sqlalchemy.orm import Session

from tokenbridge.rp.assurance import AAL
from tokenbridge.rp.proof import Method
from tokenbridge.rp.risk import Limits, Use, Usual, network_of, notice
from tokenbridge.rp.rules import Signal
from tokenbridge.server.countries import Countries
from tokenbridge.server.keys import KeyBook
from tokenbridge.server.store import places, throttle
from tokenbridge.server.store.places import Habits, Kind
from tokenbridge.server.whereabouts import Whereabouts

FAILURES: Final = throttle.Limit(kind="failure", most=1_000_000, minutes=60)
"""Counts failed sign-ins of an account; nothing is refused by it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Circumstances:
    """What policy is told beside the proofs: the client, from where it asks, what is unusual, and which methods the
    server can do at all; None: all. `levels` looks up what the account's own devices reach, as `Context.levels`."""

    client: str
    offered: frozenset[Method] | None = None
    address: str = ""
    signals: frozenset[Signal] = frozenset()
    levels: Callable[[], Mapping[Method, AAL]] = dict


@dataclass(frozen=True, slots=True, kw_only=True)
class RiskDesk:
    """Works inside the transactions of a sign-in. `offered`: the methods that this server can do."""

    keys: KeyBook
    countries: Countries
    limits: Limits
    offered: frozenset[Method] | None = None

    def look(self, tx: Session, account: int, now: dt.datetime) -> Habits:
        """From where the account is used, and how often that failed."""
        return places.of(tx, account, throttle.key(FAILURES, str(account)), now)

    def notice(
        self, tx: Session, account: int, where: Whereabouts, now: dt.datetime, known: Habits | None = None
    ) -> frozenset[Signal]:
        """What is unusual if the account is used from `where`. `known`: what `look` found in this transaction."""
        usual = _usual(known or self.look(tx, account, now), now)
        return notice(usual, self._use(account, where, now), self.limits)

    def learn(
        self, tx: Session, account: int, where: Whereabouts, now: dt.datetime, known: Habits | None = None
    ) -> None:
        """A sign-in has succeeded: from now on that is usual. `known` as for `notice`."""
        use = self._use(account, where, now)
        known = known or self.look(tx, account, now)
        for kind, value in ((Kind.DEVICE, use.device), (Kind.NETWORK, use.network), (Kind.COUNTRY, use.country)):
            if value and not known.noted(kind, value, now):
                places.used(tx, account, kind, value, now)
        if known.counter is not None:
            throttle.forget(tx, FAILURES, str(account))

    def failed(self, tx: Session, account: int, now: dt.datetime) -> None:
        """A sign-in to the account has failed."""
        throttle.allow(tx, FAILURES, str(account), now)

    def _use(self, account: int, where: Whereabouts, now: dt.datetime) -> Use:
        return Use(
            device=self._hidden(account, "device", where.device),
            network=self._hidden(account, "network", network_of(where.address)),
            country=self.countries.of(where.address),
            at=now,
        )

    def _hidden(self, account: int, kind: str, value: str) -> str:
        """A keyed hash: a stolen database does not tell where people work."""
        # The oldest key stays the same longest; after it has left, places are learned anew.
        key = self.keys.ring().keys[-1].value
        return hmac.digest(key, f"place:{kind}:{account}:{value}".encode(), "sha256").hex() if value else ""


def _usual(known: Habits, now: dt.datetime) -> Usual:
    found = known.places
    countries = [(value, at) for kind, value, at in found if kind is Kind.COUNTRY]
    return Usual(
        devices=frozenset(value for kind, value, _ in found if kind is Kind.DEVICE),
        networks=frozenset(value for kind, value, _ in found if kind is Kind.NETWORK),
        countries=frozenset(value for value, _ in countries),
        last=countries[0] if countries else None,
        failures=throttle.still(known.counter, now),
    )
