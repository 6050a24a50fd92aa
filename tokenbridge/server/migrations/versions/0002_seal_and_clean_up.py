"""The end of the audit trail is sealed by the key file; sessions that are over are found quickly."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # The key is not at hand here: `tokenbridge server init` seals the trail.
    op.add_column("audit_head", sa.Column("seal", sa.String(length=64), nullable=True))
    op.create_index(op.f("ix_sessions_expires_at"), "sessions", ["expires_at"], unique=False)


def downgrade() -> None:
    op.drop_index(op.f("ix_sessions_expires_at"), "sessions")
    op.drop_column("audit_head", "seal")
