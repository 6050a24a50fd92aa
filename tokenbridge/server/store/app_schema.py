"""The tables of app passwords and of the programs that check them. Portable like the others."""

from __future__ import annotations

import datetime as dt

from sqlalchemy import ForeignKey, Integer, String
from sqlalchemy.orm import Mapped, mapped_column

from tokenbridge.server.store.schema import Base, Utc


class AppClient(Base):
    """A program that can do no second factor (a mail server, say) and may ask whether an app password is good."""

    __tablename__ = "app_clients"

    id: Mapped[int] = mapped_column(Integer, primary_key=True)
    name: Mapped[str] = mapped_column(String(64), unique=True)
    secret_hash: Mapped[str] = mapped_column(String(64))
    created_at: Mapped[dt.datetime] = mapped_column(Utc)


class AppPassword(Base):
    """One app password, hashed: of one account, for one client. A revoked one stays, so that its story can be told."""

    __tablename__ = "app_passwords"

    id: Mapped[int] = mapped_column(Integer, primary_key=True)
    account_id: Mapped[int] = mapped_column(ForeignKey("accounts.id", ondelete="CASCADE"), index=True)
    client_id: Mapped[int] = mapped_column(ForeignKey("app_clients.id", ondelete="CASCADE"), index=True)
    name: Mapped[str] = mapped_column(String(64))
    password_hash: Mapped[str] = mapped_column(String(64), unique=True)
    created_at: Mapped[dt.datetime] = mapped_column(Utc)
    last_used: Mapped[dt.datetime | None] = mapped_column(Utc)
    revoked_at: Mapped[dt.datetime | None] = mapped_column(Utc)
