"""The table of hand-overs: sign-ins that begin in a browser and are done with a card by the bridge beside it."""

from __future__ import annotations

import datetime as dt

from sqlalchemy import ForeignKey, Integer, LargeBinary, String
from sqlalchemy.orm import Mapped, mapped_column

from tokenbridge.server.store.schema import Base, Utc


class HandOver(Base):
    """`ref` is the hash of what the bridge is given, `browser` that of what only the browser has, `code` that of what
    the bridge brings back to it. `transaction` and `session` are tokens, encrypted, since both go to the browser only.

    `adds_to` is the session whose account the card shall be added to: no sign-in then, and `certificate` takes the
    place of `session`.
    """

    __tablename__ = "hand_overs"

    id: Mapped[int] = mapped_column(Integer, primary_key=True)
    ref: Mapped[str] = mapped_column(String(64), unique=True)
    browser: Mapped[str] = mapped_column(String(64))
    sign_in_id: Mapped[int] = mapped_column(ForeignKey("sign_ins.id", ondelete="CASCADE"), index=True)
    transaction: Mapped[bytes] = mapped_column(LargeBinary)
    account: Mapped[str] = mapped_column(String(128))
    device: Mapped[str] = mapped_column(String(64))
    onward: Mapped[str] = mapped_column(String(128))
    code: Mapped[str | None] = mapped_column(String(64), unique=True)
    session: Mapped[bytes | None] = mapped_column(LargeBinary)
    adds_to: Mapped[int | None] = mapped_column(ForeignKey("sessions.id", ondelete="CASCADE"), index=True)
    certificate: Mapped[bytes | None] = mapped_column(LargeBinary)
    expires_at: Mapped[dt.datetime] = mapped_column(Utc, index=True)
