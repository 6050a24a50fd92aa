"""By what a code goes out if its message did not get there."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0018"
down_revision = "0017"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.batch_alter_table("sent_codes") as table:
        table.add_column(sa.Column("instead", sa.String(length=16), server_default=sa.text("''"), nullable=False))


def downgrade() -> None:
    with op.batch_alter_table("sent_codes") as table:
        table.drop_column("instead")
