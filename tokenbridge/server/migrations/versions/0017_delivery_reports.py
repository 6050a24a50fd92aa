"""What a sent message is called in the report of whoever delivers it."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.batch_alter_table("sent_codes") as table:
        table.add_column(sa.Column("reference", sa.String(length=64), nullable=True))
        table.create_unique_constraint(op.f("uq_sent_codes_reference"), ["reference"])


def downgrade() -> None:
    with op.batch_alter_table("sent_codes") as table:
        table.drop_constraint(op.f("uq_sent_codes_reference"), type_="unique")
        table.drop_column("reference")
