"""How strong an account can sign in, and whether a session is as strong: the rule for changing its keys."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass

from sqlalchemy.orm import Session

from tokenbridge.errors import StepUp
from tokenbridge.rp.assurance import AAL
from tokenbridge.rp.key_models import KeyModels
from tokenbridge.rp.proof import DEVICES, FALLBACK_METHODS
from tokenbridge.rp.wording import in_words
from tokenbridge.server import holdings
from tokenbridge.server.key_book import KeyModelBook
from tokenbridge.server.store import accounts, suspensions
from tokenbridge.server.store.schema import Account
from tokenbridge.server.store.sessions import Live
from tokenbridge.server.trust import Trust, TrustBook


@dataclass(frozen=True, slots=True, kw_only=True)
class StepUpRule:
    """A session must reach the account's strongest factor, and be at most `max_age` old. What is suspended counts as
    it did before: who suspends the strongest factor gains nothing by it, and whoever has that can't undo it."""

    trust: TrustBook
    models: KeyModelBook
    max_age: dt.timedelta

    def current(self) -> Bar:
        """The rule with what is trusted now. To be asked for before a transaction begins: it reads in its own."""
        return Bar(trust=self.trust.current(), models=self.models.current(), max_age=self.max_age)


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """How high a session has to reach."""

    trust: Trust
    models: KeyModels
    max_age: dt.timedelta

    def refusal(self, tx: Session, live: Live, now: dt.datetime) -> StepUp | None:
        """What to do first, or None when the session is strong and new enough."""
        return self.weakness(tx, live, now) or self._age(live, now)

    def weakness(self, tx: Session, live: Live, now: dt.datetime) -> StepUp | None:
        """As `refusal`, whatever the session's age."""
        if suspensions.tainted(tx, live.account.id, live.shown):
            return StepUp(
                "You have signed in with a card or key that is suspended.",
                next_step="Sign in with another card or key, then try again. Without one, ask your IT service desk.",
            )
        needed = self.strongest(tx, live.account, now)
        reached = AAL(int(live.assurance["aal"]))
        if reached < needed:
            return StepUp(
                f"For this sign in with {in_words(needed)} first: you have signed in with {in_words(reached)}.",
                next_step="Sign in with your card or key, then try again. Without either, ask your IT service desk "
                "for an enrolment code.",
            )
        return None

    def _age(self, live: Live, now: dt.datetime) -> StepUp | None:
        if now - live.started_at > self.max_age:
            minutes = int(self.max_age.total_seconds() // 60)
            return StepUp(
                f"For this the sign-in must not be older than {minutes} minutes.",
                next_step="Sign in again, then try again.",
            )
        return None

    def strongest(self, tx: Session, account: Account, now: dt.datetime) -> AAL:
        """What the best of the account's factors reaches, suspended or not, with the password where it has one."""
        devices = holdings.of(tx, account, self.trust, self.models, now)
        reached = [AAL.AAL1, *(device.level for device in devices)]
        if accounts.enrolled(tx, account.id, suspended=True) & (FALLBACK_METHODS | DEVICES):
            reached.append(AAL.AAL2 if account.password_hash is not None else AAL.AAL1)
        return max(reached)
