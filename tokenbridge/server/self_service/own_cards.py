"""People's own smartcards: adding one that was just shown at the bridge. It blocks, and verifies no signature."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from sqlalchemy.orm import Session

from tokenbridge.errors import CardOfAnother, NotAllowedNow, NotFound
from tokenbridge.rp.certificate import Certificate
from tokenbridge.rp.chain import signed_chain
from tokenbridge.rp.proof import Method
from tokenbridge.server import card_evidence, keys, suspending
from tokenbridge.server.changes import Changes
from tokenbridge.server.key_enrolment import clean_name
from tokenbridge.server.methods.recovery import first_set
from tokenbridge.server.notices import Notices
from tokenbridge.server.store import cards, hand_overs, sessions, suspensions
from tokenbridge.server.store.cards import Marks, NewCard
from tokenbridge.server.store.schema import Account
from tokenbridge.server.store.suspensions import Kind, Ref
from tokenbridge.server.suspending import Device
from tokenbridge.server.trust import Trust, TrustBook

MOST_CARDS: Final = 10
WHAT: Final = "add a card"


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """The card that waits to be added, for its owner to recognise."""

    subject: str
    issuer: str
    not_after: dt.datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnCards:
    """`NoSession` is raised everywhere, `StepUp` where something is changed.

    A card is added by the session that began it and by no other, whatever the bridge has shown: otherwise a link that
    was sent to somebody else would add that person's card.
    """

    changes: Changes
    trust: TrustBook
    notices: Notices

    def begin(self, session_token: str, request: str) -> tuple[int, str]:
        """The number of the session and the name of its account. Raises `NotAllowedNow` when there are too many."""
        with self.changes.permitted(session_token, WHAT, request) as (tx, live):
            _check_room(tx, live.account.id)
            return live.id, live.account.username

    def shown(self, session_token: str, code: str, request: str) -> Shown:
        """The card that the bridge has shown for `code`; it still waits. Raises as `add`."""
        trust = self.trust.current()
        with self._refusals(session_token, code, request), self.changes.looking(session_token) as (tx, live):
            found = hand_overs.card(tx, keys.hash_token(code), live.id, self.changes.clock())
            certificate, _ = _checked(tx, live.account, found, trust)
        return Shown(subject=certificate.subject, issuer=certificate.issuer, not_after=certificate.not_after)

    def add(self, session_token: str, code: str, name: str, request: str) -> tuple[str, ...]:
        """From now on the card signs in this account. Recovery codes, if the account had none: they are shown once.

        Raises `NotFound` for what is over, was added or belongs to another session, `CardOfAnother`, `BadRequest` for a
        `name` that is none, and `NotAllowedNow` when the account has it already.
        """
        label, trust = clean_name(name) if name else "", self.trust.current()
        permitted = self.changes.permitted(session_token, WHAT, request)
        with self._refusals(session_token, code, request), permitted as (tx, live):
            now, account = self.changes.clock(), live.account
            found = hand_overs.take_card(tx, keys.hash_token(code), live.id, now)
            certificate, marks = _checked(tx, account, found, trust)
            _check_room(tx, account.id)
            new = NewCard(marks=marks, certificate=certificate.der, subject=certificate.subject, label=label)
            row = cards.add(tx, account.id, new, now)
            made = first_set(tx, account.id, now)
            detail = {"fingerprint": row.fingerprint, "subject": row.subject}
            self.changes.record(tx, "card-added", live, request, **detail)
        self.notices.added(account, Method.CARD)
        return made

    def look(self, session_token: str, card_id: int) -> Device:
        """A card that is in the account. Raises `NotFound`."""
        trust = self.trust.current()
        with self.changes.looking(session_token) as (tx, live):
            return _own(tx, live.account, card_id, trust)

    def remove(self, session_token: str, card_id: int, request: str, *, confirmed: bool) -> None:
        """It signs in here no more, unless its issuer's word is enough (`Device.vouched`). The account's other sessions
        end. Raises `NotFound`, and `LastFactor` as `suspending.check_left` does."""
        trust, now = self.trust.current(), self.changes.clock()
        with self.changes.permitted(session_token, "remove a card", request) as (tx, live):
            device = _own(tx, live.account, card_id, trust)
            suspending.remove(tx, live.account, device, trust, now)
            suspending.check_left(tx, live.account, trust, confirmed=confirmed)
            ended = sessions.end_others(tx, live, now)
            self.changes.record(tx, "card-withdrawn", live, request, name=device.name, sessions_ended=ended)
        self.notices.removed(live.account, Method.CARD)

    @contextmanager
    def _refusals(self, session_token: str, code: str, request: str) -> Iterator[None]:
        """Somebody else's card: that is on record, and it waits no more."""
        try:
            yield
        except CardOfAnother as err:
            with self.changes.database.write() as tx:
                live = self.changes.live(tx, session_token)
                found = hand_overs.take_card(tx, keys.hash_token(code), live.id, self.changes.clock())
                if found is not None:
                    subject = Certificate.parse(found).subject
                    self.changes.record(tx, "card-refused", live, request, subject=subject, detail=err.message)
            raise


def _checked(tx: Session, account: Account, der: bytes | None, trust: Trust) -> tuple[Certificate, Marks]:
    """The card, and by what it is recognised, if `account` may have it."""
    if der is None:
        raise NotFound(
            "This card was added already, took too long, or was begun in another browser.",
            next_step="See the list of your cards, and begin again there if it is missing.",
        )
    certificate = Certificate.parse(der)
    anchor = trust.anchors[signed_chain(certificate, trust.store).anchor.name]
    marks = card_evidence.marks(certificate, anchor)
    if cards.owners(tx, marks) - {account.id} or _names_another(marks, account):
        raise CardOfAnother
    if cards.is_enrolled(tx, marks.fingerprint):
        raise NotAllowedNow("This card is in your account already.", next_step="See the list of your cards.")
    if suspensions.stops_enrolled(tx, account.id, marks):
        raise NotAllowedNow("This card is suspended.", next_step="Lift the suspension instead.")
    return certificate, marks


def _own(tx: Session, account: Account, card_id: int, trust: Trust) -> Device:
    """A card of this account and no other. Raises `NotFound`."""
    found = suspending.find(tx, account, trust, Ref(Kind.CARD, str(card_id)))
    if found is None:
        raise NotFound("There is no such card in this account.", next_step="See the list of your cards.")
    return found


def _names_another(marks: Marks, account: Account) -> bool:
    """Whether the issuer says that the card is somebody else's, who need not have an account here."""
    said = ((marks.nhs_uid, account.nhs_uid), (marks.upn, account.upn), (marks.email, account.email))
    return any(theirs and own and theirs.casefold() != own.casefold() for theirs, own in said)


def _check_room(tx: Session, account_id: int) -> None:
    if len(cards.listed(tx, account_id)) >= MOST_CARDS:
        raise NotAllowedNow(
            f"This account has {MOST_CARDS} cards already.", next_step="Ask your IT service desk to remove one of them."
        )
