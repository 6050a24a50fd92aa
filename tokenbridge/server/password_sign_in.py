"""Signing in with a password and an app code. It blocks; the slow comparison of the password is the caller's."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from tokenbridge.errors import NotAllowedNow, RejectReason, TooMany
from tokenbridge.rp.proof import Factor, Method, Proof
from tokenbridge.server import keys, login
from tokenbridge.server.attempt_gate import AttemptGate
from tokenbridge.server.judge import Shown, judge
from tokenbridge.server.ledger import Done, Ledger, Moment
from tokenbridge.server.methods.base import Case, Checks, FallbackMethod
from tokenbridge.server.people import Person, person
from tokenbridge.server.policy_book import PolicyBook
from tokenbridge.server.store import accounts, sent_codes, throttle
from tokenbridge.server.store.database import Database

_KNOWLEDGE: Final = frozenset({Factor.KNOWLEDGE})
_POSSESSION: Final = frozenset({Factor.POSSESSION})


@dataclass(frozen=True, slots=True, kw_only=True)
class PasswordAttempt:
    """A password that was counted. `encoded` is the hash to compare it with, None when nothing would be right."""

    token: str
    request: str
    encoded: str | None
    who: Person | None


@dataclass(frozen=True, slots=True, kw_only=True)
class PasswordSignIn:
    """Password, then code. Every attempt is counted before it is compared."""

    database: Database
    ledger: Ledger
    policy: PolicyBook
    methods: Mapping[Method, FallbackMethod]

    def begin(self, token: str, username: str, request: str) -> PasswordAttempt:
        """Count the attempt and find what to compare with."""

        gate, name = AttemptGate(), accounts.normal(username)

        def counted(moment: Moment) -> login.Event:
            gate.count(moment.tx, throttle.PASSWORDS, name, moment.now)
            return login.PasswordPresented()

        try:
            self.ledger.advance(token, request, counted)
        except TooMany:
            self._report(token, request, gate)
            raise
        with self.database.read() as tx:
            account = accounts.find(tx, username)
            who = person(tx, account.id) if account is not None else None
        encoded = account.password_hash if account is not None and not account.disabled else None
        return PasswordAttempt(token=token, request=request, encoded=encoded, who=who)

    def complete(self, attempt: PasswordAttempt, *, good: bool) -> Done:
        """Go on with a right password; a wrong one, or one of another account than the card's, is `Rejected`."""

        def judged(moment: Moment) -> login.Event:
            # Read again: while the slow comparison ran, the account may have been disabled, its password changed.
            who, waiting = _unchanged(moment, attempt.who), moment.state
            fixed = waiting.account if isinstance(waiting, login.AwaitingPassword) else None
            if not good or who is None or fixed not in (None, who.id):
                return _wrong_password(who or attempt.who, good=good)
            return self._password_shown(moment, who)

        return self.ledger.advance(attempt.token, attempt.request, judged)

    def code(self, token: str, code: str, request: str, method: Method = Method.TOTP) -> Done:
        """Compare and spend a code of the kind `method`, all in one database transaction."""

        gate = AttemptGate()

        def counted(moment: Moment) -> login.Event:
            if isinstance(moment.state, login.AwaitingCode):
                for limit in (throttle.CODES, throttle.CODES_IN_A_ROW):
                    gate.count(moment.tx, limit, str(moment.state.account), moment.now)
            return login.CodePresented(by=sent_codes.really_sent(moment.tx, moment.pending.ref, method))

        def shown(moment: Moment) -> login.Event:
            return self._code_shown(moment, sent_codes.really_sent(moment.tx, moment.pending.ref, method), code)

        try:
            return self.ledger.advance(token, request, counted, shown)
        except TooMany:
            self._report(token, request, gate)
            raise

    def _report(self, token: str, request: str, gate: AttemptGate) -> None:
        """Record that a limit holds somebody up; what the machine counted is on record already."""
        limit = gate.closed
        if limit is None:
            return
        with self.database.read() as tx:
            by_name = limit is throttle.PASSWORDS
            account = accounts.find(tx, gate.name) if by_name else accounts.by_id(tx, int(gate.name))
        username = account.username if account is not None else ""
        gate.report(self.ledger, username, request, sign_in=keys.hash_token(token))

    def _password_shown(self, moment: Moment, who: Person) -> login.Event:
        waiting = moment.state if isinstance(moment.state, login.AwaitingPassword) else None
        proof = Proof(method=Method.PASSWORD, factors=_KNOWLEDGE, credential=who.password, at=moment.now)
        shown = Shown(
            by=Method.PASSWORD,
            proofs=(*(waiting.proofs if waiting else ()), proof),
            doubts=waiting.doubts if waiting else (),
        )
        return judge(self.policy.current(), shown, who, moment.circumstances(who.id), moment.now)

    def _code_shown(self, moment: Moment, method: Method, code: str) -> login.Event:
        state = moment.state
        who = moment.who(state.account) if isinstance(state, login.AwaitingCode) else None
        if not isinstance(state, login.AwaitingCode) or who is None:
            raise NotAllowedNow
        case = Case(tx=moment.tx, now=moment.now, account=who.id, ref=moment.pending.ref)
        found = self.methods.get(method)
        problem = found.check(case, code) if isinstance(found, Checks) else "not set up here"
        if problem:
            return login.Refused(by=method, reason=RejectReason.CODE_WRONG, detail=problem, account=who.id)
        throttle.forget(moment.tx, throttle.CODES_IN_A_ROW, str(who.id))
        return second_step_shown(self.policy, moment, who, method)


def second_step_shown(policy: PolicyBook, moment: Moment, who: Person, method: Method) -> login.Judged:
    """What follows from a code of the kind `method` that was right, or an approval that was given."""
    before = moment.state
    earlier = before.proofs if isinstance(before, login.AwaitingCode) else ()
    proof = Proof(method=method, factors=_POSSESSION, credential=f"{method}:{who.id}", at=moment.now)
    doubts = before.doubts if isinstance(before, login.AwaitingCode) else ()
    shown = Shown(by=method, proofs=(*earlier, proof), doubts=doubts)
    return judge(policy.current(), shown, who, moment.circumstances(who.id), moment.now)


def _unchanged(moment: Moment, before: Person | None) -> Person | None:
    now = moment.who(before.id) if before is not None else None
    same = now is not None and before is not None and now.password == before.password and not now.disabled
    return now if same else None


def _wrong_password(who: Person | None, *, good: bool) -> login.Refused:
    if who is None:
        detail = "no such user"
    elif who.disabled:
        detail = "account disabled"
    else:
        detail = "password of another account than the card's, or changed meanwhile" if good else "wrong password"
    account = who.id if who is not None else None
    return login.Refused(by=Method.PASSWORD, reason=RejectReason.CREDENTIALS_WRONG, detail=detail, account=account)
