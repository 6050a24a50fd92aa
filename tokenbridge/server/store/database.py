"""The database: engine and transactions. It knows no table."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event, make_url
from sqlalchemy.exc import IntegrityError, SQLAlchemyError
from sqlalchemy.orm import Session

from tokenbridge.errors import NotAllowedNow, SetupError

BUSY_SECONDS = 5


class Database:
    """Transactions on one database. Safe to use from many threads and many processes."""

    def __init__(self, url: str) -> None:
        self._engine = _engine(url)
        self._writing = self._engine.execution_options(tokenbridge_write=True)

    @contextmanager
    def read(self) -> Iterator[Session]:
        """A transaction that changes nothing. Raises `SetupError` when the database does not answer."""
        with _translated(), Session(self._engine, expire_on_commit=False) as session, session.begin():
            yield session

    @contextmanager
    def write(self) -> Iterator[Session]:
        """A transaction that is committed at the end, or not at all when the body raises.

        On SQLite it holds the write lock from its first moment, so what it has read stays true until it commits.
        """
        with _translated(), Session(self._writing, expire_on_commit=False) as session, session.begin():
            yield session

    @contextmanager
    def connection(self) -> Iterator[Connection]:
        """One writing transaction below the level of objects, for the migrations."""
        with _translated(), self._writing.begin() as connection:
            yield connection

    def close(self) -> None:
        self._engine.dispose()


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except IntegrityError as err:
        raise NotAllowedNow("That clashes with what is already stored.", detail=str(err.orig)) from err
    except SQLAlchemyError as err:
        raise SetupError(
            "The server's database does not answer.",
            next_step="Run `tokenbridge server init`, and check the disk and the database setting.",
            detail=str(err),
        ) from err


def _engine(url: str) -> Engine:
    try:
        parsed = make_url(url)
        sqlite = parsed.get_backend_name() == "sqlite"
        engine = create_engine(parsed, connect_args={"timeout": BUSY_SECONDS} if sqlite else {}, hide_parameters=True)
    except (SQLAlchemyError, ImportError) as err:
        raise SetupError(
            "The database setting can't be used.",
            next_step="For PostgreSQL install `tokenbridge[postgres]` and write postgresql+psycopg://...",
            detail=str(err),
        ) from err
    if sqlite:
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
    write = connection.get_execution_options().get("tokenbridge_write", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")
