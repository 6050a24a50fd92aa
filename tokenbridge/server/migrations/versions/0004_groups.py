"""Groups of accounts, which rules of the policy refer to, and an idle limit for each session."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    owner = op.f("fk_account_groups_account_id_accounts")
    op.create_table(
        "account_groups",
        sa.Column("account_id", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(length=128), nullable=False),
        sa.ForeignKeyConstraint(["account_id"], ["accounts.id"], name=owner, ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("account_id", "name", name=op.f("pk_account_groups")),
    )
    op.create_index(op.f("ix_account_groups_name"), "account_groups", ["name"])
    op.add_column("sessions", sa.Column("idle_seconds", sa.Integer(), nullable=False, server_default="900"))


def downgrade() -> None:
    op.drop_column("sessions", "idle_seconds")
    op.drop_table("account_groups")
