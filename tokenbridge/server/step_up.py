"""How strong an account can sign in, and whether a session is as strong: the rule for changing its keys."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from dataclasses import dataclass

from sqlalchemy.orm import Session

from tokenbridge.errors import Rejected, StepUp
from tokenbridge.rp.assurance import AAL
from tokenbridge.rp.certificate import Certificate
from tokenbridge.rp.chain import signed_chain
from tokenbridge.rp.key_models import KeyModels
from tokenbridge.rp.proof import Method
from tokenbridge.server.key_book import KeyModelBook
from tokenbridge.server.store import accounts, cards, security_keys
from tokenbridge.server.store.key_schema import SecurityKey
from tokenbridge.server.store.schema import Account
from tokenbridge.server.store.sessions import Live
from tokenbridge.server.trust import Trust, TrustBook


@dataclass(frozen=True, slots=True, kw_only=True)
class StepUpRule:
    """A session must reach the account's strongest factor, and be at most `max_age` old."""

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
        needed = self.strongest(tx, live.account, now)
        if int(live.assurance["aal"]) < needed:
            return StepUp(
                f"For this sign in at {needed.name} first: this session is at {AAL(live.assurance['aal']).name}.",
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
        """What the best of the account's factors reaches, with the password where it has one."""
        reached = [AAL.AAL1, *self._cards(tx, account), *self._keys(tx, account, now)]
        if accounts.enrolled(tx, account.id) & {Method.TOTP, Method.RECOVERY, Method.KEY, Method.CARD}:
            reached.append(AAL.AAL2 if account.password_hash is not None else AAL.AAL1)
        return max(reached)

    def _cards(self, tx: Session, account: Account) -> Iterator[AAL]:
        for row, _ in cards.listed(tx, account.id):
            if _is_strong(row.certificate, self.trust):
                yield AAL.AAL3
        # A card that is recognised by what its issuer asserts need not be enrolled.
        for anchor in self.trust.anchors.values():
            asserted = (
                (anchor.map_nhs_uid and account.nhs_uid)
                or (anchor.map_upn and account.upn)
                or (anchor.map_email and account.email)
            )
            if asserted and anchor.hardware and anchor.pin_enforced:
                yield AAL.AAL3

    def _keys(self, tx: Session, account: Account, now: dt.datetime) -> Iterator[AAL]:
        for row in security_keys.of(tx, account.id):
            yield key_level(row, self.models, now)


def key_level(row: SecurityKey, models: KeyModels, now: dt.datetime) -> AAL:
    """What a key reaches by itself today; NONE when its model is not accepted any more."""
    try:
        standing = models.judge(security_keys.make_of(row), now)
    except Rejected:
        return AAL.NONE
    if not row.user_verified:
        return AAL.AAL1
    return AAL.AAL3 if standing.attested and standing.hardware and not row.backup_eligible else AAL.AAL2


def _is_strong(der: bytes, trust: Trust) -> bool:
    """Whether a card with this certificate would be believed to have asked for its PIN."""
    try:
        rule = signed_chain(Certificate.parse(der), trust.store).anchor.rule
    except Rejected:
        return False
    return rule.hardware and rule.pin_enforced
