"""The database: engine and transactions, on SQLite or PostgreSQL. It knows no table.

Why there are two kinds of writing transactions stands in docs/decisions/0009-two-databases.md.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, Final

from sqlalchemy import URL, Connection, Dialect, Engine, create_engine, event, make_url
from sqlalchemy.exc import InvalidatePoolError, SQLAlchemyError
from sqlalchemy.orm import Session

from tokenbridge.errors import SetupError
from tokenbridge.server.store.database_faults import meaning

BUSY_SECONDS = 5
"""How long a transaction waits for another one's lock, or for a connection."""
UPGRADE_SECONDS: Final = 120
"""How long a process waits while another one runs the migrations."""
WAL_PAUSE: Final = 0.02
CONNECT_SECONDS: Final = 5
FRESH_SECONDS: Final = 0.5
"""A connection that was used so recently is taken for alive."""
HANGING_SECONDS: Final = 30
"""PostgreSQL ends a transaction in which nothing happens for so long: its process hangs or its machine is gone."""
CONNECTIONS: Final = 10

_USED: Final = "tokenbridge_used"
_ALONE: Final = "alone"
_SHARED: Final = "shared"
# One advisory lock orders all writers of one database; the number is arbitrary and must not change.
_LOCK: Final = int.from_bytes(b"tokenbr", "big")
_READ: Final = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"
_WRITE: Final = "BEGIN ISOLATION LEVEL READ COMMITTED"
_TAKE: Final = {
    _ALONE: f"SELECT pg_advisory_xact_lock({_LOCK})",
    _SHARED: f"SELECT pg_advisory_xact_lock_shared({_LOCK})",
}


class Database:
    """Transactions on one database. Safe to use from many threads and many processes.

    `connections` is how many a process holds at most; PostgreSQL's `max_connections` must allow it for each process.
    """

    def __init__(self, url: str, *, connections: int = CONNECTIONS) -> None:
        """Raises `SetupError` when the URL can't be used. It connects later."""
        self._engine = _engine(url, connections)
        self._alone = self._engine.execution_options(tokenbridge_write=_ALONE)
        self._shared = self._engine.execution_options(tokenbridge_write=_SHARED)
        self._upgrading = self._engine.execution_options(tokenbridge_write=_ALONE, tokenbridge_wait=UPGRADE_SECONDS)

    @property
    def is_sqlite(self) -> bool:
        return self._engine.dialect.name == "sqlite"

    @contextmanager
    def read(self) -> Iterator[Session]:
        """A transaction that changes nothing and sees one moment. Raises `SetupError` when the database does not
        answer."""
        with _translated(), Session(self._engine, expire_on_commit=False) as session, session.begin():
            yield session

    @contextmanager
    def write(self) -> Iterator[Session]:
        """A transaction that is committed at the end, or not at all when the body raises.

        From its first moment it is the only writer, so what it has read stays true until it commits.
        """
        with _translated(), Session(self._alone, expire_on_commit=False) as session, session.begin():
            session.connection()
            yield session

    @contextmanager
    def write_shared(self) -> Iterator[Session]:
        """As `write`, but on PostgreSQL beside others of its kind, for what happens many times a second.

        What it reads may change under it: whatever may happen only once is one statement that checks and changes (its
        `rowcount` tells), or stands behind a row that was read by SELECT ... FOR UPDATE. Locks are taken in one order:
        the row that the transaction is about, then others, the audit trail last.
        """
        with _translated(), Session(self._shared, expire_on_commit=False) as session, session.begin():
            session.connection()
            yield session

    @contextmanager
    def connection(self) -> Iterator[Connection]:
        """One writing transaction below the level of objects, for the migrations: it waits longer, and is alone."""
        with _translated(), self._upgrading.connect() as connection:
            with connection.begin():
                yield connection
            connection.invalidate()  # its next user does not wait so long

    def forked(self) -> None:
        """To be called in a fork: connections that were open before it are its parent's, and are left alone."""
        self._engine.dispose(close=False)

    def close(self) -> None:
        self._engine.dispose()


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except SQLAlchemyError as err:
        raise meaning(err) from err


def usable(url: str) -> URL:
    """The URL with its driver. Raises `SetupError` for what is no URL of SQLite or PostgreSQL."""
    try:
        parsed = make_url(url)
        name, driver = parsed.get_backend_name(), parsed.drivername
    except (SQLAlchemyError, ValueError) as err:
        # What can't be read may hold a password at any place, so it is not repeated.
        raise _unusable("not of the form of a URL; @ : / ? in a password are written %40 %3A %2F %3F") from err
    if driver in ("postgresql", "postgres"):  # as PostgreSQL's own tools write it
        return parsed.set(drivername="postgresql+psycopg")
    if driver == "postgresql+psycopg" or name == "sqlite":
        return parsed
    raise _unusable(f"driver {driver}")


def _unusable(detail: str) -> SetupError:
    return SetupError(
        "The database setting can't be used.",
        next_step="For PostgreSQL install `tokenbridge[postgres]` and write postgresql+psycopg://USER@HOST/DATABASE.",
        detail=detail,
    )


def _engine(url: str, connections: int) -> Engine:
    parsed = usable(url)
    try:
        return _sqlite(parsed) if parsed.get_backend_name() == "sqlite" else _postgresql(parsed, connections)
    except (SQLAlchemyError, ImportError) as err:
        raise _unusable(str(err)) from err


# --- SQLite --------------------------------------------------------------------------------------------------------


def _sqlite(url: URL) -> Engine:
    engine = create_engine(url, connect_args={"timeout": BUSY_SECONDS}, hide_parameters=True)
    event.listen(engine, "connect", _on_sqlite_connect)
    event.listen(engine, "begin", _on_sqlite_begin)
    return engine


def _on_sqlite_connect(connection: Any, _record: object) -> None:
    # The driver's own BEGIN comes too late and is deferred: two writers would then fail instead of queueing.
    connection.isolation_level = None
    cursor = connection.cursor()
    _wait_for_wal(cursor)
    # FULL: what was committed survives a power cut as well, not only the death of the process.
    cursor.execute("PRAGMA synchronous=FULL")
    cursor.execute("PRAGMA foreign_keys=ON")
    cursor.close()


def _wait_for_wal(cursor: Any) -> None:
    """Processes that begin with a new file at once all want to change its mode; SQLite lets none of them wait."""
    deadline = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            cursor.execute("PRAGMA journal_mode=WAL")
        except sqlite3.OperationalError as err:
            if err.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() >= deadline:
                raise
            time.sleep(WAL_PAUSE)
        else:
            return


def _on_sqlite_begin(connection: Connection) -> None:
    options = connection.get_execution_options()
    if "tokenbridge_wait" in options:
        connection.exec_driver_sql(f"PRAGMA busy_timeout = {options['tokenbridge_wait'] * 1000}")
    connection.exec_driver_sql("BEGIN IMMEDIATE" if "tokenbridge_write" in options else "BEGIN")


# --- PostgreSQL ----------------------------------------------------------------------------------------------------


def _postgresql(url: URL, connections: int) -> Engine:
    # A dead peer is noticed within seconds (libpq, "Parameter Key Words"); what the URL says goes first.
    defaults = {
        "connect_timeout": CONNECT_SECONDS,
        "application_name": "tokenbridge",
        "keepalives_idle": 10,
        "keepalives_interval": 5,
        "keepalives_count": 3,
        "tcp_user_timeout": 15_000,
    }
    engine = create_engine(
        url,
        connect_args={name: value for name, value in defaults.items() if name not in url.query},
        hide_parameters=True,
        pool_size=connections,
        max_overflow=0,
        pool_timeout=BUSY_SECONDS,
        pool_use_lifo=True,
    )
    event.listen(engine, "connect", _on_postgresql_connect)
    event.listen(engine, "checkin", _on_checkin)
    event.listen(engine, "checkout", partial(_on_checkout, engine.dialect))
    event.listen(engine, "begin", _on_postgresql_begin)
    return engine


def _on_postgresql_connect(connection: Any, record: Any) -> None:
    _on_checkin(connection, record)
    # The driver is not to begin by itself: BEGIN goes out together with the lock.
    connection.autocommit = True
    with connection.cursor() as cursor:
        cursor.execute(f"SET lock_timeout = {int(BUSY_SECONDS * 1000)}")
        cursor.execute(f"SET idle_in_transaction_session_timeout = {HANGING_SECONDS * 1000}")


def _on_checkin(_connection: object, record: Any) -> None:
    record.info[_USED] = time.monotonic()


def _on_checkout(dialect: Dialect, connection: Any, record: Any, _proxy: object) -> None:
    """The database may have been restarted since a connection was used last: one that rested is asked first.

    To ask each time is one more round trip for every transaction. One that fails in spite of this empties the pool.
    """
    if time.monotonic() - record.info.get(_USED, 0) < FRESH_SECONDS:
        return
    try:
        dialect.do_ping(connection)
    except dialect.loaded_dbapi.Error as err:
        raise InvalidatePoolError from err


def _on_postgresql_begin(connection: Connection) -> None:
    """One round trip for it all. What goes wrong in it is rolled back when the pool gets the connection back."""
    options, steps = connection.get_execution_options(), [_READ]
    if "tokenbridge_write" in options:
        steps = [_WRITE, _TAKE[options["tokenbridge_write"]]]
    if "tokenbridge_wait" in options:
        steps.insert(1, f"SET LOCAL lock_timeout = {options['tokenbridge_wait'] * 1000}")
    connection.exec_driver_sql("; ".join(steps))
