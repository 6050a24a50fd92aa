"""The tables of fallback methods. Portable like the others; the migrations create them."""

from __future__ import annotations

import datetime as dt

from sqlalchemy import Boolean, ForeignKey, Index, Integer, LargeBinary, String, UniqueConstraint, text, true
from sqlalchemy.orm import Mapped, mapped_column

from tokenbridge.server.store.schema import Base, Utc


class PendingApp(Base):
    """An authenticator-app secret, encrypted, that no code has confirmed yet. The confirmed one stays in force.

    `begun_by`: the hash of what permitted it, which alone may see it again and confirm it.
    """

    __tablename__ = "pending_apps"

    account_id: Mapped[int] = mapped_column(ForeignKey("accounts.id", ondelete="CASCADE"), primary_key=True)
    secret: Mapped[bytes] = mapped_column(LargeBinary)
    algorithm: Mapped[str] = mapped_column(String(16))
    begun_by: Mapped[str] = mapped_column(String(64), server_default=text("''"))
    tries: Mapped[int] = mapped_column(Integer, default=0)
    expires_at: Mapped[dt.datetime] = mapped_column(Utc)


class Phone(Base):
    """A telephone number: E.164, encrypted, and its hash by the key file. It counts once `confirmed_at` is there.

    `text`, `whatsapp` and `voice` say by what it may be reached.
    """

    __tablename__ = "phones"

    id: Mapped[int] = mapped_column(Integer, primary_key=True)
    account_id: Mapped[int] = mapped_column(ForeignKey("accounts.id", ondelete="CASCADE"))
    number: Mapped[bytes] = mapped_column(LargeBinary)
    number_hash: Mapped[str] = mapped_column(String(64))
    text: Mapped[bool] = mapped_column(Boolean)
    whatsapp: Mapped[bool] = mapped_column(Boolean)
    voice: Mapped[bool] = mapped_column(Boolean, server_default=true())
    created_at: Mapped[dt.datetime] = mapped_column(Utc)
    confirmed_at: Mapped[dt.datetime | None] = mapped_column(Utc)

    __table_args__ = (UniqueConstraint("account_id", "number_hash", name="uq_phones_account_id_number_hash"),)


class SentCode(Base):
    """A message. `ref` says for what: the hash of a sign-in's token, or that of an enrolment.

    `code_hash` is made with the key file. Without `phone_id` the number was removed since: the code is nothing then,
    but still counts for the wait before the next one. The stages are those of `sent_codes.Stage`. `reference` is the
    hash of what the service that sends it calls it in its report; None: it is older than that column. `instead` is the
    method by which a new code goes out if this message is reported lost, as policy allowed when it was asked for.
    """

    __tablename__ = "sent_codes"

    id: Mapped[int] = mapped_column(Integer, primary_key=True)
    account_id: Mapped[int] = mapped_column(ForeignKey("accounts.id", ondelete="CASCADE"))
    ref: Mapped[str] = mapped_column(String(64), index=True)
    method: Mapped[str] = mapped_column(String(16))
    phone_id: Mapped[int | None] = mapped_column(ForeignKey("phones.id", ondelete="SET NULL"))
    code_hash: Mapped[str] = mapped_column(String(64))
    stage: Mapped[str] = mapped_column(String(16))
    reference: Mapped[str | None] = mapped_column(String(64), unique=True)
    instead: Mapped[str] = mapped_column(String(16), server_default=text("''"))
    tries: Mapped[int] = mapped_column(Integer, default=0)
    created_at: Mapped[dt.datetime] = mapped_column(Utc)
    expires_at: Mapped[dt.datetime] = mapped_column(Utc)

    __table_args__ = (Index("ix_sent_codes_account_id_created_at", "account_id", "created_at"),)


class OutboxMessage(Base):
    """What the development outbox holds instead of sending it; `content` is encrypted JSON."""

    __tablename__ = "outbox"

    id: Mapped[int] = mapped_column(Integer, primary_key=True)
    at: Mapped[dt.datetime] = mapped_column(Utc)
    content: Mapped[bytes] = mapped_column(LargeBinary)
