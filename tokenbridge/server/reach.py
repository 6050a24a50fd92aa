"""How far the cards and keys of an account reach, for policy: whether to ask for them would help. It proves nothing."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from sqlalchemy.orm import Session

from tokenbridge.rp.assurance import AAL
from tokenbridge.rp.proof import DEVICES, Method
from tokenbridge.server import holdings
from tokenbridge.server.holdings import Holding
from tokenbridge.server.key_book import KeyModelBook
from tokenbridge.server.store import accounts
from tokenbridge.server.trust import TrustBook


@dataclass(frozen=True, slots=True, kw_only=True)
class Reach:
    """By what is trusted now."""

    trust: TrustBook
    models: KeyModelBook

    def levels(self, tx: Session, account_id: int, now: dt.datetime) -> Mapping[Method, AAL]:
        """Of every kind of device, what the best one of the account reaches; NONE where it has none that counts."""
        account = accounts.by_id(tx, account_id)
        if account is None:
            return levels_of(())
        return levels_of(holdings.of(tx, account, self.trust.within(tx), self.models.within(tx), now))


def levels_of(held: Iterable[Holding]) -> Mapping[Method, AAL]:
    """As `Reach.levels`, of devices that are known."""
    found = dict.fromkeys(DEVICES, AAL.NONE)
    for holding in held:
        if holding.suspended is None:
            found[holding.method] = max(found[holding.method], holding.level)
    return found
