"""Finding accounts, and one account as those see it who administer it. It blocks, and changes nothing."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import or_, select
from sqlalchemy.orm import Session

from tokenbridge.rp.assurance import AAL
from tokenbridge.rp.proof import Method
from tokenbridge.server import suspending
from tokenbridge.server.administration.acts import Held
from tokenbridge.server.administration.authority import Authority, Gate, Task
from tokenbridge.server.key_book import KeyModelBook
from tokenbridge.server.key_desk import describe
from tokenbridge.server.people import person
from tokenbridge.server.store import accounts, app_passwords, audit, cards, groups, recovery, roles, security_keys
from tokenbridge.server.store import sessions as session_rows
from tokenbridge.server.store.audit import Entry
from tokenbridge.server.store.roles import Grant
from tokenbridge.server.store.schema import Account, EnrolledCertificate
from tokenbridge.server.suspending import Device

PAGE: Final = 25
NEWEST: Final = 15


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One account of a list."""

    id: int
    username: str
    display_name: str
    organisation: str
    disabled: bool
    methods: frozenset[Method]


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A page of a search; `more` says whether there is another."""

    lines: tuple[Line, ...]
    more: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionLine:
    device: str
    level: AAL
    started_at: dt.datetime
    expires_at: dt.datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountView:
    """`hindrance` says why the account can't be changed by who looks; `held` are what a reset could take away."""

    account: Account
    groups: tuple[str, ...]
    roles: tuple[Grant, ...]
    methods: frozenset[Method]
    recovery_left: int
    cards: tuple[EnrolledCertificate, ...]
    recognised: tuple[Device, ...]
    keys: tuple[Mapping[str, Any], ...]
    sessions: tuple[SessionLine, ...]
    events: tuple[Entry, ...]
    held: tuple[Held, ...]
    hindrance: str
    manages: bool
    of_site: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Directory:
    """Raises `NoSession`, `NotFound` and `StepUp` everywhere, as `Gate` does."""

    gate: Gate
    models: KeyModelBook

    def authority(self, session_token: str) -> Authority:
        """What this session may administer at all."""
        with self.gate.looking(session_token, Task.FIND) as (_, authority):
            return authority

    def may(self, session_token: str, task: Task, request: str, account_id: int = 0) -> str:
        """Whether a change could be made now, to this account if one is named: asked before somebody begins with it.

        Returns the account's user name. Raises `NotAllowedNow` too."""
        with self.gate.changing(session_token, task, request) as (tx, by):
            return by.changeable(tx, task, account_id).username if account_id else ""

    def search(self, session_token: str, text: str, page: int) -> Found:
        """Accounts whose user name, name or e-mail holds `text`, by user name; `page` begins at 0."""
        with self.gate.looking(session_token, Task.FIND) as (tx, authority):
            query = authority.reach(Task.FIND).narrow(select(Account)).order_by(Account.username)
            if text:
                columns = (Account.username, Account.display_name, Account.email)
                query = query.where(or_(*(column.icontains(text, autoescape=True) for column in columns)))
            rows = tx.scalars(query.offset(page * PAGE).limit(PAGE + 1)).all()
            return Found(lines=tuple(_line(tx, row) for row in rows[:PAGE]), more=len(rows) > PAGE)

    def one(self, session_token: str, account_id: int) -> AccountView:
        now, models, trust = self.gate.changes.clock(), self.models.current(), self.gate.changes.rule.trust.current()
        with self.gate.looking(session_token, Task.FIND) as (tx, authority):
            account = authority.account(tx, Task.FIND, account_id)
            methods = accounts.enrolled(tx, account.id)
            keys = tuple(describe(row, models, now) for row in security_keys.of(tx, account.id))
            own_cards = tuple(row for row, _ in cards.listed(tx, account.id))
            return AccountView(
                account=account,
                groups=tuple(sorted(groups.of(tx, account.id))),
                roles=roles.of(tx, account.id),
                methods=methods,
                recovery_left=recovery.left(tx, account.id),
                cards=own_cards,
                recognised=tuple(suspending.recognised(tx, account, trust)),
                keys=keys,
                sessions=tuple(_sessions(tx, account.id, now)),
                events=tuple(reversed(audit.entries(tx, account=account.username, limit=NEWEST))),
                held=_held(
                    accounts.enrolled(tx, account.id, suspended=True),
                    app_passwords=bool(app_passwords.of(tx, account.id)),
                ),
                hindrance=authority.hindrance(tx, account),
                manages=authority.reach(Task.MANAGE).covers(account),
                of_site=authority.of_site,
            )


def _line(tx: Session, account: Account) -> Line:
    who = person(tx, account.id)
    return Line(
        id=account.id,
        username=account.username,
        display_name=account.display_name,
        organisation=account.organisation,
        disabled=account.disabled,
        methods=frozenset() if who is None else who.enrolled,
    )


def _sessions(tx: Session, account_id: int, now: dt.datetime) -> list[SessionLine]:
    return [
        SessionLine(
            device=row.device or "",
            level=AAL(int(row.assurance["aal"])),
            started_at=row.started_at,
            expires_at=row.expires_at,
        )
        for row in session_rows.alive(tx, account_id, now)
    ]


_BEHIND: Final[Mapping[Held, frozenset[Method]]] = {
    Held.APP: frozenset({Method.TOTP}),
    Held.PHONES: frozenset({Method.SMS, Method.WHATSAPP}),
    Held.RECOVERY: frozenset({Method.RECOVERY}),
    Held.KEYS: frozenset({Method.KEY}),
    Held.CARDS: frozenset({Method.CARD}),
}


def _held(methods: frozenset[Method], *, app_passwords: bool) -> tuple[Held, ...]:
    found = [held for held, behind in _BEHIND.items() if methods & behind]
    return (*found, Held.APP_PASSWORDS) if app_passwords else tuple(found)
