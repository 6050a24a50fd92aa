"""Accounts from a CSV file: all of it or nothing. Who is there already is brought up to date; nobody is removed.

What the lines are compared with is read in a few queries, not line by line: nobody else can write meanwhile.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum, unique
from typing import Final

from sqlalchemy.orm import Session

from tokenbridge.errors import BadRequest, FileFaulty
from tokenbridge.server.administration.people_rows import REQUIRED, Row
from tokenbridge.server.store import accounts, groups, roles
from tokenbridge.server.store.accounts import NewAccount
from tokenbridge.server.store.schema import Account

_FACTS: Final = ("display_name", "email", "nhs_uid", "upn", "organisation")
_UNIQUE: Final = ("email", "nhs_uid", "upn")
_UNFIT: Final = re.compile(r"[\x00-\x1f\x7f]")
_LONGEST: Final = {"display_name": 256, "email": 254, "upn": 256}
"""Characters, as the columns of the database have it."""


@unique
class Fate(StrEnum):
    ADDED = "added"
    CHANGED = "changed"
    SAME = "same"


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of a line. `changes`: what differs now; `joined`: the groups that are new to the account."""

    line: int
    username: str
    fate: Fate
    changes: tuple[str, ...] = ()
    joined: tuple[str, ...] = ()


@dataclass(slots=True, kw_only=True)
class Imported:
    """What became of a file, line by line."""

    outcomes: list[Outcome] = field(default_factory=list)

    @property
    def added(self) -> list[str]:
        return self._of(Fate.ADDED)

    @property
    def changed(self) -> list[str]:
        """Accounts that were there and differ now."""
        return self._of(Fate.CHANGED)

    @property
    def same(self) -> int:
        return len(self._of(Fate.SAME))

    @property
    def joined(self) -> int:
        return sum(len(outcome.joined) for outcome in self.outcomes)

    def _of(self, fate: Fate) -> list[str]:
        return [outcome.username for outcome in self.outcomes if outcome.fate is fate]


class DryRun(Exception):
    """Undoes the transaction."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """Whose accounts may be in a file: those of these organisations that administer nothing."""

    organisations: frozenset[str]

    def check(self, account: Account, administer: Collection[int]) -> None:
        """Raises `BadRequest`, which does not tell whose the account is. `administer`: the accounts with a role."""
        if account.organisation not in self.organisations or account.id in administer:
            raise BadRequest(f"the account {account.username} is not yours to change.")

    def narrowed(self, facts: dict[str, str], *, new: bool) -> dict[str, str]:
        """The facts with the organisation that a new account gets. Raises `BadRequest` for one of others."""
        wanted = accounts.normal_organisation(facts.get("organisation", ""))
        if wanted and wanted not in self.organisations:
            raise BadRequest(f"you do not administer {wanted}.")
        if new and not wanted:
            if len(self.organisations) > 1:
                raise BadRequest("the column organisation has to say which one.")
            return {**facts, "organisation": next(iter(self.organisations))}
        return facts


def take(tx: Session, rows: Sequence[Row], now: dt.datetime, bounds: Bounds | None = None) -> Imported:
    """Add the people of `rows`, or bring them up to date. An empty cell leaves what is there as it is.

    Raises `FileFaulty` that names every bad line; the transaction then has to be given up.
    """
    by, faults = _Taking(tx, rows, now, bounds), []
    for number, row in rows:
        try:
            by.take(number, row)
        except BadRequest as err:
            faults.append(f"line {number}: {err.message}")
    if faults:
        raise FileFaulty(faults)
    return by.finish()


def add_one(tx: Session, row: Mapping[str, str], now: dt.datetime, bounds: Bounds | None) -> Account:
    """A new account. Raises `BadRequest` when the name or an identifier is unfit or taken."""
    if accounts.find(tx, row[REQUIRED]) is not None:
        raise BadRequest(f"There is a user {row[REQUIRED]} already.", next_step="Choose another name.")
    by = _Taking(tx, [(1, row)], now, bounds)
    by.take(1, row)
    by.finish()
    return accounts.get(tx, row[REQUIRED])


class _Taking:
    """One file on its way into the database. The accounts are kept by name, and by each of their identifiers."""

    def __init__(self, tx: Session, rows: Sequence[Row], now: dt.datetime, bounds: Bounds | None) -> None:
        self._tx, self._now, self._bounds = tx, now, bounds
        self._known = accounts.by_names(tx, {accounts.normal(row[REQUIRED]) for _, row in rows})
        self._owners = {name: accounts.by_values(tx, name, _values(rows, name)) for name in _UNIQUE}
        self._administer = roles.holders(tx)
        self._taken: list[tuple[int, Account, Fate, tuple[str, ...], set[str]]] = []

    def take(self, line: int, row: Mapping[str, str]) -> None:
        """Raises `BadRequest`."""
        facts = {name: row[name] for name in _FACTS if row.get(name)}
        _check(facts)
        name = accounts.normal(row[REQUIRED])
        account = self._known.get(name)
        if self._bounds is not None:
            if account is not None:
                self._bounds.check(account, self._administer)
            facts = self._bounds.narrowed(facts, new=account is None)
        wanted = {groups.normal(name) for name in row.get("groups", "").split(";") if name.strip()}
        self._check_free(account, facts)
        fate, changes = Fate.ADDED, tuple[str, ...]()
        if account is None:
            account = accounts.made(NewAccount(username=row[REQUIRED], **{"display_name": "", **facts}), self._now)
            self._tx.add(account)
            self._known[name] = account
        else:
            changes = _changes(account, facts)
            fate = Fate.CHANGED if changes else Fate.SAME
            self._change(account, {name: facts[name] for name in changes})
        for identifier in facts.keys() & set(_UNIQUE):
            self._owners[identifier][getattr(account, identifier)] = account
        self._taken.append((line, account, fate, changes, wanted))

    def finish(self) -> Imported:
        """Store everything, with the groups."""
        self._tx.flush()
        joined = groups.add_all(self._tx, [(account.id, names) for _, account, _, _, names in self._taken if names])
        done = Imported()
        for line, account, fate, changes, names in self._taken:
            new = tuple(sorted(name for name in names if (account.id, name) in joined))
            joined -= {(account.id, name) for name in new}
            done.outcomes.append(Outcome(line=line, username=account.username, fate=fate, changes=changes, joined=new))
        return done

    def _check_free(self, account: Account | None, facts: Mapping[str, str]) -> None:
        """Raises `BadRequest` when another account has one of the identifiers."""
        for name in _UNIQUE:
            owner = self._owners[name].get(str(accounts.stored(name, facts[name]))) if name in facts else None
            if owner is not None and owner is not account:
                told = owner.username if self._bounds is None else "somebody else"
                raise BadRequest(f"{name} {facts[name]} belongs to {told}.")

    def _change(self, account: Account, facts: Mapping[str, str]) -> None:
        let_go = [name for name in _UNIQUE if name in facts]
        for name in let_go:
            self._owners[name].pop(getattr(account, name), None)
        accounts.change(account, facts)
        if let_go:
            # Who comes by the old one in a later line must not be stored first.
            self._tx.flush()


def _values(rows: Sequence[Row], name: str) -> set[str]:
    return {str(accounts.stored(name, row[name])) for _, row in rows if row.get(name)}


def _check(facts: Mapping[str, str]) -> None:
    for name, value in facts.items():
        if _UNFIT.search(value):
            raise BadRequest(f"{name} holds characters that can't be printed.")
        if len(value) > _LONGEST.get(name, len(value)):
            raise BadRequest(f"{name} is longer than {_LONGEST[name]} characters.")


def _changes(account: Account, facts: Mapping[str, str]) -> tuple[str, ...]:
    return tuple(name for name, value in facts.items() if getattr(account, name) != accounts.stored(name, value))
