"""What the database's errors mean to the people who run the server, in one table. It handles none of them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from sqlalchemy.exc import DataError, IntegrityError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from tokenbridge.errors import BadRequest, NotAllowedNow, SetupError, TokenbridgeError


@dataclass(frozen=True, slots=True, kw_only=True)
class _Meaning:
    message: str
    next_step: str


_UNREACHABLE: Final = _Meaning(
    message="The server's database can't be reached.",
    next_step="Check that PostgreSQL runs, and the host and port in the database setting. The server goes on by "
    "itself as soon as the database answers.",
)
_REFUSED: Final = _Meaning(
    message="The database does not let this server in.",
    next_step="Check the user and the password in the database setting (or in PGPASSFILE), and PostgreSQL's "
    "pg_hba.conf.",
)
_ABSENT: Final = _Meaning(
    message="There is no such database.",
    next_step="Create it as PostgreSQL's administrator: CREATE DATABASE tokenbridge OWNER tokenbridge ENCODING 'UTF8'.",
)
_EMPTY: Final = _Meaning(
    message="The database was not set up for this version.",
    next_step="Run `tokenbridge server init`.",
)
_RIGHTS: Final = _Meaning(
    message="The database does not allow this server to do that.",
    next_step="Make the database's user the owner of the database, or grant it all rights on its schema.",
)
_BUSY: Final = _Meaning(
    message="The server's database is busy.",
    next_step="Try again; if it stays so, look for a program that holds a long transaction, and see "
    "`database_connections`.",
)
_FULL: Final = _Meaning(message="The database can't write: its disk is full.", next_step="Make room on its disk.")
_READ_ONLY: Final = _Meaning(
    message="The database takes no changes: it is read-only.",
    next_step="Name the primary PostgreSQL server in the database setting, or make the SQLite file writable.",
)
_OTHER: Final = _Meaning(
    message="The server's database does not answer.",
    next_step="Run `tokenbridge server init`, and check the disk and the database setting.",
)

# PostgreSQL, appendix A "Error Codes". The first two characters name the class.
_BY_STATE: Final = {
    "28": _REFUSED,
    "3D000": _ABSENT,
    "42P01": _EMPTY,
    "42703": _EMPTY,
    "42501": _RIGHTS,
    "55P03": _BUSY,
    "40": _BUSY,
    "57014": _BUSY,
    "53300": _BUSY,
    "53100": _FULL,
    "25006": _READ_ONLY,
    "57P": _UNREACHABLE,
    "08": _UNREACHABLE,
}

# Before a session exists libpq gives no code, only its own text or the server's; SQLite's codes came with Python 3.11
# and are coarser than its texts.
_BY_TEXT: Final = (
    (r"password authentication failed|no password supplied|pg_hba\.conf|role \".*\" does not exist", _REFUSED),
    (r"database \".*\" does not exist", _ABSENT),
    (r"too many clients|remaining connection slots|too many connections", _BUSY),
    (r"could not connect|connection (refused|failed|timeout|timed out|is bad)|could not translate host|server closed "
     r"the connection|the connection is (closed|lost)|failed to resolve|is starting up|is shutting down", _UNREACHABLE),
    (r"database is locked|database table is locked", _BUSY),
    (r"no such (table|column)", _EMPTY),
    (r"readonly database|read-only", _READ_ONLY),
    (r"disk is full", _FULL),
)  # fmt: skip


def meaning(err: SQLAlchemyError) -> TokenbridgeError:
    """The error that stands for `err`: `NotAllowedNow` for a clash, `BadRequest` for a value that no column takes,
    else `SetupError`. What the driver says goes to the detail, which only the log and the operator see."""
    said = str(getattr(err, "orig", None) or err)
    if isinstance(err, IntegrityError):
        return NotAllowedNow("That clashes with what is already stored.", detail=said)
    if isinstance(err, DataError):
        # SQLite takes texts of any length and number; PostgreSQL keeps to the columns, and takes no NUL.
        return BadRequest("A value is too long, or holds characters that can't be stored.", detail=said)
    found = _of(err, said)
    return SetupError(found.message, next_step=found.next_step, detail=said)


def _of(err: SQLAlchemyError, said: str) -> _Meaning:
    if isinstance(err, PoolTimeout):
        return _BUSY
    state = getattr(getattr(err, "orig", None), "sqlstate", None) or ""
    for length in (5, 3, 2):
        if len(state) == 5 and state[:length] in _BY_STATE:
            return _BY_STATE[state[:length]]
    return next((found for words, found in _BY_TEXT if re.search(words, said, re.IGNORECASE)), _OTHER)
