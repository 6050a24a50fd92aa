"""Administration of the site: policies that were replaced, and enrolment codes that wait to be taken."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "policy_editions",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("content", sa.LargeBinary(), nullable=False),
        sa.Column("replaced_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("replaced_by", sa.String(length=128), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_policy_editions")),
    )
    owner = op.f("fk_code_sheets_account_id_accounts")
    op.create_table(
        "code_sheets",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("account_id", sa.Integer(), nullable=False),
        sa.Column("codes", sa.Integer(), nullable=False),
        sa.Column("content", sa.LargeBinary(), nullable=False),
        sa.Column("made_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["account_id"], ["accounts.id"], name=owner, ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_code_sheets")),
    )
    op.create_index(op.f("ix_code_sheets_account_id"), "code_sheets", ["account_id"])
    op.create_index(op.f("ix_code_sheets_expires_at"), "code_sheets", ["expires_at"])


def downgrade() -> None:
    op.drop_table("code_sheets")
    op.drop_table("policy_editions")
