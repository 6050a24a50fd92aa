"""The tables of what administrators do to the site. Portable like the others; the migrations create them."""

from __future__ import annotations

import datetime as dt

from sqlalchemy import ForeignKey, Integer, LargeBinary, String
from sqlalchemy.orm import Mapped, mapped_column

from tokenbridge.server.store.schema import Base, Utc


class PolicyEdition(Base):
    """A policy file that a page has replaced, as its bytes were; `digest` is their SHA-256 in hex."""

    __tablename__ = "policy_editions"

    id: Mapped[int] = mapped_column(Integer, primary_key=True)
    digest: Mapped[str] = mapped_column(String(64))
    content: Mapped[bytes] = mapped_column(LargeBinary)
    replaced_at: Mapped[dt.datetime] = mapped_column(Utc)
    replaced_by: Mapped[str] = mapped_column(String(128))


class CodeSheet(Base):
    """Enrolment codes of an import, encrypted, until the administrator who made them has taken them: once."""

    __tablename__ = "code_sheets"

    id: Mapped[int] = mapped_column(Integer, primary_key=True)
    account_id: Mapped[int] = mapped_column(ForeignKey("accounts.id", ondelete="CASCADE"), index=True)
    codes: Mapped[int] = mapped_column(Integer)
    content: Mapped[bytes] = mapped_column(LargeBinary)
    made_at: Mapped[dt.datetime] = mapped_column(Utc)
    expires_at: Mapped[dt.datetime] = mapped_column(Utc, index=True)
