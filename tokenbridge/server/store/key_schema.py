"""The tables of security keys and of what surrounds them. Portable like the others; the migrations create them."""

from __future__ import annotations

import datetime as dt

from sqlalchemy import JSON, BigInteger, Boolean, CheckConstraint, ForeignKey, Integer, LargeBinary, String
from sqlalchemy.orm import Mapped, mapped_column

from tokenbridge.server.store.schema import Base, Utc


class SecurityKey(Base):
    """A credential that signs in one account. `path` holds the maker's certificates (base64 DER, leaf first).

    `user_verified`: it has shown at least once that it checks a PIN or fingerprint. `backup_eligible` never changes.
    `suspended_at`: since when it signs in nowhere; None: it does.
    """

    __tablename__ = "security_keys"

    id: Mapped[int] = mapped_column(Integer, primary_key=True)
    account_id: Mapped[int] = mapped_column(ForeignKey("accounts.id", ondelete="CASCADE"), index=True)
    credential_id: Mapped[bytes] = mapped_column(LargeBinary, unique=True)
    public_key: Mapped[bytes] = mapped_column(LargeBinary)
    sign_count: Mapped[int] = mapped_column(BigInteger)
    aaguid: Mapped[bytes] = mapped_column(LargeBinary)
    name: Mapped[str] = mapped_column(String(64))
    attestation: Mapped[str] = mapped_column(String(32))
    path: Mapped[list[str]] = mapped_column(JSON, default=list)
    transports: Mapped[list[str]] = mapped_column(JSON, default=list)
    backup_eligible: Mapped[bool] = mapped_column(Boolean)
    backed_up: Mapped[bool] = mapped_column(Boolean)
    user_verified: Mapped[bool] = mapped_column(Boolean)
    discoverable: Mapped[bool | None] = mapped_column(Boolean)
    cred_protect: Mapped[int | None] = mapped_column(Integer)
    min_pin_length: Mapped[int | None] = mapped_column(Integer)
    registered_at: Mapped[dt.datetime] = mapped_column(Utc)
    last_used: Mapped[dt.datetime | None] = mapped_column(Utc)
    suspended_at: Mapped[dt.datetime | None] = mapped_column(Utc)


class UserHandle(Base):
    """What keys know an account by: 64 random bytes (WebAuthn Level 3 section 5.4.3)."""

    __tablename__ = "user_handles"

    account_id: Mapped[int] = mapped_column(ForeignKey("accounts.id", ondelete="CASCADE"), primary_key=True)
    handle: Mapped[bytes] = mapped_column(LargeBinary, unique=True)


class KeyRegistration(Base):
    """A registration that runs. Whoever removes the row has spent its challenge. No `session_id`: by enrolment code."""

    __tablename__ = "key_registrations"

    id: Mapped[int] = mapped_column(Integer, primary_key=True)
    token_hash: Mapped[str] = mapped_column(String(64), unique=True)
    account_id: Mapped[int] = mapped_column(ForeignKey("accounts.id", ondelete="CASCADE"), index=True)
    session_id: Mapped[int | None] = mapped_column(ForeignKey("sessions.id", ondelete="CASCADE"))
    challenge: Mapped[str] = mapped_column(String(64))
    expires_at: Mapped[dt.datetime] = mapped_column(Utc, index=True)


class EnrolmentCode(Base):
    """The one code of an account, hashed. `registration` is the hash of the newest registration begun with it."""

    __tablename__ = "enrolment_codes"

    account_id: Mapped[int] = mapped_column(ForeignKey("accounts.id", ondelete="CASCADE"), primary_key=True)
    code_hash: Mapped[str] = mapped_column(String(64))
    registration: Mapped[str | None] = mapped_column(String(64))
    created_at: Mapped[dt.datetime] = mapped_column(Utc)
    expires_at: Mapped[dt.datetime] = mapped_column(Utc)


class RecoveryCode(Base):
    """One recovery code, hashed. A used one stays until a new set is made."""

    __tablename__ = "recovery_codes"

    id: Mapped[int] = mapped_column(Integer, primary_key=True)
    account_id: Mapped[int] = mapped_column(ForeignKey("accounts.id", ondelete="CASCADE"), index=True)
    code_hash: Mapped[str] = mapped_column(String(64))
    created_at: Mapped[dt.datetime] = mapped_column(Utc)
    used_at: Mapped[dt.datetime | None] = mapped_column(Utc)


class KeyMetadata(Base):
    """The metadata in force: what was read from a signed blob, as compressed JSON."""

    __tablename__ = "key_metadata"

    id: Mapped[int] = mapped_column(Integer, primary_key=True)
    number: Mapped[int] = mapped_column(BigInteger)
    next_update: Mapped[str] = mapped_column(String(10))
    source: Mapped[str] = mapped_column(String(1024))
    content: Mapped[bytes] = mapped_column(LargeBinary)
    loaded_at: Mapped[dt.datetime] = mapped_column(Utc)

    __table_args__ = (CheckConstraint("id = 1", name="single"),)
