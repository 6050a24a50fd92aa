"""The tables of phone apps: installed web pages that sign approvals with a key of their own."""

from __future__ import annotations

import datetime as dt

from sqlalchemy import ForeignKey, Integer, LargeBinary, String
from sqlalchemy.orm import Mapped, mapped_column

from tokenbridge.server.store.schema import Base, Utc


class PhoneApp(Base):
    """A telephone's web app. It counts once `confirmed_at` is there.

    `thumbprint` names it: that of its public key (RFC 7638); `public_key` is SubjectPublicKeyInfo in DER. `device` is
    what its browser said of itself. `subscription` is where pushes go (JSON, encrypted); None: it asks by itself.
    """

    __tablename__ = "phone_apps"

    id: Mapped[int] = mapped_column(Integer, primary_key=True)
    account_id: Mapped[int] = mapped_column(ForeignKey("accounts.id", ondelete="CASCADE"), index=True)
    thumbprint: Mapped[str] = mapped_column(String(64), unique=True)
    public_key: Mapped[bytes] = mapped_column(LargeBinary)
    name: Mapped[str] = mapped_column(String(64))
    device: Mapped[str] = mapped_column(String(64))
    subscription: Mapped[bytes | None] = mapped_column(LargeBinary)
    created_at: Mapped[dt.datetime] = mapped_column(Utc)
    confirmed_at: Mapped[dt.datetime | None] = mapped_column(Utc)
    used_at: Mapped[dt.datetime | None] = mapped_column(Utc)


class PhoneEnrolment(Base):
    """A QR code. `ref` is the hash of the token in it. Once a telephone has used it, `phone_app_id` and the encrypted
    `number` are there: the telephone shows the number, and the page that showed the code asks for it."""

    __tablename__ = "phone_enrolments"

    id: Mapped[int] = mapped_column(Integer, primary_key=True)
    account_id: Mapped[int] = mapped_column(ForeignKey("accounts.id", ondelete="CASCADE"), index=True)
    ref: Mapped[str] = mapped_column(String(64), unique=True)
    phone_app_id: Mapped[int | None] = mapped_column(ForeignKey("phone_apps.id", ondelete="CASCADE"))
    number: Mapped[bytes | None] = mapped_column(LargeBinary)
    tries: Mapped[int] = mapped_column(Integer, default=0)
    expires_at: Mapped[dt.datetime] = mapped_column(Utc)


class SpentNonce(Base):
    """The hash of a nonce that a telephone has signed: whoever sends the same request again is refused."""

    __tablename__ = "spent_nonces"

    ref: Mapped[str] = mapped_column(String(64), primary_key=True)
    expires_at: Mapped[dt.datetime] = mapped_column(Utc, index=True)


class ServerKey(Base):
    """A key pair of the server's own, encrypted: made once, by whichever process is first to need it."""

    __tablename__ = "server_keys"

    name: Mapped[str] = mapped_column(String(32), primary_key=True)
    value: Mapped[bytes] = mapped_column(LargeBinary)
