"""A new password for those who have forgotten it, by two enrolled methods of different kinds. It blocks.

Nothing is sent for a name that somebody typed: the first method is a code that the person has already, or a session by
card or key. Only then it is told what the second can be. Names of nobody look like all others until then.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum, unique
from typing import Any, Final

from sqlalchemy.orm import Session

from tokenbridge.errors import NotAllowedNow, StepUp
from tokenbridge.rp.proof import RESTRICTED_METHODS, Method
from tokenbridge.rp.rules import FALLBACK, PORTAL, Context
from tokenbridge.server import keys
from tokenbridge.server.changes import Changes
from tokenbridge.server.notices import Notices
from tokenbridge.server.people import Person, password_name, person
from tokenbridge.server.policy_book import PolicyBook
from tokenbridge.server.risk import RiskDesk
from tokenbridge.server.store import accounts, audit, enrolment, password_resets, sessions
from tokenbridge.server.store.password_reset_schema import PasswordReset
from tokenbridge.server.store.password_resets import NewReset
from tokenbridge.server.whereabouts import Whereabouts

FIRST: Final = (Method.TOTP, Method.RECOVERY)
"""What begins a reset: codes that nobody has to send."""
MAX_TOKEN: Final = 128
MAX_DETAIL: Final = 300
NOBODY: Final = Person(id=0, username="", display_name="", disabled=True, enrolled=frozenset())
"""Takes the place of somebody where the same work has to be done for names of nobody."""
_VERIFIED: Final = frozenset({"pin", "fpt"})


@unique
class Stage(StrEnum):
    """What a reset awaits."""

    FIRST = "first"
    SECOND = "second"
    PASSWORD = "password"  # noqa: S105 - the name of a stage


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """`ways`: what can be proved now, best first; none in the second stage: the account has nothing else."""

    stage: Stage
    ways: tuple[Method, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Visitor:
    """Who asks: from where, by what browser, in which request."""

    where: Whereabouts
    device: str
    request: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PasswordResets:
    """`offered`: the methods that this server can check."""

    changes: Changes
    policy: PolicyBook
    risk: RiskDesk
    offered: frozenset[Method]
    notices: Notices

    def begin(self, username: str) -> str:
        """A reset for whoever is called so, or nobody; returns its token, which is shown once."""
        token, now = keys.new_token(), self.changes.clock()
        with self.changes.database.write_shared() as tx:
            account = accounts.find(tx, username)
            able = account is not None and not account.disabled and account.password_hash is not None
            nobody = self.changes.keys.ring().seal(
                f"reset:{accounts.normal(username)}".encode("utf-8", "surrogatepass")
            )
            new = NewReset(
                ref=keys.hash_token(token),
                account_id=account.id if able and account is not None else None,
                counted_as=str(account.id) if able and account is not None else nobody,
                password=password_name(account.id, account.password_hash) if account is not None else "",
            )
            password_resets.begin(tx, new, now)
        return token

    def begin_signed_in(self, session_token: str, request: str) -> str:
        """As `begin`, for whoever has just signed in with a card or key and its PIN or fingerprint: that is the first
        method. Raises `NoSession`, `StepUp`, and `NotAllowedNow` for an account without a password."""
        token, now = keys.new_token(), self.changes.clock()
        with self.changes.permitted(session_token, "reset the password", request) as (tx, live):
            amr = frozenset(live.assurance["amr"])
            if not amr & _VERIFIED:
                raise StepUp(
                    "For this sign in with your card, or with a key and its PIN or fingerprint.",
                    next_step="Without either, sign out and choose “Forgotten your password?” on the sign-in page.",
                )
            if live.account.password_hash is None:
                raise NotAllowedNow("Your account has no password.", next_step="Sign in as you did.")
            by = Method.KEY if "user" in amr else Method.CARD
            new = NewReset(
                ref=keys.hash_token(token),
                account_id=live.account.id,
                counted_as=str(live.account.id),
                password=password_name(live.account.id, live.account.password_hash),
                first=str(by),
            )
            password_resets.begin(tx, new, now)
            self.changes.record(tx, "password-reset-proved", live, request, method=str(by))
        return token

    def standing(self, token: str, where: Whereabouts) -> Standing | None:
        """What a reset awaits; None when there is none, or its time is over."""
        with self.changes.database.read() as tx:
            row = self.find(tx, token)
            return None if row is None else self.stands(tx, row, where)

    def find(self, tx: Session, token: str) -> PasswordReset | None:
        return password_resets.find(tx, ref_of(token), self.changes.clock())

    def hold(self, tx: Session, token: str) -> PasswordReset:
        """Raises `NotAllowedNow` when there is none."""
        row = self.find(tx, token)
        if row is None:
            raise over()
        return row

    def stands(self, tx: Session, row: PasswordReset, where: Whereabouts) -> Standing:
        """The first stage is the same for everybody."""
        if not row.first:
            return Standing(stage=Stage.FIRST, ways=FIRST)
        if row.second:
            return Standing(stage=Stage.PASSWORD)
        who = self.who(tx, row)
        return Standing(stage=Stage.SECOND, ways=self.ways(tx, who, row, where) if who is not None else ())

    def who(self, tx: Session, row: PasswordReset) -> Person | None:
        """Whose reset it is; nobody's once the account was disabled or its password changed."""
        return owner(tx, row)

    def ways(self, tx: Session, who: Person, row: PasswordReset, where: Whereabouts) -> tuple[Method, ...]:
        """What `who` can prove next: what is set up, and what policy would take for a sign-in to these pages."""
        now = self.changes.clock()
        context = Context(
            client=PORTAL,
            enrolled=who.enrolled,
            groups=who.groups,
            now=now,
            account=who.username,
            address=where.address,
            signals=self.risk.notice(tx, who.id, where, now),
            since=who.since,
        )
        policy = self.policy.current().policy
        rule = policy.rule_for(context)
        if rule is None or rule.refuse:
            return ()
        rule = policy.demands_on(rule, context)
        stage = frozenset(FIRST) if not row.first else frozenset(FALLBACK) - {Method.KEY, row.first}
        barred = frozenset() if rule.allow_restricted else RESTRICTED_METHODS
        able = who.enrolled & self.offered & stage - barred
        return tuple(method for method in rule.fallback if method in able)

    def finish(self, token: str, made: str, request: str) -> int:
        """Set the password whose hash is `made`, use the reset up and end all sessions, whose number is returned.

        Raises `NotAllowedNow` when two methods were not proved, or the account has changed since. Nobody is signed in
        by it."""
        now = self.changes.clock()
        with self.changes.database.write() as tx:
            taken = password_resets.take(tx, ref_of(token), now)
            account = accounts.by_id(tx, taken.account_id) if taken is not None else None
            if taken is None or account is None or account.disabled:
                raise over()
            if password_name(account.id, account.password_hash) != taken.password:
                raise over()
            account.password_hash = made
            enrolment.void(tx, account.id)
            ended = sessions.end_all(tx, account.id, now)
            detail = {"methods": [taken.first, taken.second], "sessions_ended": ended}
            self.record(tx, "password-reset", account.username, request, **detail)
        self.notices.password_reset(account)
        return ended

    def record(self, tx: Session, event: str, username: str, request: str, **detail: Any) -> None:
        """Add to the audit trail; for a name of nobody (empty) only the work is done."""
        what = audit.Event(event=event, account=username, request=request, detail=_bounded(detail))
        audit.tell(audit.append_of_somebody(tx, self.changes.clock(), what, self.changes.keys.ring()))


def owner(tx: Session, row: PasswordReset) -> Person | None:
    """As `PasswordResets.who`."""
    found = person(tx, row.account_id or 0)
    if found is None or found.disabled or found.password != row.password:
        return None
    return found


def ref_of(token: str) -> str:
    """What is stored of a token; empty for what can't be one."""
    return keys.hash_token(token) if 0 < len(token) <= MAX_TOKEN else ""


def over() -> NotAllowedNow:
    return NotAllowedNow("This password reset is over.", next_step="Begin again from the sign-in page.")


def _bounded(detail: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value[:MAX_DETAIL] if isinstance(value, str) else value for name, value in detail.items()}
