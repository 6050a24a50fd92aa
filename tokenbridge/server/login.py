"""The vocabulary of a sign-in: states, events and effects, as frozen values. What leads where is in `login_machine`."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum, unique
from typing import Final, TypeAlias

from tokenbridge.errors import RejectReason, UndecidedReason
from tokenbridge.rp.assurance import Assurance
from tokenbridge.rp.policy import Decision
from tokenbridge.rp.proof import Method, Proof
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
