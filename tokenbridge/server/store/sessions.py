"""Sessions of people who are signed in. Only the hash of a session's token is stored."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import bindparam, delete, insert, select, update
from sqlalchemy.orm import Session

from tokenbridge.rp.assurance import Assurance
from tokenbridge.rp.rules import Lifetimes
from tokenbridge.server.store import password_resets, suspensions
from tokenbridge.server.store.schema import Account, SessionRow

TOUCH_EVERY: Final = dt.timedelta(seconds=15)
"""A session's idle limit moves at most this often, so that busy clients do not make a write of every request."""

KEEP: Final = dt.timedelta(days=1)
"""How long a session is kept after its last possible moment: longer than the sign-in that opened it."""

_ADD: Final = insert(SessionRow)
_OLD: Final = select(SessionRow.id).where(SessionRow.expires_at < bindparam("oldest"))
_PURGE: Final = delete(SessionRow).where(SessionRow.id.in_(_OLD.with_for_update(skip_locked=True)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Live:
    """A session that is valid now. `shown` as in `SessionRow`."""

    id: int
    account: Account
    sign_in_ref: str
    assurance: dict[str, Any]
    started_at: dt.datetime
    expires_at: dt.datetime
    idle_expires_at: dt.datetime
    idle: dt.timedelta
    shown: list[str] | None


def describe(assurance: Assurance) -> dict[str, Any]:
    """What clients are told of an assurance: JSON types."""
    return {
        "aal": int(assurance.aal),
        "acr": assurance.acr,
        "amr": list(assurance.amr),
        "phishing_resistant": assurance.phishing_resistant,
        "hardware": assurance.hardware,
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class NewSession:
    token_hash: str
    account_id: int
    sign_in_ref: str
    assurance: Assurance


def add(tx: Session, new: NewSession, now: dt.datetime, lifetimes: Lifetimes) -> dt.datetime:
    """Store a session; returns when it ends at the latest."""
    end = now + lifetimes.overall
    values = {
        "token_hash": new.token_hash,
        "account_id": new.account_id,
        "sign_in_ref": new.sign_in_ref,
        "assurance": describe(new.assurance),
        "started_at": now,
        "idle_expires_at": min(now + lifetimes.idle, end),
        "idle_seconds": int(lifetimes.idle.total_seconds()),
        "expires_at": end,
        "shown": suspensions.shown(new.assurance.proofs),
    }
    tx.connection().execute(_ADD, values)
    return end


def find(tx: Session, token_hash: str, now: dt.datetime) -> Live | None:
    """The valid session of a token: not ended, not timed out, its account not disabled."""
    query = (
        select(SessionRow, Account)
        .join(Account, Account.id == SessionRow.account_id)
        .where(SessionRow.token_hash == token_hash, SessionRow.ended_at.is_(None), Account.disabled.is_(False))
        .where(SessionRow.expires_at > now, SessionRow.idle_expires_at > now)
    )
    found = tx.execute(query).one_or_none()
    if found is None:
        return None
    row, account = found
    return Live(
        id=row.id,
        account=account,
        sign_in_ref=row.sign_in_ref,
        assurance=row.assurance,
        started_at=row.started_at,
        expires_at=row.expires_at,
        idle_expires_at=row.idle_expires_at,
        idle=dt.timedelta(seconds=row.idle_seconds),
        shown=row.shown,
    )


def due(live: Live, now: dt.datetime) -> bool:
    """Whether the idle limit should be moved."""
    return min(now + live.idle, live.expires_at) - live.idle_expires_at >= TOUCH_EVERY


def touch(tx: Session, live: Live, now: dt.datetime) -> None:
    """Move the idle limit of a session that is in use."""
    new = min(now + live.idle, live.expires_at)
    tx.execute(
        update(SessionRow).where(SessionRow.id == live.id, SessionRow.ended_at.is_(None)).values(idle_expires_at=new)
    )


def end(tx: Session, live: Live, now: dt.datetime) -> bool:
    """End one session; False when it had ended already."""
    mark = update(SessionRow).where(SessionRow.id == live.id, SessionRow.ended_at.is_(None)).values(ended_at=now)
    return tx.connection().execute(mark).rowcount == 1


def end_all(tx: Session, account_id: int, now: dt.datetime) -> int:
    """End every session of an account, and its password resets that run; returns how many sessions there were."""
    password_resets.end_all(tx, account_id)
    mark = update(SessionRow).where(SessionRow.account_id == account_id, SessionRow.ended_at.is_(None))
    return tx.connection().execute(mark.where(SessionRow.expires_at > now).values(ended_at=now)).rowcount


def end_others(tx: Session, live: Live, now: dt.datetime) -> int:
    """As `end_all`, all but this one."""
    password_resets.end_all(tx, live.account.id)
    others = (SessionRow.account_id == live.account.id, SessionRow.id != live.id, SessionRow.ended_at.is_(None))
    mark = update(SessionRow).where(*others, SessionRow.expires_at > now).values(ended_at=now)
    return tx.connection().execute(mark).rowcount


def end_tainted(tx: Session, account_id: int, now: dt.datetime, *, keep: int | None = None) -> int:
    """End the account's sessions that were opened with what is suspended, all but the one of the number `keep`; and its
    password resets that run. Returns how many sessions."""
    password_resets.end_all(tx, account_id)
    bad = [row.id for row in alive(tx, account_id, now) if suspensions.tainted(tx, account_id, row.shown)]
    return sum(end_one(tx, which, account_id, now) for which in bad if which != keep)


def alive(tx: Session, account_id: int, now: dt.datetime) -> list[SessionRow]:
    """The account's valid sessions, the newest first."""
    own = (SessionRow.account_id == account_id, SessionRow.ended_at.is_(None))
    in_time = (SessionRow.expires_at > now, SessionRow.idle_expires_at > now)
    return list(tx.scalars(select(SessionRow).where(*own, *in_time).order_by(SessionRow.id.desc())))


def end_one(tx: Session, session_id: int, account_id: int, now: dt.datetime) -> bool:
    """End a session of this account and no other; False when there is none, or it had ended."""
    own = (SessionRow.id == session_id, SessionRow.account_id == account_id, SessionRow.ended_at.is_(None))
    mark = update(SessionRow).where(*own, SessionRow.expires_at > now).values(ended_at=now)
    return tx.connection().execute(mark).rowcount == 1


def name(tx: Session, live: Live, device: str) -> None:
    """Note what the browser of a session says of itself."""
    tx.execute(update(SessionRow).where(SessionRow.id == live.id).values(device=device))


def by_id(tx: Session, session_id: int, now: dt.datetime) -> Live | None:
    """As `find`, by the row's number."""
    token_hash = tx.scalar(select(SessionRow.token_hash).where(SessionRow.id == session_id))
    return None if token_hash is None else find(tx, token_hash, now)


def purge(tx: Session, now: dt.datetime) -> None:
    """Forget sessions that ended long ago; the audit trail keeps what happened in them."""
    tx.connection().execute(_PURGE, {"oldest": now - KEEP})
