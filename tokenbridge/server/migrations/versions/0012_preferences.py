"""Voice calls to a number; the method that a person prefers; who began to set an authenticator app up."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("DELETE FROM pending_apps")  # half an hour of set-ups: nobody knows who began them
    begun_by = sa.Column("begun_by", sa.String(length=64), nullable=False, server_default=sa.text("''"))
    op.add_column("pending_apps", begun_by)
    op.add_column("phones", sa.Column("voice", sa.Boolean(), nullable=False, server_default=sa.true()))
    op.add_column("accounts", sa.Column("default_method", sa.String(length=16), nullable=True))


def downgrade() -> None:
    op.drop_column("accounts", "default_method")
    op.drop_column("phones", "voice")
    op.drop_column("pending_apps", "begun_by")
