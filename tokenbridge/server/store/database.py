"""The database: engine and transactions, on SQLite or PostgreSQL. It knows no table.

Why there are two kinds of writing transactions stands in docs/decisions/0009-two-databases.md.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from tokenbridge.errors import SetupError
from tokenbridge.server.store.database_faults import meaning

BUSY_SECONDS = 5
"""How long a transaction waits for another one's lock, or for a connection."""
UPGRADE_SECONDS: Final = 120
"""How long a process waits while another one runs the migrations."""
CONNECT_SECONDS: Final = 5
HANGING_SECONDS: Final = 30
"""PostgreSQL ends a transaction in which nothing happens for so long: its process hangs or its machine is gone."""
CONNECTIONS: Final = 10

_ALONE: Final = "alone"
_SHARED: Final = "shared"
# One advisory lock orders all writers of one database; the number is arbitrary and must not change.
_LOCK: Final = int.from_bytes(b"tokenbr", "big")
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
        snapshot: dict[str, Any] = {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True}
        self._reading = self._engine if self.is_sqlite else self._engine.execution_options(**snapshot)
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
        with _translated(), Session(self._reading, expire_on_commit=False) as session, session.begin():
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
    cursor.execute("PRAGMA journal_mode=WAL")
    # FULL: what was committed survives a power cut as well, not only the death of the process.
    cursor.execute("PRAGMA synchronous=FULL")
    cursor.execute("PRAGMA foreign_keys=ON")
    cursor.close()


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
        isolation_level="READ COMMITTED",
        pool_size=connections,
        max_overflow=0,
        pool_timeout=BUSY_SECONDS,
        pool_use_lifo=True,
        # The database may have been restarted since a connection was used last.
        pool_pre_ping=True,
    )
    event.listen(engine, "connect", _on_postgresql_connect)
    event.listen(engine, "begin", _on_postgresql_begin)
    return engine


def _on_postgresql_connect(connection: Any, _record: object) -> None:
    with connection.cursor() as cursor:
        cursor.execute(f"SET lock_timeout = {int(BUSY_SECONDS * 1000)}")
        cursor.execute(f"SET idle_in_transaction_session_timeout = {HANGING_SECONDS * 1000}")
    connection.commit()


def _on_postgresql_begin(connection: Connection) -> None:
    options = connection.get_execution_options()
    if "tokenbridge_wait" in options:
        connection.exec_driver_sql(f"SET LOCAL lock_timeout = {options['tokenbridge_wait'] * 1000}")
    if "tokenbridge_write" in options:
        connection.exec_driver_sql(_TAKE[options["tokenbridge_write"]])
