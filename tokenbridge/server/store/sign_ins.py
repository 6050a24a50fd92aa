"""Sign-in transactions as rows: the machine's states written down and read back. It makes no transition itself."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Select, bindparam, delete, func, insert, select, update
from sqlalchemy.orm import Session

from tokenbridge.errors import NotAllowedNow, UndecidedReason
from tokenbridge.rp.challenge import Challenge
from tokenbridge.rp.proof import Factor, Method, Proof
from tokenbridge.server import login
from tokenbridge.server.store.schema import SignIn
from tokenbridge.server.whereabouts import NOWHERE, Whereabouts

KEEP: Final = dt.timedelta(hours=1)
"""How long a finished transaction is kept, so that a late client still learns what became of it."""

# Built once: building a statement costs more than running it.
_ADD: Final = insert(SignIn)
_ALL: Final = select(
    *(SignIn.id, SignIn.token_hash, SignIn.version, SignIn.client, SignIn.address, SignIn.device),
    *(SignIn.nonce, SignIn.origin, SignIn.issued_at, SignIn.expires_at, SignIn.state, SignIn.data),
)
_FIND: Final = _ALL.where(SignIn.token_hash == bindparam("ref"))
_HOLD: Final = _FIND.with_for_update()
_MOVE: Final = update(SignIn).where(SignIn.id == bindparam("which"), SignIn.version == bindparam("seen"))
_UNDER_WAY: Final = tuple(state.__name__ for state in (login.AwaitingPassword, login.AwaitingCode, login.Judging))
_BEGUN: Final = _ALL.where(
    SignIn.state.in_(_UNDER_WAY),
    SignIn.expires_at > bindparam("now"),
    SignIn.data["account"].as_integer() == bindparam("account"),
)
KEEP_AT_MOST: Final = 50_000
"""A flood of beginnings pushes out the oldest and never fills the disk; above some 160 a second, living ones too."""

# What another transaction works on is left to a later purge, so that none waits for the other.
_ENDED: Final = select(SignIn.id).where(SignIn.expires_at < bindparam("oldest")).with_for_update(skip_locked=True)
_PURGE: Final = delete(SignIn).where(SignIn.id.in_(_ENDED))
_LAST_KEPT: Final = select(func.max(SignIn.id)).scalar_subquery() - bindparam("most")
_TOO_MANY: Final = select(SignIn.id).where(SignIn.id <= _LAST_KEPT).with_for_update(skip_locked=True)
_PUSH_OUT: Final = delete(SignIn).where(SignIn.id.in_(_TOO_MANY))


@dataclass(frozen=True, slots=True, kw_only=True)
class Pending:
    """A transaction as it was read. `ref` is the hash of its token."""

    id: int
    ref: str
    version: int
    client: str
    where: Whereabouts
    challenge: Challenge
    state: login.State


BEGUN: Final = login.Started()


@dataclass(frozen=True, slots=True, kw_only=True)
class NewSignIn:
    client: str
    challenge: Challenge
    where: Whereabouts = NOWHERE
    started: login.Started = BEGUN


def add(tx: Session, ref: str, new: NewSignIn) -> None:
    """Store a new transaction."""
    client, challenge = new.client, new.challenge
    name, data = dump(new.started)
    values = {
        "address": new.where.address,
        "device": new.where.device,
        "token_hash": ref,
        "state": name,
        "data": data,
        "version": 0,
        "client": client,
        "nonce": challenge.nonce,
        "origin": challenge.origin,
        "issued_at": challenge.issued_at,
        "expires_at": challenge.expires_at,
    }
    tx.connection().execute(_ADD, values)


def find(tx: Session, ref: str) -> Pending | None:
    return _read(tx, _FIND, ref)


def hold(tx: Session, ref: str) -> Pending | None:
    """As `find`, and nobody else changes the transaction until this one of the database ends."""
    return _read(tx, _HOLD, ref)


def _read(tx: Session, query: Select[Any], ref: str) -> Pending | None:
    row = tx.connection().execute(query, {"ref": ref}).one_or_none()
    return None if row is None else _pending(row)


def _pending(row: Any) -> Pending:
    challenge = Challenge(nonce=row.nonce, origin=row.origin, issued_at=row.issued_at, expires_at=row.expires_at)
    state = parse(row.state, row.data)
    where = Whereabouts(address=row.address, device=row.device)
    return Pending(
        id=row.id,
        ref=row.token_hash,
        version=row.version,
        client=row.client,
        where=where,
        challenge=challenge,
        state=state,
    )


def change(tx: Session, pending: Pending, state: login.State) -> None:
    """Move the transaction on, if nobody moved it since it was read. Raises `NotAllowedNow` otherwise."""
    name, data = dump(state)
    values = {"which": pending.id, "seen": pending.version, "state": name, "data": data, "version": pending.version + 1}
    if tx.connection().execute(_MOVE, values).rowcount != 1:
        raise NotAllowedNow("Another request for the same sign-in was faster.")


def begun(tx: Session, account_id: int, now: dt.datetime) -> list[Pending]:
    """Transactions in which this account has shown something, and something more is awaited or being judged."""
    rows = tx.connection().execute(_BEGUN, {"account": account_id, "now": now})
    return [_pending(row) for row in rows]


def purge(tx: Session, now: dt.datetime) -> None:
    """Forget transactions that ended long ago, and the oldest ones when there are too many."""
    connection = tx.connection()
    connection.execute(_PURGE, {"oldest": now - KEEP})
    connection.execute(_PUSH_OUT, {"most": KEEP_AT_MOST})


# --- states as JSON --------------------------------------------------------------------------------------------


def dump(state: login.State) -> tuple[str, dict[str, Any]]:
    """The state's name and its fields as JSON types."""
    name = type(state).__name__
    match state:
        case login.AwaitingCode():
            return name, {
                **_dump_waiting(state),
                "methods": [str(method) for method in state.methods],
                "started": str(state.started) if state.started is not None else None,
                "starts": state.starts,
            }
        case login.AwaitingPassword():
            return name, _dump_waiting(state)
        case login.Judging():
            return name, {**_dump_shown(state), "by": str(state.by), "account": state.account}
        case login.Started():
            return name, {"attempts": state.attempts, "expected": state.expected}
        case login.SignedIn() | login.Denied():
            return name, {"account": state.account}
        case login.Dead():
            return name, {"reason": state.reason}
        case login.Expired() | login.Cancelled():
            return name, {}


def parse(name: str, data: Mapping[str, Any]) -> login.State:
    """The inverse of `dump`."""
    return _PARSERS[name](data)


def _dump_shown(state: login.AwaitingPassword | login.AwaitingCode | login.Judging) -> dict[str, Any]:
    return {
        "proofs": [_dump_proof(proof) for proof in state.proofs],
        "doubts": [str(doubt) for doubt in state.doubts],
    }


def _dump_waiting(state: login.AwaitingPassword | login.AwaitingCode) -> dict[str, Any]:
    return {**_dump_shown(state), "account": state.account, "attempts": state.attempts}


def _shown(data: Mapping[str, Any]) -> dict[str, Any]:
    # Rows of an older version hold less: what was begun before an upgrade still ends after it.
    return {
        "proofs": tuple(_parse_proof(proof) for proof in data.get("proofs", ())),
        "doubts": tuple(UndecidedReason(doubt) for doubt in data.get("doubts", ())),
    }


def _waiting(data: Mapping[str, Any]) -> dict[str, Any]:
    return {**_shown(data), "account": data["account"], "attempts": data["attempts"]}


def _code(data: Mapping[str, Any]) -> login.AwaitingCode:
    methods = tuple(Method(name) for name in data.get("methods", [Method.TOTP]))
    started = data.get("started")
    return login.AwaitingCode(
        **_waiting(data),
        methods=methods,
        started=Method(started) if started is not None else None,
        starts=data.get("starts", 0),
    )


def _judging(data: Mapping[str, Any]) -> login.Judging:
    return login.Judging(**_shown(data), by=Method(data.get("by", Method.CARD)), account=data.get("account"))


_PARSERS: Final[dict[str, Callable[[Mapping[str, Any]], login.State]]] = {
    "Started": lambda data: login.Started(**data),
    "Judging": _judging,
    "AwaitingPassword": lambda data: login.AwaitingPassword(**_waiting(data)),
    "AwaitingCode": _code,
    "SignedIn": lambda data: login.SignedIn(**data),
    "Denied": lambda data: login.Denied(**data),
    "Dead": lambda data: login.Dead(**data),
    "Expired": lambda data: login.Expired(**data),
    "Cancelled": lambda data: login.Cancelled(**data),
}


def _dump_proof(proof: Proof) -> dict[str, Any]:
    return {
        "method": str(proof.method),
        "factors": sorted(proof.factors),
        "hardware_bound": proof.hardware_bound,
        "phishing_resistant": proof.phishing_resistant,
        "user_verified": proof.user_verified,
        "user_present": proof.user_present,
        "synced": proof.synced,
        "credential": proof.credential,
        "at": proof.at.isoformat(),
        "certificate": proof.certificate.hex() if proof.certificate is not None else None,
        "aaguid": proof.aaguid.hex() if proof.aaguid is not None else None,
        "issuer": proof.issuer,
    }


def _parse_proof(data: Mapping[str, Any]) -> Proof:
    return Proof(
        **{
            **data,
            "method": Method(data["method"]),
            "factors": frozenset(Factor(factor) for factor in data["factors"]),
            "at": dt.datetime.fromisoformat(data["at"]),
            "certificate": _bytes(data["certificate"]),
            "aaguid": _bytes(data["aaguid"]),
        }
    )


def _bytes(text: str | None) -> bytes | None:
    return None if text is None else bytes.fromhex(text)
