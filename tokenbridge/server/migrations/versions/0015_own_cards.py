"""Hand-overs of a card that shall be added to an account."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None


def upgrade() -> None:
    session = op.f("fk_hand_overs_adds_to_sessions")
    with op.batch_alter_table("hand_overs") as table:
        table.add_column(sa.Column("adds_to", sa.Integer(), nullable=True))
        table.add_column(sa.Column("certificate", sa.LargeBinary(), nullable=True))
        table.create_foreign_key(session, "sessions", ["adds_to"], ["id"], ondelete="CASCADE")
        table.create_index(op.f("ix_hand_overs_adds_to"), ["adds_to"])


def downgrade() -> None:
    # What is under way is not a sign-in: an older server would take it for one.
    op.execute("DELETE FROM hand_overs WHERE adds_to IS NOT NULL")
    with op.batch_alter_table("hand_overs") as table:
        table.drop_index(op.f("ix_hand_overs_adds_to"))
        table.drop_constraint(op.f("fk_hand_overs_adds_to_sessions"), type_="foreignkey")
        table.drop_column("certificate")
        table.drop_column("adds_to")
