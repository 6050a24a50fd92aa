"""Accounts from a CSV file: all of it or nothing. Who is there already is brought up to date; nobody is removed."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from sqlalchemy.orm import Session

from tokenbridge.errors import BadRequest
from tokenbridge.server.operator.office import Office
from tokenbridge.server.store import accounts, groups
from tokenbridge.server.store.accounts import NewAccount
from tokenbridge.server.store.schema import Account

MAX_BYTES: Final = 32 << 20
MAX_ROWS: Final = 200_000
MOST_FAULTS: Final = 20

REQUIRED: Final = "username"
COLUMNS: Final = (REQUIRED, "display_name", "email", "nhs_uid", "upn", "groups")
"""What a file may hold, in any order, named in its first line. `groups` are separated by semicolons."""

_FACTS: Final = ("display_name", "email", "nhs_uid", "upn")


@dataclass(slots=True, kw_only=True)
class Imported:
    """What became of a file. `changed` counts accounts that were there and differ now."""

    added: list[str] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)
    same: int = 0
    joined: int = 0


def import_csv(office: Office, data: bytes, *, dry_run: bool = False) -> Imported:
    """Add the people of `data`, UTF-8 CSV (RFC 4180) with a heading. An empty cell leaves what is there as it is.

    Raises `BadRequest` that names every bad line; then nothing is changed. `dry_run`: the same, and nothing is changed
    in any case.
    """
    rows = list(_rows(data))
    done = Imported()
    faults: list[str] = []
    try:
        with office.database.write() as tx:
            for number, row in rows:
                try:
                    _take(office, tx, row, done)
                except BadRequest as err:
                    faults.append(f"line {number}: {err.message}")
            if faults:
                raise _bad(faults)
            tx.flush()
            office.record(tx, "users-imported", added=len(done.added), changed=len(done.changed))
            if dry_run:
                raise _DryRun
    except _DryRun:
        pass
    return done


class _DryRun(Exception):
    """Undoes the transaction."""


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


def _take(office: Office, tx: Session, row: Mapping[str, str], done: Imported) -> None:
    facts = {name: row[name] for name in _FACTS if row.get(name)}
    account = accounts.find(tx, row[REQUIRED])
    if account is None:
        new = NewAccount(username=row[REQUIRED], **{"display_name": "", **facts})
        _free(tx, None, facts)
        account = accounts.add(tx, new, office.now())
        done.added.append(account.username)
    elif _differs(account, facts):
        _free(tx, account, facts)
        accounts.change(account, facts)
        done.changed.append(account.username)
    else:
        done.same += 1
    names = [groups.normal(name) for name in row.get("groups", "").split(";") if name.strip()]
    done.joined += sum(groups.add(tx, account.id, name) for name in names)
    tx.flush()


def _differs(account: Account, facts: Mapping[str, str]) -> bool:
    return any(getattr(account, name) != accounts.stored(name, value) for name, value in facts.items())


def _free(tx: Session, account: Account | None, facts: Mapping[str, str]) -> None:
    """Raises `BadRequest` when another account has one of the identifiers."""
    for name in ("email", "nhs_uid", "upn"):
        owner = accounts.owner_of(tx, name, facts[name]) if name in facts else None
        if owner is not None and (account is None or owner.id != account.id):
            raise BadRequest(f"{name} {facts[name]} belongs to {owner.username}.")


def _bad(faults: list[str]) -> BadRequest:
    told = faults[:MOST_FAULTS]
    more = f" ... and {len(faults) - len(told)} more" if len(faults) > len(told) else ""
    return BadRequest(f"Nothing was imported: {'; '.join(told)}{more}", next_step="Mend these lines and try again.")
