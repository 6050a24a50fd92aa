"""The sign-in transaction as a pure state machine: `(state, event) -> (state, effects)`. It performs no effect itself.

    Started --card, key--> Judging --allow--> SignedIn
       |                      |--challenge--> AwaitingPassword --password--> AwaitingCode --code--> SignedIn
       |                      `--refused----> Dead                                |
       `--password--> AwaitingCode                                                |--key--> Judging
                                                                                  `--start, then code or approval
    Any state that is not final: cancel -> Cancelled, too late -> Expired, policy says deny -> Denied.

Judging exists so that a nonce is spent at the moment when evidence arrives, before anybody knows whether it is good. A
card's sign-in rests there while revocation data are fetched; a key's goes through it within one database transaction.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final, assert_never

from tokenbridge.rp.policy import Outcome
from tokenbridge.rp.proof import FALLBACK_METHODS, Method
from tokenbridge.server.login import (
    APPROVED_ELSEWHERE,
    MAX_ATTEMPTS,
    MAX_STARTS,
    STARTED_FIRST,
    Answer,
    ApprovalPresented,
    AwaitingCode,
    AwaitingPassword,
    Cancel,
    Cancelled,
    CardPresented,
    CodePresented,
    Dead,
    Denied,
    Effect,
    Event,
    Expired,
    Judged,
    Judging,
    KeyPresented,
    MethodAsked,
    OpenSession,
    PasswordPresented,
    Presented,
    Proceed,
    Record,
    Recorded,
    Refusal,
    Refuse,
    Refused,
    SignedIn,
    Started,
    State,
    TimeIsUp,
)

_SECOND: Final = FALLBACK_METHODS | {Method.KEY}
"""What may follow a password in the same transaction."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    state: State
    effects: tuple[Effect, ...]

    @property
    def proceeds(self) -> bool:
        return any(isinstance(effect, Proceed) for effect in self.effects)


def is_final(state: State) -> bool:
    return isinstance(state, SignedIn | Denied | Dead | Expired | Cancelled)


def step(state: State, event: Event) -> Step:
    """The one transition function. Every pair has an answer; an event that does not fit changes nothing."""
    if is_final(state):
        return _stay(state, Refuse(why=Refusal.EXPIRED if isinstance(state, Expired) else Refusal.NOT_NOW))
    match event:
        case Cancel():
            return _to(Cancelled(), Record(what=Recorded.CANCELLED, account=_account(state)))
        case TimeIsUp():
            record = Record(what=Recorded.EXPIRED, account=_account(state))
            return _to(Expired(), record, Refuse(why=Refusal.EXPIRED))
        case Judged():
            return _judged(event) if _awaits(state, event.by, event.account) else _not_now(state)
        case Refused():
            whose = state.account if isinstance(state, Judging) else _account(state)
            fits = _awaits(state, event.by, whose) or _may_end(state, event)
            return _refused(state, event) if fits else _not_now(state)
        case _:
            return _presented(state, event)


def _presented(state: State, event: Presented) -> Step:
    match event, state:
        case CardPresented(), Started():
            return _to(Judging(), Proceed())
        case KeyPresented(), Started():
            return _to(Judging(by=Method.KEY, account=state.expected), Proceed())
        case KeyPresented(), AwaitingCode() if Method.KEY in state.methods:
            judging = Judging(by=Method.KEY, account=state.account, proofs=state.proofs, doubts=state.doubts)
            return _to(judging, Proceed())
        case PasswordPresented(), Started() | AwaitingPassword():
            return _attempt(state)
        case CodePresented() | MethodAsked() | ApprovalPresented(), AwaitingCode():
            return _second(state, event)
        case _:
            return _not_now(state)


def _second(state: AwaitingCode, event: CodePresented | MethodAsked | ApprovalPresented) -> Step:
    if isinstance(event, ApprovalPresented):
        return _stay(state, Proceed()) if state.started in APPROVED_ELSEWHERE else _not_now(state)
    if event.by not in state.methods:
        return _downgrade(state, event.by)
    if isinstance(event, CodePresented):
        typed = event.by not in APPROVED_ELSEWHERE and _is_ready(state, event.by)
        return _attempt(state) if typed else _not_now(state)
    if event.by not in STARTED_FIRST:
        return _not_now(state)
    if state.starts >= MAX_STARTS:
        return _stay(state, Refuse(why=Refusal.STARTS))
    return _to(replace(state, started=event.by, starts=state.starts + 1), Proceed())


def _is_ready(state: AwaitingCode, by: Method) -> bool:
    return by not in STARTED_FIRST or by is state.started


def _downgrade(state: AwaitingCode, by: Method) -> Step:
    """A method that the decision did not name. It counts as an attempt, so that trying them all ends the sign-in."""
    counted = _attempt(state)
    if not counted.proceeds:
        return counted
    record = Record(what=Recorded.DOWNGRADE, account=state.account, detail=f"{by} was not offered")
    return _to(counted.state, record, Refuse(why=Refusal.DOWNGRADE))


def _awaits(state: State, by: Method, account: int | None) -> bool:
    """Whether `state` is the one in which evidence of the kind `by` for `account` is judged."""
    match state:
        case Started():
            return by is Method.PASSWORD
        case Judging():
            return by is state.by and state.account in (None, account)
        case AwaitingPassword():
            return by is Method.PASSWORD and account == state.account
        case AwaitingCode():
            fits = by in state.methods and by is not Method.KEY and _is_ready(state, by)
            return fits and account == state.account
        case _:
            return False


def _may_end(state: State, event: Refused) -> bool:
    """Whoever declines on the telephone ends the sign-in, also if it has gone on to another method meanwhile."""
    return event.ends and isinstance(state, AwaitingCode) and event.by in state.methods


def _attempt(state: Started | AwaitingPassword | AwaitingCode) -> Step:
    if state.attempts >= MAX_ATTEMPTS:
        record = Record(what=Recorded.TOO_MANY, account=_account(state))
        return _to(Dead(reason=Recorded.TOO_MANY), record, Refuse(why=Refusal.TOO_MANY))
    return _to(replace(state, attempts=state.attempts + 1), Proceed())


def _judged(event: Judged) -> Step:
    match event.decision.outcome:
        case Outcome.ALLOW:
            lifetimes = event.decision.lifetimes
            session = OpenSession(account=event.account, assurance=event.assurance, lifetimes=lifetimes)
            return _to(SignedIn(account=event.account), session, *_told(Recorded.SIGNED_IN, event))
        case Outcome.DENY:
            return _to(Denied(account=event.account), *_told(Recorded.DENIED, event))
        case Outcome.CHALLENGE:
            return _challenged(event)
        case _:
            assert_never(event.decision.outcome)


def _challenged(event: Judged) -> Step:
    methods = event.decision.methods
    if methods and methods[0] is Method.PASSWORD:
        waiting = AwaitingPassword(account=event.account, proofs=event.proofs, doubts=event.doubts)
        return _to(waiting, *_told(Recorded.CHALLENGED, event))
    following = tuple(method for method in methods if method in _SECOND)
    if following:
        awaiting = AwaitingCode(account=event.account, proofs=event.proofs, doubts=event.doubts, methods=following)
        return _to(awaiting, *_told(Recorded.CHALLENGED, event))
    # What would be enough (another card, say) can't follow in this transaction.
    denied = replace(event, decision=replace(event.decision, outcome=Outcome.DENY))
    return _to(Denied(account=event.account), *_told(Recorded.DENIED, denied))


def _told(what: Recorded, event: Judged) -> tuple[Record, Answer]:
    record = Record(what=what, account=event.account, assurance=event.assurance, decision=event.decision)
    return record, Answer(decision=event.decision, account=event.account, assurance=event.assurance)


def _refused(state: State, event: Refused) -> Step:
    record = Record(what=Recorded.REFUSED, account=event.account, detail=f"{event.by}: {event.detail or event.reason}")
    refuse = Refuse(why=Refusal.EVIDENCE, reason=event.reason, message=event.message, next_step=event.next_step)
    if isinstance(state, Judging) or event.ends:
        return _to(Dead(reason=event.reason), record, refuse)
    return _to(state, record, refuse)


def _account(state: State) -> int | None:
    match state:
        case AwaitingPassword() | AwaitingCode() | SignedIn() | Denied():
            return state.account
        case Judging():
            return state.account or None
        case _:
            return None


def _to(state: State, *effects: Effect) -> Step:
    return Step(state=state, effects=effects)


_stay = _to


def _not_now(state: State) -> Step:
    return _stay(state, Refuse(why=Refusal.NOT_NOW))
