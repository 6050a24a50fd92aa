"""App passwords: for programs that can do no second factor. Each is for one person and one such program.

They are random (120 bits), so a plain hash is stored (SP 800-63B-4 section 3.1.2.2) and checked at once: a mail server
asks many times a minute. What is proved is AAL1, and policy decides about it as about any sign-in: a client that takes
app passwords needs a rule that lets AAL1 in.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import hmac
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, NoReturn

from sqlalchemy.orm import Session

from tokenbridge.errors import (
    BadRequest,
    ClientUnknown,
    NotFound,
    PolicyRefuses,
    Rejected,
    RejectReason,
    TooMany,
)
from tokenbridge.rp.policy import Decision, Outcome
from tokenbridge.rp.proof import Factor, Method, Proof
from tokenbridge.rp.reasons import ReasonCode
from tokenbridge.server import codes, keys, login, sign_in_record
from tokenbridge.server.changes import Changes
from tokenbridge.server.judge import Shown, judge
from tokenbridge.server.key_enrolment import clean_name
from tokenbridge.server.ledger import Ledger
from tokenbridge.server.notices import Notices
from tokenbridge.server.people import Person, person
from tokenbridge.server.policy_book import PolicyBook
from tokenbridge.server.risk import Circumstances
from tokenbridge.server.store import accounts, app_passwords, audit, throttle
from tokenbridge.server.store.app_passwords import USED_EVERY, Good, NewAppPassword

FAILURES: Final = throttle.Limit(kind="app-password", most=30)
"""Wrong app passwords of one name at one client in a minute. A program that was not told the new one tries often."""

DENIALS: Final = throttle.Limit(kind="app-password-denied", most=1, minutes=24 * 60)
"""How often the audit trail says that policy refuses an app password for the same reason: mail programs never tire."""

NO_SECRET: Final = keys.hash_token("nobody has this secret")

_KNOWLEDGE: Final = frozenset({Factor.KNOWLEDGE})

_NEXT_STEPS: Final[Mapping[str, str]] = {
    ReasonCode.TOO_WEAK: "Use this service in a browser, where a second step can be asked for, or ask your IT service "
    "desk whether policy may let app passwords in here.",
    ReasonCode.ENROL_OVERDUE: "Set it up on the self-service pages, then let the program try again.",
}
"""By the policy's reason. A program can do no second step, so none is offered."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """A new app password. `password` is shown once and stored nowhere. `refused`: why the policy does not let it in as
    things are now; people should know before a program fails without a word."""

    id: int
    name: str
    client: str
    password: str
    refused: PolicyRefuses | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Presented:
    """What a client asks about. `address` is the client's own."""

    username: str
    password: str
    address: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AppPasswords:
    """Makes, lists, revokes and checks app passwords. It blocks."""

    changes: Changes
    policy: PolicyBook
    ledger: Ledger
    notices: Notices

    def make(self, session_token: str, client: str, name: str, request: str) -> Made:
        """Raises `NoSession`, `StepUp`, `BadRequest`."""
        now, password, wanted = self.changes.clock(), codes.new_code(), clean_name(name)
        with self.changes.permitted(session_token, "make an app password", request) as (tx, live):
            found = app_passwords.client(tx, client)
            if found is None:
                raise BadRequest(
                    f"No program {client!r} takes app passwords here.", next_step="Choose one of the list."
                )
            new = NewAppPassword(
                account_id=live.account.id,
                client_id=found.id,
                name=wanted,
                password_hash=_hashed(password, live.account.id),
            )
            row = app_passwords.add(tx, new, now)
            self.changes.record(tx, "app-password-made", live, request, name=wanted, client=client)
            who = person(tx, live.account.id)
        self.notices.added(live.account, Method.APP_PASSWORD)
        refused = self._refused_anywhere(who, client, row.id) if who is not None else None
        return Made(id=row.id, name=wanted, client=client, password=password, refused=refused)

    def listed(self, session_token: str) -> dict[str, Any]:
        """The person's app passwords, and the clients for which one can be made. Raises `NoSession`."""
        with self.changes.looking(session_token) as (tx, live):
            mine = app_passwords.of(tx, live.account.id)
            clients = [row.name for row, _ in app_passwords.clients(tx)]
        return {"app_passwords": [describe(row, client) for row, client in mine], "clients": clients}

    def revoke(self, session_token: str, password_id: int, request: str) -> None:
        """Raises `NoSession`, `NotFound`. To make oneself safer no step-up is needed."""
        with self.changes.database.write() as tx:
            live = self.changes.live(tx, session_token)
            name = app_passwords.revoke(tx, live.account.id, password_id, self.changes.clock())
            if name is None:
                raise NotFound("There is no such app password.")
            self.changes.record(tx, "app-password-revoked", live, request, name=name)
        self.notices.removed(live.account, Method.APP_PASSWORD)

    def check(self, client: str, secret: str, given: Presented, request: str) -> Person:
        """Whose password it is. Raises `ClientUnknown`, `TooMany`, `Rejected`, `PolicyRefuses`.

        Names that exist and names that do not take the same steps and get the same answer.
        """
        now = self.changes.clock()
        about = f"{client}:{accounts.normal(given.username)}"
        with self.changes.database.read() as tx:
            client_id = _authenticated(tx, client, secret)
            if throttle.spent(tx, FAILURES, about, now):
                raise TooMany(seconds=throttle.wait(FAILURES, now))
            account = accounts.find(tx, given.username)
            number = account.id if account is not None else login.NOBODY
            hashed = _hashed(given.password, number)
            good = app_passwords.find(tx, account_id=number, client_id=client_id, password_hash=hashed)
            who = person(tx, number)
        if good is None or who is None or who.disabled:
            self._failed(about, client, who, request)
        decision = self._judged(who, client, good.id, given.address)
        if decision.outcome is not Outcome.ALLOW:
            raise self._denied(good, who, client, decision, request)
        self._used(good, who, client, request)
        return who

    def _judged(self, who: Person, client: str, number: int, address: str) -> Decision:
        now = self.changes.clock()
        proof = Proof(method=Method.APP_PASSWORD, factors=_KNOWLEDGE, credential=f"app-password:{number}", at=now)
        shown = Shown(by=Method.APP_PASSWORD, proofs=(proof,))
        return judge(self.policy.current(), shown, who, Circumstances(client=client, address=address), now).decision

    def _refused_anywhere(self, who: Person, client: str, number: int) -> PolicyRefuses | None:
        """Why the policy does not let it in as things are now, wherever the client may be; None: it may let it in."""
        named = {net.network_address for rule in self.policy.current().policy.rules for net in rule.networks}
        decisions = [self._judged(who, client, number, str(place)) for place in ("", *named)]
        if any(decision.outcome is Outcome.ALLOW for decision in decisions):
            return None
        return _refusal(decisions[0], "As things are now, the policy does not let it in")

    def _denied(self, good: Good, who: Person, client: str, decision: Decision, request: str) -> PolicyRefuses:
        """The refusal, put on record: most programs show nobody why they were not let in."""
        refusal = _refusal(decision, "The app password is right, but the policy does not let it in")
        denied = replace(decision, outcome=Outcome.DENY, sentence=refusal.message)
        detail = {"client": client, "name": good.name, **sign_in_record.decided(denied)}
        event = audit.Event(event=login.Recorded.DENIED, account=who.username, request=request, detail=detail)
        self.ledger.report(f"{good.id}:{refusal.message}", event, DENIALS)
        return refusal

    def _failed(self, about: str, client: str, who: Person | None, request: str) -> NoReturn:
        now = self.changes.clock()
        with self.changes.database.write_shared() as tx:
            entry: audit.Entry | None = None
            if not throttle.allow(tx, FAILURES, about, now):
                raise TooMany(seconds=throttle.wait(FAILURES, now))
            if who is not None and throttle.allow(tx, throttle.REPORTS, f"app-password:{about}", now):
                event = audit.Event(
                    event="refused",
                    account=who.username,
                    request=request,
                    detail={"client": client, "detail": "app-password: disabled" if who.disabled else "app-password"},
                )
                entry = audit.append(tx, now, event, self.changes.keys.ring())
        audit.tell(entry)
        raise Rejected(RejectReason.CREDENTIALS_WRONG, "The user name or the app password is wrong.")

    def _used(self, good: Good, who: Person, client: str, request: str) -> None:
        """Note the use, and tell the audit trail of the first one in a day."""
        now = self.changes.clock()
        if good.last_used is not None and now - good.last_used < USED_EVERY:
            return
        entry: audit.Entry | None = None
        with self.changes.database.write_shared() as tx:
            app_passwords.used(tx, good.id, now)
            if good.last_used is None or good.last_used.date() != now.date():
                detail = {"client": client, "name": good.name}
                event = audit.Event(event="app-password-used", account=who.username, request=request, detail=detail)
                entry = audit.append(tx, now, event, self.changes.keys.ring())
        audit.tell(entry)


class AppPasswordDesk:
    """The same off the event loop, for the API."""

    def __init__(self, work: AppPasswords) -> None:
        self._work = work

    async def make(self, session_token: str, client: str, name: str, request: str) -> Made:
        return await asyncio.to_thread(self._work.make, session_token, client, name, request)

    async def listed(self, session_token: str) -> dict[str, Any]:
        return await asyncio.to_thread(self._work.listed, session_token)

    async def revoke(self, session_token: str, password_id: int, request: str) -> None:
        await asyncio.to_thread(self._work.revoke, session_token, password_id, request)

    async def check(self, client: str, secret: str, given: Presented, request: str) -> Person:
        return await asyncio.to_thread(self._work.check, client, secret, given, request)


def describe(row: Any, client: str) -> dict[str, Any]:
    """An app password as people are told of it: JSON types."""
    return {
        "id": row.id,
        "name": row.name,
        "client": client,
        "created_at": _stamp(row.created_at),
        "last_used": _stamp(row.last_used),
    }


def _refusal(decision: Decision, said: str) -> PolicyRefuses:
    """What is `said`, and why: the decision's own sentence is for people, who can go on."""
    why = decision.reasons[0].text
    steps = (_NEXT_STEPS[reason.code] for reason in decision.reasons if reason.code in _NEXT_STEPS)
    return PolicyRefuses(f"{said}: {why[:1].lower()}{why[1:]}", next_step=next(steps, None))


def _stamp(when: dt.datetime | None) -> str | None:
    return None if when is None else when.isoformat()


def _hashed(password: str, account: int) -> str:
    return codes.hash_code(password, account=account)


def _authenticated(tx: Session, client: str, secret: str) -> int:
    found = app_passwords.secret_of(tx, client)
    number, expected = found if found is not None else (0, NO_SECRET)
    if not hmac.compare_digest(keys.hash_token(secret), expected) or found is None:
        raise ClientUnknown
    return number
