"""From where a sign-in is begun."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    for column in ("address", "device"):
        new = sa.Column(column, sa.String(length=64), nullable=False, server_default=sa.text("''"))
        op.add_column("sign_ins", new)


def downgrade() -> None:
    for column in ("device", "address"):
        op.drop_column("sign_ins", column)
