"""Approvals on a telephone, and the telephones' web apps."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    _approvals()
    _phone_apps()
    _phone_enrolments()
    op.create_table(
        "spent_nonces",
        sa.Column("ref", sa.String(length=64), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("ref", name=op.f("pk_spent_nonces")),
    )
    op.create_index(op.f("ix_spent_nonces_expires_at"), "spent_nonces", ["expires_at"])
    op.create_table(
        "server_keys",
        sa.Column("name", sa.String(length=32), nullable=False),
        sa.Column("value", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_server_keys")),
    )


def _approvals() -> None:
    op.create_table(
        "approvals",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("handle", sa.String(length=64), nullable=False),
        sa.Column("account_id", sa.Integer(), nullable=False),
        sa.Column("ref", sa.String(length=64), nullable=False),
        sa.Column("method", sa.String(length=16), nullable=False),
        sa.Column("number", sa.LargeBinary(), nullable=True),
        sa.Column("stage", sa.String(length=16), nullable=False),
        sa.Column("tries", sa.Integer(), nullable=False),
        sa.Column("client", sa.String(length=64), nullable=False),
        sa.Column("address", sa.String(length=64), nullable=False),
        sa.Column("device", sa.String(length=64), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        _owner("approvals"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_approvals")),
        sa.UniqueConstraint("handle", name=op.f("uq_approvals_handle")),
    )
    op.create_index(op.f("ix_approvals_ref"), "approvals", ["ref"])
    op.create_index("ix_approvals_account_id_created_at", "approvals", ["account_id", "created_at"])


def _phone_apps() -> None:
    op.create_table(
        "phone_apps",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("account_id", sa.Integer(), nullable=False),
        sa.Column("thumbprint", sa.String(length=64), nullable=False),
        sa.Column("public_key", sa.LargeBinary(), nullable=False),
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("device", sa.String(length=64), nullable=False),
        sa.Column("subscription", sa.LargeBinary(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("confirmed_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("used_at", sa.DateTime(timezone=True), nullable=True),
        _owner("phone_apps"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_phone_apps")),
        sa.UniqueConstraint("thumbprint", name=op.f("uq_phone_apps_thumbprint")),
    )
    op.create_index(op.f("ix_phone_apps_account_id"), "phone_apps", ["account_id"])


def _phone_enrolments() -> None:
    app = op.f("fk_phone_enrolments_phone_app_id_phone_apps")
    op.create_table(
        "phone_enrolments",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("account_id", sa.Integer(), nullable=False),
        sa.Column("ref", sa.String(length=64), nullable=False),
        sa.Column("phone_app_id", sa.Integer(), nullable=True),
        sa.Column("number", sa.LargeBinary(), nullable=True),
        sa.Column("tries", sa.Integer(), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        _owner("phone_enrolments"),
        sa.ForeignKeyConstraint(["phone_app_id"], ["phone_apps.id"], name=app, ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_phone_enrolments")),
        sa.UniqueConstraint("ref", name=op.f("uq_phone_enrolments_ref")),
    )
    op.create_index(op.f("ix_phone_enrolments_account_id"), "phone_enrolments", ["account_id"])


def _owner(table: str) -> sa.ForeignKeyConstraint:
    name = op.f(f"fk_{table}_account_id_accounts")
    return sa.ForeignKeyConstraint(["account_id"], ["accounts.id"], name=name, ondelete="CASCADE")


def downgrade() -> None:
    for table in ("server_keys", "spent_nonces", "phone_enrolments", "phone_apps", "approvals"):
        op.drop_table(table)
