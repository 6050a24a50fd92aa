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
from enum import StrEnum, unique
from typing import Final, TypeAlias, assert_never

from tokenbridge.errors import RejectReason, UndecidedReason
from tokenbridge.rp.assurance import Assurance
from tokenbridge.rp.policy import Decision, Outcome
from tokenbridge.rp.proof import FALLBACK_METHODS, Method, Proof
from tokenbridge.rp.rules import Lifetimes

MAX_ATTEMPTS: Final = 5
"""Passwords, and again codes, that may be tried in one transaction."""

NOBODY: Final = 0
"""Stands for the account of a name that has no keys: no account has this number."""

MAX_STARTS: Final = 8
"""How often a message may be sent, a call made or an approval asked for in one transaction."""

STARTED_FIRST: Final = frozenset({Method.SMS, Method.WHATSAPP, Method.VOICE, Method.NUMBER_MATCH})
"""Methods that do nothing before somebody asks for them."""

APPROVED_ELSEWHERE: Final = frozenset({Method.VOICE, Method.NUMBER_MATCH})
"""Started methods that are answered on the telephone; the client asks whether that has happened."""

_SECOND: Final = FALLBACK_METHODS | {Method.KEY}
"""What may follow a password in the same transaction."""

# --- states ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Started:
    """The nonce is unspent and nothing is known about the person. `attempts` counts passwords.

    `expected`: the account whose keys were offered, NOBODY for a name that has none; None when no name was given.
    """

    attempts: int = 0
    expected: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Judging:
    """Evidence of a card or key has arrived and is being verified. Its challenge is spent.

    `account`: whose evidence it has to be, if that is known. `proofs` and `doubts` are what was there before.
    """

    by: Method = Method.CARD
    account: int | None = None
    proofs: tuple[Proof, ...] = ()
    doubts: tuple[UndecidedReason, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class AwaitingPassword:
    """A card or key named the account but was not enough: the password of that account, and no other, is awaited."""

    account: int
    proofs: tuple[Proof, ...] = ()
    doubts: tuple[UndecidedReason, ...] = ()
    attempts: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class AwaitingCode:
    """A code of the account, its key, or its approval elsewhere is awaited: what `methods` names.

    `started`: the method that was started last, `starts` how often any was. Only what was started last counts.
    """

    account: int
    proofs: tuple[Proof, ...] = ()
    doubts: tuple[UndecidedReason, ...] = ()
    attempts: int = 0
    methods: tuple[Method, ...] = (Method.TOTP,)
    started: Method | None = None
    starts: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedIn:
    account: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Denied:
    """Policy said no to what was proved."""

    account: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Dead:
    """Evidence was refused, or too many attempts were made."""

    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Expired:
    pass


@dataclass(frozen=True, slots=True, kw_only=True)
class Cancelled:
    pass


State: TypeAlias = Started | Judging | AwaitingPassword | AwaitingCode | SignedIn | Denied | Dead | Expired | Cancelled

# --- events ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class CardPresented:
    """A token has arrived; nothing about it is known yet."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyPresented:
    """A key's assertion has arrived; nothing about it is known yet."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PasswordPresented:
    """A password has arrived; it counts as an attempt before it is compared."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CodePresented:
    """A code of the kind `by` has arrived; it counts as an attempt before it is compared."""

    by: Method = Method.TOTP


@dataclass(frozen=True, slots=True, kw_only=True)
class MethodAsked:
    """Somebody wants the method `by` to be started: a message, a call, or a question to the telephone."""

    by: Method


@dataclass(frozen=True, slots=True, kw_only=True)
class ApprovalPresented:
    """The telephone has answered; what it said is not known yet."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """What was presented is good (or, with `doubts`, undecided), and this is what policy makes of all proofs so far.

    `by` says which presented evidence was judged; `proofs` are all proofs of the transaction, the new one included.
    """

    by: Method
    account: int
    proofs: tuple[Proof, ...]
    doubts: tuple[UndecidedReason, ...] = ()
    assurance: Assurance
    decision: Decision


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """What was presented is bad. `account` is whom it concerned, when known: for the audit trail only.

    `ends`: nothing more may be tried, because the person said that it was not they who asked.
    """

    by: Method
    reason: RejectReason
    message: str = ""
    next_step: str = ""
    detail: str = ""
    account: int | None = None
    ends: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Cancel:
    pass


@dataclass(frozen=True, slots=True, kw_only=True)
class TimeIsUp:
    pass


Presented: TypeAlias = (
    CardPresented | KeyPresented | PasswordPresented | CodePresented | MethodAsked | ApprovalPresented
)
Event: TypeAlias = Presented | Judged | Refused | Cancel | TimeIsUp

# --- effects ---------------------------------------------------------------------------------------------------


@unique
class Recorded(StrEnum):
    """What the audit trail says happened in a sign-in."""

    SIGNED_IN = "signed-in"
    CHALLENGED = "challenged"
    DENIED = "denied"
    REFUSED = "refused"
    DOWNGRADE = "method-not-offered"
    TOO_MANY = "too-many-attempts"
    CANCELLED = "cancelled"
    EXPIRED = "expired"


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """Append to the audit trail."""

    what: Recorded
    account: int | None = None
    detail: str = ""
    assurance: Assurance | None = None
    decision: Decision | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenSession:
    account: int
    assurance: Assurance
    lifetimes: Lifetimes


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """Tell the client what was decided."""

    decision: Decision
    account: int
    assurance: Assurance


@unique
class Refusal(StrEnum):
    """Why an event does not fit the state."""

    NOT_NOW = "not-now"
    TOO_MANY = "too-many"
    EXPIRED = "expired"
    EVIDENCE = "evidence"
    DOWNGRADE = "downgrade"
    STARTS = "starts"


@dataclass(frozen=True, slots=True, kw_only=True)
class Refuse:
    """Tell the client no. `reason` is there when evidence was bad."""

    why: Refusal
    reason: RejectReason | None = None
    message: str = ""
    next_step: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Proceed:
    """The event is in order: go on and judge what was presented."""


Effect: TypeAlias = Record | OpenSession | Answer | Refuse | Proceed


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    state: State
    effects: tuple[Effect, ...]

    @property
    def proceeds(self) -> bool:
        return any(isinstance(effect, Proceed) for effect in self.effects)


# --- transitions -----------------------------------------------------------------------------------------------


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
