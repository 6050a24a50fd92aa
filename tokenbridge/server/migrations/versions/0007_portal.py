"""What the self-service portal needs: since when an account has multi-factor sign-in, and the device of a session."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("accounts", sa.Column("mfa_since", sa.DateTime(timezone=True), nullable=True))
    op.add_column("sessions", sa.Column("device", sa.String(length=64), nullable=True))


def downgrade() -> None:
    op.drop_column("sessions", "device")
    op.drop_column("accounts", "mfa_since")
