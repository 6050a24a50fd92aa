"""Alembic's entry: runs the migrations on the connection that `Database.upgrade` gives. It opens none itself."""

from __future__ import annotations

from alembic import context

from tokenbridge.server.store import (
    admin_schema,
    app_schema,
    approval_schema,
    hand_over_schema,
    key_schema,
    method_schema,
    password_reset_schema,
    phone_app_schema,
    role_schema,
)
from tokenbridge.server.store.schema import Base

TABLES = (
    admin_schema,
    app_schema,
    approval_schema,
    hand_over_schema,
    key_schema,
    method_schema,
    password_reset_schema,
    phone_app_schema,
    role_schema,
)
"""Imported so that `Base` knows their tables."""

connection = context.config.attributes["connection"]
context.configure(connection=connection, target_metadata=Base.metadata, transactional_ddl=True)
with context.begin_transaction():
    context.run_migrations()
