"""Brings a database to the newest schema. Kept apart because Alembic is slow to import."""

from __future__ import annotations

import logging
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.util import CommandError
from sqlalchemy import Connection

from tokenbridge.errors import SetupError
from tokenbridge.server.store.database import Database

MIGRATIONS = Path(__file__).parent.parent / "migrations"


def upgrade(database: Database) -> None:
    """Run the migrations that are missing, all or none. Raises `SetupError`.

    Of several processes that start at once one runs them, and the others find nothing left to do.
    """
    with database.connection() as connection:
        _check_encoding(connection)
        try:
            command.upgrade(_config(connection), "head")
        except CommandError as err:
            raise SetupError(
                "The database was made by a newer tokenbridge.",
                next_step="Install that version, or restore the database that belongs to this one.",
                detail=str(err),
            ) from err


def downgrade(database: Database, revision: str) -> None:
    """Take migrations back down to `revision` ("base": all), all or none. What only the newer tables hold is lost.

    Raises `SetupError`.
    """
    with database.connection() as connection:
        try:
            command.downgrade(_config(connection), revision)
        except CommandError as err:
            raise SetupError(f"There is no way down to the schema {revision!r}.", detail=str(err)) from err


def _config(connection: Connection) -> Config:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    config.attributes["connection"] = connection
    logging.getLogger("alembic").setLevel(logging.WARNING)
    return config


def _check_encoding(connection: Connection) -> None:
    """Names are not only ASCII, and what does not fit another encoding would fail at some later sign-in."""
    if connection.dialect.name != "postgresql":
        return
    encoding = connection.exec_driver_sql("SHOW server_encoding").scalar_one()
    if encoding != "UTF8":
        raise SetupError(
            f"The database keeps its texts as {encoding}.",
            next_step="Create it anew: CREATE DATABASE tokenbridge OWNER tokenbridge ENCODING 'UTF8' "
            "TEMPLATE template0.",
        )
