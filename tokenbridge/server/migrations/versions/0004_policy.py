"""What the policy needs to know: groups, an idle limit for each session, and from where accounts are usually used."""

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
    _places()
    op.create_index(op.f("ix_audit_at"), "audit", ["at"])
    op.add_column("sessions", sa.Column("idle_seconds", sa.Integer(), nullable=False, server_default="900"))


def _places() -> None:
    owner = op.f("fk_account_places_account_id_accounts")
    op.create_table(
        "account_places",
        sa.Column("account_id", sa.Integer(), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("value", sa.String(length=64), nullable=False),
        sa.Column("first_used", sa.DateTime(timezone=True), nullable=False),
        sa.Column("last_used", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["account_id"], ["accounts.id"], name=owner, ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("account_id", "kind", "value", name=op.f("pk_account_places")),
    )


def downgrade() -> None:
    op.drop_index(op.f("ix_audit_at"), "audit")
    op.drop_table("account_places")
    op.drop_column("sessions", "idle_seconds")
    op.drop_table("account_groups")
