"""Signing in with a card: spend the nonce, then judge the token. It blocks, and fetches nothing itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, NoReturn

from tokenbridge.errors import Rejected, RejectReason
from tokenbridge.rp.certificate import Certificate
from tokenbridge.rp.certs import RevocationData
from tokenbridge.rp.proof import Method
from tokenbridge.server import card_evidence, login
from tokenbridge.server.card_evidence import Presented, Verdict
from tokenbridge.server.judge import Shown, judge
from tokenbridge.server.ledger import Clock, Done, Ledger, Moment
from tokenbridge.server.policy_book import PolicyBook
from tokenbridge.server.store import anchors, cards, suspensions
from tokenbridge.server.store.sign_ins import Pending
from tokenbridge.server.trust import TrustBook

MAX_DETAIL: Final = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class CardAttempt:
    """A token whose nonce is spent, on its way to be judged."""

    token: str
    request: str
    pending: Pending
    presented: Presented


@dataclass(frozen=True, slots=True, kw_only=True)
class CardSignIn:
    """The two halves around the fetching of revocation data."""

    ledger: Ledger
    trust: TrustBook
    policy: PolicyBook
    clock: Clock

    def begin(self, token: str, raw: Mapping[str, Any], request: str) -> CardAttempt:
        """Spend the nonce and read the token. A token that can't be read ends the transaction: `Rejected`."""
        stamps: list[anchors.Stamp] = []
        done = self.ledger.advance(
            token, request, login.CardPresented(), also=lambda moment: stamps.append(anchors.stamp(moment.tx))
        )
        try:
            presented = card_evidence.read(raw, self.trust.current(*stamps))
        except Rejected as err:
            self._refuse(token, request, err)
        return CardAttempt(token=token, request=request, pending=done.pending, presented=presented)

    def complete(self, attempt: CardAttempt, revocation: RevocationData) -> tuple[Done, bool]:
        """Verify the token and let policy decide; also whether revocation stayed in doubt.

        Bad evidence ends the transaction: `Rejected`.
        """
        pending, now = attempt.pending, self.clock()
        try:
            verdict = card_evidence.verify(attempt.presented, pending.challenge, revocation, now)
        except Rejected as err:
            self._refuse(attempt.token, attempt.request, err)
        done = self.ledger.advance(attempt.token, attempt.request, lambda moment: self._judged(moment, verdict))
        return done, bool(verdict.doubts)

    def prove(self, attempt: CardAttempt, revocation: RevocationData) -> Certificate:
        """Verify the token of somebody who is signed in already: nobody is signed in by it. The transaction stays at
        its spent nonce. Raises `Rejected`, on record, and `Undecided`: what is in doubt is not added to an account."""
        try:
            return card_evidence.prove(attempt.presented, attempt.pending.challenge, revocation, self.clock())
        except Rejected as err:
            self._refuse(attempt.token, attempt.request, err)

    def _judged(self, moment: Moment, verdict: Verdict) -> login.Event:
        account = cards.owner(moment.tx, verdict.marks)
        who = moment.who(account) if account is not None else None
        if who is None:
            return _refused(card_evidence.nobodys(verdict.certificate))
        if who.suspended and suspensions.stops_card(moment.tx, who.id, verdict.marks, verdict.anchor):
            detail = f"the card {verdict.marks.fingerprint} is suspended"
            return login.Refused(by=Method.CARD, reason=RejectReason.SUSPENDED, detail=detail, account=who.id)
        shown = Shown(by=Method.CARD, proofs=verdict.proofs, doubts=verdict.doubts)
        event = judge(self.policy.current(), shown, who, moment.circumstances(who.id), moment.now)
        decision = replace(event.decision, reasons=(*event.decision.reasons, *verdict.notes))
        return replace(event, decision=decision)

    def _refuse(self, token: str, request: str, err: Rejected) -> NoReturn:
        """Record bad evidence; what the machine says to it is raised."""
        self.ledger.advance(token, request, _refused(err))
        raise err


def _refused(err: Rejected) -> login.Refused:
    """Bad evidence, for the machine and the audit trail."""
    return login.Refused(by=Method.CARD, reason=err.reason, message=err.message, detail=err.detail[:MAX_DETAIL])
