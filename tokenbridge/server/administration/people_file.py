"""Accounts from a CSV file: all of it or nothing. Who is there already is brought up to date; nobody is removed."""

from __future__ import annotations

import csv
import datetime as dt
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from sqlalchemy.orm import Session

from tokenbridge.errors import BadRequest
from tokenbridge.server.store import accounts, groups, roles
from tokenbridge.server.store.accounts import NewAccount
from tokenbridge.server.store.schema import Account

MAX_BYTES: Final = 32 << 20
MAX_ROWS: Final = 200_000
MOST_FAULTS: Final = 20

REQUIRED: Final = "username"
COLUMNS: Final = (REQUIRED, "display_name", "email", "nhs_uid", "upn", "organisation", "groups")
"""What a file may hold, in any order, named in its first line. `groups` are separated by semicolons."""

_FACTS: Final = ("display_name", "email", "nhs_uid", "upn", "organisation")


Row: TypeAlias = tuple[int, Mapping[str, str]]
"""The number of a line and its cells by column."""


@dataclass(slots=True, kw_only=True)
class Imported:
    """What became of a file. `changed` counts accounts that were there and differ now."""

    added: list[str] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)
    same: int = 0
    joined: int = 0


class DryRun(Exception):
    """Undoes the transaction."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """Whose accounts may be in a file: those of these organisations that administer nothing."""

    organisations: frozenset[str]

    def check(self, tx: Session, account: Account) -> None:
        """Raises `BadRequest`, which does not tell whose the account is."""
        if account.organisation not in self.organisations or roles.of(tx, account.id):
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


@dataclass(frozen=True, slots=True, kw_only=True)
class _Taking:
    tx: Session
    now: dt.datetime
    bounds: Bounds | None
    done: Imported


def take(tx: Session, rows: Sequence[Row], now: dt.datetime, bounds: Bounds | None = None) -> Imported:
    """Add the people of `rows`, or bring them up to date. An empty cell leaves what is there as it is.

    Raises `BadRequest` that names every bad line; the transaction then has to be given up.
    """
    by = _Taking(tx=tx, now=now, bounds=bounds, done=Imported())
    faults: list[str] = []
    for number, row in rows:
        try:
            _take(by, row)
        except BadRequest as err:
            faults.append(f"line {number}: {err.message}")
    if faults:
        raise _bad(faults)
    tx.flush()
    return by.done


def add_one(tx: Session, row: Mapping[str, str], now: dt.datetime, bounds: Bounds | None) -> Account:
    """A new account. Raises `BadRequest` when the name or an identifier is unfit or taken."""
    if accounts.find(tx, row[REQUIRED]) is not None:
        raise BadRequest(f"There is a user {row[REQUIRED]} already.", next_step="Choose another name.")
    _take(_Taking(tx=tx, now=now, bounds=bounds, done=Imported()), row)
    return accounts.get(tx, row[REQUIRED])


def rows_of(data: bytes) -> Sequence[Row]:
    """The lines of UTF-8 CSV (RFC 4180) with a heading. Raises `BadRequest`."""
    return list(_rows(data))


def _rows(data: bytes) -> Iterator[tuple[int, Mapping[str, str]]]:
    if len(data) > MAX_BYTES:
        raise BadRequest(f"The file is larger than {MAX_BYTES >> 20} MiB.")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as err:
        raise BadRequest("The file is not UTF-8.", next_step="Save it as CSV UTF-8.") from err
    reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
    try:
        _check_heading([name.strip() for name in reader.fieldnames or ()])
        for row in reader:
            if reader.line_num > MAX_ROWS:
                raise BadRequest(f"The file has more than {MAX_ROWS} lines.", next_step="Split it.")
            yield reader.line_num, _cells(row, reader.line_num)
    except csv.Error as err:
        raise BadRequest(f"line {reader.line_num}: {err}", next_step="Save the file as CSV UTF-8.") from err


def _check_heading(names: list[str]) -> None:
    unknown = [name for name in names if name not in COLUMNS]
    if REQUIRED not in names or unknown or len(set(names)) < len(names):
        wrong = (
            f"unknown columns {', '.join(unknown)}" if unknown else f"no column {REQUIRED}, or one stands there twice"
        )
        raise BadRequest(f"The first line names the columns: {wrong}.", next_step=f"Known are: {', '.join(COLUMNS)}.")


def _cells(row: Mapping[str | None, str | list[str] | None], number: int) -> Mapping[str, str]:
    cells = {str(name).strip(): value.strip() for name, value in row.items() if isinstance(value, str) and name}
    if None in row or None in row.values():
        raise BadRequest(f"line {number} has more or fewer cells than the first line.")
    return cells


def _take(by: _Taking, row: Mapping[str, str]) -> None:
    facts = {name: row[name] for name in _FACTS if row.get(name)}
    account = accounts.find(by.tx, row[REQUIRED])
    if by.bounds is not None:
        if account is not None:
            by.bounds.check(by.tx, account)
        facts = by.bounds.narrowed(facts, new=account is None)
    account = _stored(by, row[REQUIRED], account, facts)
    names = [groups.normal(name) for name in row.get("groups", "").split(";") if name.strip()]
    by.done.joined += sum(groups.add(by.tx, account.id, name) for name in names)
    by.tx.flush()


def _stored(by: _Taking, username: str, account: Account | None, facts: Mapping[str, str]) -> Account:
    if account is None:
        new = NewAccount(username=username, **{"display_name": "", **facts})
        _free(by, None, facts)
        account = accounts.add(by.tx, new, by.now)
        by.done.added.append(account.username)
    elif _differs(account, facts):
        _free(by, account, facts)
        accounts.change(account, facts)
        by.done.changed.append(account.username)
    else:
        by.done.same += 1
    return account


def _differs(account: Account, facts: Mapping[str, str]) -> bool:
    return any(getattr(account, name) != accounts.stored(name, value) for name, value in facts.items())


def _free(by: _Taking, account: Account | None, facts: Mapping[str, str]) -> None:
    """Raises `BadRequest` when another account has one of the identifiers."""
    for name in ("email", "nhs_uid", "upn"):
        owner = accounts.owner_of(by.tx, name, facts[name]) if name in facts else None
        if owner is not None and (account is None or owner.id != account.id):
            told = owner.username if by.bounds is None else "somebody else"
            raise BadRequest(f"{name} {facts[name]} belongs to {told}.")


def _bad(faults: list[str]) -> BadRequest:
    told = faults[:MOST_FAULTS]
    more = f" ... and {len(faults) - len(told)} more" if len(faults) > len(told) else ""
    return BadRequest(f"Nothing was imported: {'; '.join(told)}{more}", next_step="Mend these lines and try again.")
