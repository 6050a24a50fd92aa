"""The table of roles. Portable like the others; the migrations create it."""

from __future__ import annotations

import datetime as dt

from sqlalchemy import ForeignKey, String
from sqlalchemy.orm import Mapped, mapped_column

from tokenbridge.server.store.schema import Base, Utc


class AdminRole(Base):
    """That an account administers the accounts of `organisation`; empty: those of the whole site."""

    __tablename__ = "admin_roles"

    account_id: Mapped[int] = mapped_column(ForeignKey("accounts.id", ondelete="CASCADE"), primary_key=True)
    role: Mapped[str] = mapped_column(String(16), primary_key=True)
    organisation: Mapped[str] = mapped_column(String(128), primary_key=True)
    granted_at: Mapped[dt.datetime] = mapped_column(Utc)
