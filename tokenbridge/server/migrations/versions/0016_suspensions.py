"""Cards and keys that are suspended, and what a session was opened with."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None

DEVICES = ("security_keys", "enrolled_certificates")


def upgrade() -> None:
    owner = op.f("fk_suspended_issuers_account_id_accounts")
    for table in DEVICES:
        op.add_column(table, sa.Column("suspended_at", sa.DateTime(timezone=True), nullable=True))
    op.add_column("sessions", sa.Column("shown", sa.JSON(), nullable=True))
    op.create_table(
        "suspended_issuers",
        sa.Column("account_id", sa.Integer(), nullable=False),
        sa.Column("anchor", sa.String(length=64), nullable=False),
        sa.Column("name", sa.String(length=128), nullable=False),
        sa.Column("suspended_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["account_id"], ["accounts.id"], name=owner, ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("account_id", "anchor", name=op.f("pk_suspended_issuers")),
    )


def downgrade() -> None:
    # An older server would take what is suspended: it goes, and has to be added anew. Of issuers nothing can be kept.
    for table in DEVICES:
        op.execute(f"DELETE FROM {table} WHERE suspended_at IS NOT NULL")  # noqa: S608 - two names from above
        op.drop_column(table, "suspended_at")
    op.drop_column("sessions", "shown")
    op.drop_table("suspended_issuers")
