"""Brings a database to the newest schema. Kept apart because Alembic is slow to import."""

from __future__ import annotations

import logging
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.util import CommandError

from tokenbridge.errors import SetupError
from tokenbridge.server.store.database import Database

MIGRATIONS = Path(__file__).parent.parent / "migrations"


def upgrade(database: Database) -> None:
    """Run the migrations that are missing, all or none. Raises `SetupError`."""
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    logging.getLogger("alembic").setLevel(logging.WARNING)
    with database.connection() as connection:
        config.attributes["connection"] = connection
        try:
            command.upgrade(config, "head")
        except CommandError as err:
            raise SetupError(
                "The database was made by a newer tokenbridge.",
                next_step="Install that version, or restore the database that belongs to this one.",
                detail=str(err),
            ) from err
