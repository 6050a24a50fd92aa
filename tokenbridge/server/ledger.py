"""Carries out what the sign-in machine says, in one database transaction per request. It judges no evidence."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

from sqlalchemy.orm import Session

from tokenbridge.errors import Rejected, RejectReason
from tokenbridge.rp.challenge import Challenge, new_challenge
from tokenbridge.rp.proof import Method
from tokenbridge.server import keys, login, login_machine, sign_in_record, sign_in_refusals
from tokenbridge.server.broom import Broom
from tokenbridge.server.keys import KeyBook
from tokenbridge.server.people import Person, person
from tokenbridge.server.reach import Reach
from tokenbridge.server.risk import Circumstances, RiskDesk
from tokenbridge.server.store import audit, cards, sessions, sign_ins, throttle
from tokenbridge.server.store.database import Database
from tokenbridge.server.store.places import Habits
from tokenbridge.server.store.sign_ins import NewSignIn, Pending
from tokenbridge.server.store.throttle import Limit
from tokenbridge.server.whereabouts import Whereabouts

Clock = Callable[[], dt.datetime]
MAX_TOKEN: Final = 128
CLOCK_SKEW: Final = dt.timedelta(minutes=1)
"""By how much the clocks of several servers on one database may differ."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """A session that was just opened. `token` is shown once and stored nowhere."""

    token: str
    expires_at: dt.datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """What a request led to: the new state; with an answer, whom it concerns; the session, if one was opened.

    `key_options`: what a key is asked for, when it is one of the ways on.
    """

    pending: Pending
    state: login.State
    answer: login.Answer | None = None
    person: Person | None = None
    opened: Opened | None = None
    key_options: dict[str, Any] | None = None


@dataclass(slots=True, kw_only=True)
class Moment:
    """One transaction of sign-in inside one transaction of the database: what is known, and what came of it so far."""

    tx: Session
    now: dt.datetime
    request: str
    risk: RiskDesk
    reach: Reach
    pending: Pending
    state: login.State
    answer: login.Answer | None = None
    person: Person | None = None
    refuse: login.Refuse | None = None
    opened: Opened | None = None
    events: list[audit.Event] = field(default_factory=list)
    habits: dict[int, Habits] = field(default_factory=dict)

    def who(self, account: int) -> Person | None:
        """The account as it stands in this transaction; None when it was removed. It is read once."""
        if self.person is None or self.person.id != account:
            self.person = person(self.tx, account)
        return self.person

    def circumstances(self, account: int) -> Circumstances:
        """What policy is told beside the proofs, if this is a sign-in to `account`."""
        known = self.habits[account] = self.risk.look(self.tx, account, self.now)
        signals = self.risk.notice(self.tx, account, self.pending.where, self.now, known)
        return Circumstances(
            client=self.pending.client,
            offered=self.risk.offered,
            address=self.pending.where.address,
            signals=signals,
            levels=partial(self.reach.levels, self.tx, account, self.now),
        )

    def record(self, event: audit.Event) -> None:
        """Have `event` audited. It is written last of all, since the trail's end is what all writers queue for."""
        self.events.append(event)


@dataclass(frozen=True, slots=True, kw_only=True)
class Beginning:
    """What a sign-in begins with. `expected`: whose keys were offered, as in `login.Started`."""

    client: str
    where: Whereabouts
    origin: str
    ttl: dt.timedelta
    expected: int | None = None


Next = login.Event | Callable[[Moment], login.Event]
"""An event, or how to find it out within the same database transaction."""


class Ledger:
    """Moves sign-in transactions on, safely with many threads and processes at once.

    Different sign-ins go on beside each other: an event that is found out inside `advance` keeps the rules of
    `Database.write_shared`.
    """

    def __init__(self, database: Database, book: KeyBook, clock: Clock, risk: RiskDesk, reach: Reach) -> None:
        self._database = database
        self._keys = book
        self._clock = clock
        self._risk = risk
        self._reach = reach
        self._broom = Broom()

    def open(
        self, beginning: Beginning, *, random: bytes, also: Callable[[Session], None] | None = None
    ) -> tuple[str, Challenge]:
        """Begin a transaction; returns its token, which is shown once, and its challenge made of `random`.

        `also` is done in the same transaction of the database.
        """
        token, now = keys.new_token(), self._clock()
        challenge = new_challenge(random=random, origin=beginning.origin, now=now, ttl=beginning.ttl)
        started = login.Started(expected=beginning.expected)
        new = NewSignIn(client=beginning.client, where=beginning.where, challenge=challenge, started=started)
        with self._database.write_shared() as tx:
            if self._broom.is_due(now):
                sign_ins.purge(tx, now)
                sessions.purge(tx, now)
            sign_ins.add(tx, keys.hash_token(token), new)
            if also is not None:
                also(tx)
        return token, challenge

    def advance(self, token: str, request: str, *events: Next, also: Callable[[Moment], None] | None = None) -> Done:
        """Feed `events` to the machine until one is refused, and carry out all effects in one commit.

        A refusal by the machine is carried out and committed like everything else, then raised: `Rejected`,
        `NotAllowedNow` or `TooMany`. `also` is done in the same commit when nothing was refused. Raises
        `Rejected(CHALLENGE_UNKNOWN)` for an unknown token, and `NotAllowedNow` when another request was faster.
        """
        ref = keys.hash_token(token) if len(token) <= MAX_TOKEN else ""
        return self.advance_ref(ref, request, *events, also=also)

    def advance_ref(self, ref: str, request: str, *events: Next, also: Callable[[Moment], None] | None = None) -> Done:
        """As `advance`, for what reaches a sign-in by another way than its client: `ref` is the hash of its token."""
        with self._database.write_shared() as tx:
            pending = _hold(tx, ref)
            work = Moment(
                tx=tx,
                now=self._clock(),
                request=request,
                risk=self._risk,
                reach=self._reach,
                pending=pending,
                state=pending.state,
            )
            if not login_machine.is_final(work.state) and not _in_time(pending.challenge, work.now):
                events = (login.TimeIsUp(),)
            for event in events:
                self._step(work, event(work) if callable(event) else event)
                if work.refuse is not None:
                    break
            if also is not None and work.refuse is None:
                also(work)
            if work.state != pending.state:
                sign_ins.change(tx, pending, work.state)
            entries = [audit.append(tx, work.now, event, self._keys.ring()) for event in work.events]
        for entry in entries:
            audit.tell(entry)
        if work.refuse is not None:
            raise sign_in_refusals.error(work.refuse)
        return Done(pending=pending, state=work.state, answer=work.answer, person=work.person, opened=work.opened)

    def look(self, token: str) -> Pending | None:
        """A transaction as it stands; None when there is none, or its time is over."""
        with self._database.read() as tx:
            pending = sign_ins.find(tx, keys.hash_token(token)) if len(token) <= MAX_TOKEN else None
        return pending if pending is not None and _in_time(pending.challenge, self._clock()) else None

    def report(self, about: str, event: audit.Event, limit: Limit = throttle.REPORTS) -> None:
        """Add `event` to the audit trail, as often as `limit` lets the same `about` in: a flood must not become one of
        rows."""
        now = self._clock()
        with self._database.read() as tx:
            if throttle.spent(tx, limit, about, now):
                return
        with self._database.write_shared() as tx:
            if not throttle.allow(tx, limit, about, now):
                return
            entry = audit.append(tx, now, event, self._keys.ring())
        audit.tell(entry)

    def _step(self, work: Moment, event: login.Event) -> None:
        result = login_machine.step(work.state, event)
        work.state = result.state
        for effect in result.effects:
            match effect:
                case login.Record():
                    self._record(work, effect)
                case login.OpenSession():
                    work.opened = self._open_session(work, effect)
                    known = work.habits.get(effect.account)
                    self._risk.learn(work.tx, effect.account, work.pending.where, work.now, known)
                case login.Answer():
                    work.answer = effect
                    work.person = work.who(effect.account)
                case login.Refuse():
                    work.refuse = effect
                case login.Proceed():
                    pass
        if isinstance(event, login.Judged):
            for proof in event.proofs:
                if proof.method is Method.CARD:
                    cards.used(work.tx, proof.credential, work.now)

    def _record(self, work: Moment, record: login.Record) -> None:
        whose = work.who(record.account) if record.account is not None else None
        username = whose.username if whose is not None else ""
        work.record(sign_in_record.event(record, work.pending, username, work.request))
        if record.what is login.Recorded.REFUSED and record.account is not None:
            self._risk.failed(work.tx, record.account, work.now)

    def _open_session(self, work: Moment, effect: login.OpenSession) -> Opened:
        token = keys.new_token()
        new = sessions.NewSession(
            token_hash=keys.hash_token(token),
            account_id=effect.account,
            sign_in_ref=work.pending.ref,
            assurance=effect.assurance,
        )
        return Opened(token=token, expires_at=sessions.add(work.tx, new, work.now, effect.lifetimes))


def _in_time(challenge: Challenge, now: dt.datetime) -> bool:
    """Also no: a clock that was set back, which would let a nonce live longer than it may."""
    return challenge.issued_at - CLOCK_SKEW <= now < challenge.expires_at


def _hold(tx: Session, ref: str) -> Pending:
    pending = sign_ins.hold(tx, ref)
    if pending is None:
        raise Rejected(
            RejectReason.CHALLENGE_UNKNOWN, "There is no such sign-in.", detail="no transaction with this token"
        )
    return pending
