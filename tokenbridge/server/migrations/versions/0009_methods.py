"""Fallback methods: telephone numbers, what was sent to them, apps that await confirmation, the development outbox."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("totp_secrets", sa.Column("algorithm", sa.String(length=16), nullable=False, server_default="sha1"))
    op.create_table(
        "pending_apps",
        sa.Column("account_id", sa.Integer(), nullable=False),
        sa.Column("secret", sa.LargeBinary(), nullable=False),
        sa.Column("algorithm", sa.String(length=16), nullable=False),
        sa.Column("tries", sa.Integer(), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        _owner("pending_apps"),
        sa.PrimaryKeyConstraint("account_id", name=op.f("pk_pending_apps")),
    )
    _phones()
    _sent_codes()
    op.create_table(
        "outbox",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("content", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_outbox")),
    )


def _phones() -> None:
    op.create_table(
        "phones",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("account_id", sa.Integer(), nullable=False),
        sa.Column("number", sa.LargeBinary(), nullable=False),
        sa.Column("number_hash", sa.String(length=64), nullable=False),
        sa.Column("text", sa.Boolean(), nullable=False),
        sa.Column("whatsapp", sa.Boolean(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("confirmed_at", sa.DateTime(timezone=True), nullable=True),
        _owner("phones"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_phones")),
        sa.UniqueConstraint("account_id", "number_hash", name=op.f("uq_phones_account_id_number_hash")),
    )


def _sent_codes() -> None:
    phone = op.f("fk_sent_codes_phone_id_phones")
    op.create_table(
        "sent_codes",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("account_id", sa.Integer(), nullable=False),
        sa.Column("ref", sa.String(length=64), nullable=False),
        sa.Column("method", sa.String(length=16), nullable=False),
        sa.Column("phone_id", sa.Integer(), nullable=True),
        sa.Column("code_hash", sa.String(length=64), nullable=False),
        sa.Column("stage", sa.String(length=16), nullable=False),
        sa.Column("tries", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        _owner("sent_codes"),
        sa.ForeignKeyConstraint(["phone_id"], ["phones.id"], name=phone, ondelete="SET NULL"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_sent_codes")),
    )
    op.create_index(op.f("ix_sent_codes_ref"), "sent_codes", ["ref"])
    op.create_index("ix_sent_codes_account_id_created_at", "sent_codes", ["account_id", "created_at"])


def _owner(table: str) -> sa.ForeignKeyConstraint:
    name = op.f(f"fk_{table}_account_id_accounts")
    return sa.ForeignKeyConstraint(["account_id"], ["accounts.id"], name=name, ondelete="CASCADE")


def downgrade() -> None:
    for table in ("outbox", "sent_codes", "phones", "pending_apps"):
        op.drop_table(table)
    op.drop_column("totp_secrets", "algorithm")
