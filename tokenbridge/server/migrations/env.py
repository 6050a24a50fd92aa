"""Alembic's entry: runs the migrations on the connection that `Database.upgrade` gives. It opens none itself."""

from __future__ import annotations

from alembic import context

from tokenbridge.server.store.key_schema import SecurityKey

connection = context.config.attributes["connection"]
context.configure(connection=connection, target_metadata=SecurityKey.metadata, transactional_ddl=True)
with context.begin_transaction():
    context.run_migrations()
