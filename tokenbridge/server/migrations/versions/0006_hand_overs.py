"""Hand-overs of a sign-in from a browser to the bridge beside it."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    owner = op.f("fk_hand_overs_sign_in_id_sign_ins")
    op.create_table(
        "hand_overs",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("ref", sa.String(length=64), nullable=False),
        sa.Column("browser", sa.String(length=64), nullable=False),
        sa.Column("sign_in_id", sa.Integer(), nullable=False),
        sa.Column("transaction", sa.LargeBinary(), nullable=False),
        sa.Column("account", sa.String(length=128), nullable=False),
        sa.Column("device", sa.String(length=64), nullable=False),
        sa.Column("onward", sa.String(length=128), nullable=False),
        sa.Column("code", sa.String(length=64), nullable=True),
        sa.Column("session", sa.LargeBinary(), nullable=True),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["sign_in_id"], ["sign_ins.id"], name=owner, ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_hand_overs")),
        sa.UniqueConstraint("ref", name=op.f("uq_hand_overs_ref")),
        sa.UniqueConstraint("code", name=op.f("uq_hand_overs_code")),
    )
    for column in ("sign_in_id", "expires_at"):
        op.create_index(op.f(f"ix_hand_overs_{column}"), "hand_overs", [column])


def downgrade() -> None:
    op.drop_table("hand_overs")
