"""The table of password resets. Portable like the others; the migrations create it."""

from __future__ import annotations

import datetime as dt

from sqlalchemy import ForeignKey, Integer, String
from sqlalchemy.orm import Mapped, mapped_column

from tokenbridge.server.store.schema import Base, Utc


class PasswordReset(Base):
    """A reset that runs. `ref`: the hash of the token that its browser has, another one after each proof.

    `account_id` None: the name that was given is nobody's, or of somebody who can't reset; it looks like all others.
    `counted_as` is the name under which tries are limited, `password` what the password was when it began (`people`).
    `first` and `second` are the methods that were proved; empty: not yet. `tries` counts for the step that is awaited.
    """

    __tablename__ = "password_resets"

    id: Mapped[int] = mapped_column(Integer, primary_key=True)
    ref: Mapped[str] = mapped_column(String(64), unique=True)
    account_id: Mapped[int | None] = mapped_column(ForeignKey("accounts.id", ondelete="CASCADE"), index=True)
    counted_as: Mapped[str] = mapped_column(String(64))
    password: Mapped[str] = mapped_column(String(64))
    first: Mapped[str] = mapped_column(String(16))
    second: Mapped[str] = mapped_column(String(16))
    tries: Mapped[int] = mapped_column(Integer)
    expires_at: Mapped[dt.datetime] = mapped_column(Utc, index=True)
