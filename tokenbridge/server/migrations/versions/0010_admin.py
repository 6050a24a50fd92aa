"""Administration: the organisation of an account, and who administers what."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    new = sa.Column("organisation", sa.String(length=128), nullable=False, server_default=sa.text("''"))
    op.add_column("accounts", new)
    op.create_index(op.f("ix_accounts_organisation"), "accounts", ["organisation"])
    owner = op.f("fk_admin_roles_account_id_accounts")
    op.create_table(
        "admin_roles",
        sa.Column("account_id", sa.Integer(), nullable=False),
        sa.Column("role", sa.String(length=16), nullable=False),
        sa.Column("organisation", sa.String(length=128), nullable=False),
        sa.Column("granted_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["account_id"], ["accounts.id"], name=owner, ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("account_id", "role", "organisation", name=op.f("pk_admin_roles")),
    )


def downgrade() -> None:
    op.drop_table("admin_roles")
    op.drop_index(op.f("ix_accounts_organisation"), table_name="accounts")
    op.drop_column("accounts", "organisation")
