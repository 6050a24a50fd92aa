"""The tables. Portable between SQLite and PostgreSQL; the migrations create them, never `create_all`."""

from __future__ import annotations

import datetime as dt
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    CheckConstraint,
    DateTime,
    Dialect,
    ForeignKey,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Text,
    text,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from sqlalchemy.types import TypeDecorator


class Utc(TypeDecorator[dt.datetime]):
    """An aware datetime in UTC. SQLite keeps no zone, so it is put back when a row is read; PostgreSQL tells times in
    the zone of its own settings."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: dt.datetime | None, _dialect: Dialect) -> dt.datetime | None:
        return None if value is None else value.astimezone(dt.UTC)

    def process_result_value(self, value: dt.datetime | None, _dialect: Dialect) -> dt.datetime | None:
        if value is None:
            return None
        return value.replace(tzinfo=dt.UTC) if value.tzinfo is None else value.astimezone(dt.UTC)


class Base(DeclarativeBase):
    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(column_0_label)s",
            "uq": "uq_%(table_name)s_%(column_0_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
            "pk": "pk_%(table_name)s",
        }
    )


class Account(Base):
    """A person. The identifiers `nhs_uid`, `email` and `upn` bind certificates of issuers that may assert them.

    `mfa_since`: when multi-factor sign-in was turned on; accounts that are older than the portal turn it on themselves.
    `organisation` says which local administrators may change the account; empty: none. `default_method`: the fallback
    method that the person is asked for first; None: by the server's order.
    """

    __tablename__ = "accounts"

    id: Mapped[int] = mapped_column(Integer, primary_key=True)
    username: Mapped[str] = mapped_column(String(128), unique=True)
    display_name: Mapped[str] = mapped_column(String(256))
    password_hash: Mapped[str | None] = mapped_column(String(512))
    nhs_uid: Mapped[str | None] = mapped_column(String(12), unique=True)
    email: Mapped[str | None] = mapped_column(String(254), unique=True)
    upn: Mapped[str | None] = mapped_column(String(256), unique=True)
    disabled: Mapped[bool] = mapped_column(Boolean, default=False)
    created_at: Mapped[dt.datetime] = mapped_column(Utc)
    mfa_since: Mapped[dt.datetime | None] = mapped_column(Utc)
    organisation: Mapped[str] = mapped_column(String(128), index=True, default="", server_default=text("''"))
    default_method: Mapped[str | None] = mapped_column(String(16))


class AccountGroup(Base):
    """That an account is in a group. A group exists while somebody is in it."""

    __tablename__ = "account_groups"

    account_id: Mapped[int] = mapped_column(ForeignKey("accounts.id", ondelete="CASCADE"), primary_key=True)
    name: Mapped[str] = mapped_column(String(128), primary_key=True, index=True)


class AccountPlace(Base):
    """A device, network or country that an account was used from. Devices and networks are keyed hashes in hex."""

    __tablename__ = "account_places"

    account_id: Mapped[int] = mapped_column(ForeignKey("accounts.id", ondelete="CASCADE"), primary_key=True)
    kind: Mapped[str] = mapped_column(String(16), primary_key=True)
    value: Mapped[str] = mapped_column(String(64), primary_key=True)
    first_used: Mapped[dt.datetime] = mapped_column(Utc)
    last_used: Mapped[dt.datetime] = mapped_column(Utc)


class EnrolledCertificate(Base):
    """A certificate that signs in one account. `fingerprint` is SHA-256 of its DER, `key` SHA-256 of its public key
    (SubjectPublicKeyInfo), both in hex; the rest is for people and for programs that ask. `suspended_at`: since when it
    signs in nowhere; None: it does."""

    __tablename__ = "enrolled_certificates"

    id: Mapped[int] = mapped_column(Integer, primary_key=True)
    account_id: Mapped[int] = mapped_column(ForeignKey("accounts.id", ondelete="CASCADE"), index=True)
    fingerprint: Mapped[str] = mapped_column(String(64), unique=True)
    key: Mapped[str] = mapped_column(String(64), index=True)
    issuer: Mapped[str] = mapped_column(Text)
    serial: Mapped[str] = mapped_column(String(64))
    ski: Mapped[str | None] = mapped_column(String(128))
    subject: Mapped[str] = mapped_column(Text)
    label: Mapped[str] = mapped_column(String(128), default="")
    certificate: Mapped[bytes] = mapped_column(LargeBinary)
    enrolled_at: Mapped[dt.datetime] = mapped_column(Utc)
    last_used: Mapped[dt.datetime | None] = mapped_column(Utc)
    suspended_at: Mapped[dt.datetime | None] = mapped_column(Utc)


class SuspendedIssuer(Base):
    """That an account's cards which are known by their issuer's word alone don't sign in. `anchor` is SHA-256 of the
    trust anchor's certificate in hex, `name` what it was called then."""

    __tablename__ = "suspended_issuers"

    account_id: Mapped[int] = mapped_column(ForeignKey("accounts.id", ondelete="CASCADE"), primary_key=True)
    anchor: Mapped[str] = mapped_column(String(64), primary_key=True)
    name: Mapped[str] = mapped_column(String(128))
    suspended_at: Mapped[dt.datetime] = mapped_column(Utc)


class TrustAnchorRow(Base):
    """A certificate authority that the operator trusts, with the rule for what it issues; `added_at` is when that rule
    began to hold."""

    __tablename__ = "trust_anchors"

    id: Mapped[int] = mapped_column(Integer, primary_key=True)
    name: Mapped[str] = mapped_column(String(128), unique=True)
    certificate: Mapped[bytes] = mapped_column(LargeBinary)
    hardware: Mapped[bool] = mapped_column(Boolean, default=False)
    pin_enforced: Mapped[bool] = mapped_column(Boolean, default=False)
    legacy_weak: Mapped[bool] = mapped_column(Boolean, default=False)
    check_revocation: Mapped[bool] = mapped_column(Boolean, default=True)
    policy_oids: Mapped[list[str]] = mapped_column(JSON, default=list)
    crl_urls: Mapped[list[str]] = mapped_column(JSON, default=list)
    crl_files: Mapped[list[str]] = mapped_column(JSON, default=list)
    ocsp_urls: Mapped[list[str]] = mapped_column(JSON, default=list)
    map_nhs_uid: Mapped[bool] = mapped_column(Boolean, default=False)
    map_upn: Mapped[bool] = mapped_column(Boolean, default=False)
    map_email: Mapped[bool] = mapped_column(Boolean, default=False)
    added_at: Mapped[dt.datetime] = mapped_column(Utc)


class TrustIntermediateRow(Base):
    """A certificate between an anchor and the cards."""

    __tablename__ = "trust_intermediates"

    id: Mapped[int] = mapped_column(Integer, primary_key=True)
    anchor_id: Mapped[int] = mapped_column(ForeignKey("trust_anchors.id", ondelete="CASCADE"), index=True)
    certificate: Mapped[bytes] = mapped_column(LargeBinary)


class TotpSecret(Base):
    """One authenticator-app secret per account, encrypted; `last_step` is the newest RFC 6238 time step spent."""

    __tablename__ = "totp_secrets"

    account_id: Mapped[int] = mapped_column(ForeignKey("accounts.id", ondelete="CASCADE"), primary_key=True)
    secret: Mapped[bytes] = mapped_column(LargeBinary)
    last_step: Mapped[int] = mapped_column(BigInteger, default=0)
    algorithm: Mapped[str] = mapped_column(String(16), server_default="sha1")
    created_at: Mapped[dt.datetime] = mapped_column(Utc)


class SignIn(Base):
    """A sign-in transaction. `version` grows with every change: a change counts only if nobody else was first."""

    __tablename__ = "sign_ins"

    id: Mapped[int] = mapped_column(Integer, primary_key=True)
    token_hash: Mapped[str] = mapped_column(String(64), unique=True)
    state: Mapped[str] = mapped_column(String(32))
    data: Mapped[dict[str, Any]] = mapped_column(JSON, default=dict)
    version: Mapped[int] = mapped_column(Integer, default=0)
    client: Mapped[str] = mapped_column(String(64))
    address: Mapped[str] = mapped_column(String(64), server_default=text("''"))
    device: Mapped[str] = mapped_column(String(64), server_default=text("''"))
    nonce: Mapped[str] = mapped_column(String(128), unique=True)
    origin: Mapped[str] = mapped_column(String(255))
    issued_at: Mapped[dt.datetime] = mapped_column(Utc)
    expires_at: Mapped[dt.datetime] = mapped_column(Utc, index=True)


class SessionRow(Base):
    """A signed-in session. One sign-in makes one at most: the unique column says so to every process.

    `device` is what a browser said of itself, for the person's own list. `shown` names the cards and keys that it was
    opened with, as `store.suspensions.shown` does; None: it is older than that column.
    """

    __tablename__ = "sessions"

    id: Mapped[int] = mapped_column(Integer, primary_key=True)
    token_hash: Mapped[str] = mapped_column(String(64), unique=True)
    account_id: Mapped[int] = mapped_column(ForeignKey("accounts.id", ondelete="CASCADE"), index=True)
    sign_in_ref: Mapped[str] = mapped_column(String(64), unique=True)
    assurance: Mapped[dict[str, Any]] = mapped_column(JSON)
    started_at: Mapped[dt.datetime] = mapped_column(Utc)
    idle_expires_at: Mapped[dt.datetime] = mapped_column(Utc)
    idle_seconds: Mapped[int] = mapped_column(Integer, server_default="900")
    expires_at: Mapped[dt.datetime] = mapped_column(Utc, index=True)
    ended_at: Mapped[dt.datetime | None] = mapped_column(Utc)
    device: Mapped[str | None] = mapped_column(String(64))
    shown: Mapped[list[str] | None] = mapped_column(JSON)


class Throttle(Base):
    """Attempts per key and minute, for names that exist and names that do not."""

    __tablename__ = "throttles"

    key: Mapped[str] = mapped_column(String(64), primary_key=True)
    minute: Mapped[int] = mapped_column(BigInteger)
    count: Mapped[int] = mapped_column(Integer)


class AuditHead(Base):
    """The one row that says where the audit trail ends. Changing it first puts writers in line.

    `seal` authenticates it by the server's key file, so that who has the database alone can't write another trail.
    """

    __tablename__ = "audit_head"

    id: Mapped[int] = mapped_column(Integer, primary_key=True)
    seq: Mapped[int] = mapped_column(BigInteger)
    hash: Mapped[str] = mapped_column(String(64))
    seal: Mapped[str | None] = mapped_column(String(64))

    __table_args__ = (CheckConstraint("id = 1", name="single"),)


class AuditRow(Base):
    """One security event. `hash` is SHA-256 over `previous` and the content; rows are never changed or removed."""

    __tablename__ = "audit"

    seq: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    at: Mapped[str] = mapped_column(String(32), index=True)
    event: Mapped[str] = mapped_column(String(64))
    account: Mapped[str] = mapped_column(String(128), index=True)
    sign_in: Mapped[str] = mapped_column(String(64), index=True)
    request: Mapped[str] = mapped_column(String(64))
    detail: Mapped[str] = mapped_column(Text)
    previous: Mapped[str] = mapped_column(String(64))
    hash: Mapped[str] = mapped_column(String(64), unique=True)
