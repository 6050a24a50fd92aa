"""What a session may administer, and the gate before every look and every change. It blocks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum, unique
from typing import Any, Final

from sqlalchemy import Select
from sqlalchemy.orm import Session

from tokenbridge.errors import NotAllowedNow, NotFound, StepUp
from tokenbridge.rp.assurance import AAL
from tokenbridge.server.administration.people_file import Bounds
from tokenbridge.server.changes import Changes
from tokenbridge.server.store import accounts, audit, roles
from tokenbridge.server.store.audit import Event
from tokenbridge.server.store.roles import Grant, Role
from tokenbridge.server.store.schema import Account
from tokenbridge.server.store.sessions import Live


@unique
class Task(StrEnum):
    """What is to be done. Everything but FIND and RESET is for administrators, GOVERN for those of the whole site."""

    FIND = "find accounts"
    RESET = "reset an account"
    MANAGE = "manage accounts"
    WATCH = "look at the audit trail"
    GOVERN = "change what holds on this server"


_ROLES: Final = {
    Task.FIND: frozenset({Role.ADMINISTRATOR, Role.HELPDESK}),
    Task.RESET: frozenset({Role.ADMINISTRATOR, Role.HELPDESK}),
    Task.MANAGE: frozenset({Role.ADMINISTRATOR}),
    Task.WATCH: frozenset({Role.ADMINISTRATOR}),
    Task.GOVERN: frozenset({Role.ADMINISTRATOR}),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Reach:
    """For whose accounts. `organisations` None: everybody's; without any: nobody's."""

    organisations: frozenset[str] | None

    @property
    def bounds(self) -> Bounds | None:
        return None if self.organisations is None else Bounds(organisations=self.organisations)

    def covers(self, account: Account) -> bool:
        return self.organisations is None or account.organisation in self.organisations

    def narrow(self, query: Select[Any]) -> Select[Any]:
        """Only rows of accounts within reach; `query` selects from them."""
        return query if self.organisations is None else query.where(Account.organisation.in_(self.organisations))


@dataclass(frozen=True, slots=True, kw_only=True)
class Authority:
    """The roles of a session's account, and what follows from them."""

    live: Live
    grants: tuple[Grant, ...]

    def reach(self, task: Task) -> Reach:
        found = {grant.organisation for grant in self.grants if grant.role in _ROLES[task]}
        return Reach(organisations=None if "" in found else frozenset(found))

    def may(self, task: Task) -> bool:
        found = self.reach(task).organisations
        # Trust, models and policy are about everybody: there is no part of them that is somebody's own.
        return found is None if task is Task.GOVERN else found != frozenset()

    @property
    def of_site(self) -> bool:
        """Whether this is an administrator of everything."""
        return self.reach(Task.MANAGE).organisations is None

    def account(self, tx: Session, task: Task, account_id: int) -> Account:
        """An account within reach. Raises `NotFound`, whether it is out of reach or does not exist."""
        found = accounts.by_id(tx, account_id)
        if found is None or not self.reach(task).covers(found):
            raise NotFound("There is no such account.", next_step="Search for it by name.")
        return found

    def changeable(self, tx: Session, task: Task, account_id: int) -> Account:
        """As `account`, for a change. Raises `NotAllowedNow` for one's own account, and for one with a role unless
        this is an administrator of everything: nobody gets further by somebody else's account."""
        found = self.account(tx, task, account_id)
        hindrance = self.hindrance(tx, found)
        if hindrance:
            raise NotAllowedNow(hindrance, next_step="Ask an administrator of the whole site.")
        return found

    def hindrance(self, tx: Session, account: Account) -> str:
        """Why this account can't be changed, empty when it can."""
        if account.id == self.live.account.id:
            return "This is your own account: change it under Self-Service."
        if not self.of_site and roles.of(tx, account.id):
            return "This account administers others, so only an administrator of the whole site may change it."
        return ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Gate:
    """Opens transactions for those who administer. Everybody else is told `NotFound`, as at an unknown address."""

    changes: Changes

    @contextmanager
    def looking(self, session_token: str, task: Task) -> Iterator[tuple[Session, Authority]]:
        """A transaction that changes nothing. Raises `NoSession`, `NotFound`, or `StepUp` below two factors."""
        with self.changes.looking(session_token) as (tx, live):
            yield tx, _authority(tx, live, task)

    @contextmanager
    def changing(self, session_token: str, task: Task, request: str) -> Iterator[tuple[Session, Authority]]:
        """A transaction for a change: the session must reach its account's strongest factor, show two factors at
        least, and be new enough. Raises as `looking`."""
        with self.looking(session_token, task):
            pass
        with self.changes.permitted(session_token, task, request) as (tx, live):
            yield tx, _authority(tx, live, task)

    @contextmanager
    def changing_one(
        self, session_token: str, task: Task, account_id: int, request: str
    ) -> Iterator[tuple[Session, Authority, Account]]:
        """As `changing`, of one account that may be changed. Raises `NotAllowedNow` too."""
        with self.changing(session_token, task, request) as (tx, by):
            yield tx, by, by.changeable(tx, task, account_id)

    def record(
        self, tx: Session, event: str, by: Authority, account: Account | None, request: str, **more: Any
    ) -> None:
        """Put on record who did what to whose account."""
        self.record_all(tx, by, [(event, account, more)], request)

    def record_all(
        self,
        tx: Session,
        by: Authority,
        done: Sequence[tuple[str, Account | None, Mapping[str, Any]]],
        request: str,
    ) -> None:
        """As `record`, for many events at once: each with its account and detail."""
        events = [
            Event(
                event=event,
                account="" if account is None else account.username,
                sign_in=by.live.sign_in_ref,
                request=request,
                detail={"by": by.live.account.username, **more},
            )
            for event, account, more in done
        ]
        for entry in audit.append_all(tx, self.changes.clock(), events, self.changes.keys.ring()):
            audit.tell(entry)


def _authority(tx: Session, live: Live, task: Task) -> Authority:
    found = Authority(live=live, grants=roles.of(tx, live.account.id))
    if not found.may(task):
        raise NotFound
    if int(live.assurance["aal"]) < AAL.AAL2:
        raise StepUp(
            "Administration needs two factors in this sign-in.",
            next_step="Sign in with your password and a second factor, or with your card or key.",
        )
    return found
