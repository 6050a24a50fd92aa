"""Suspending cards and keys, and lifting that, as an operator does it."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy.orm import Session

from tokenbridge.errors import BadRequest
from tokenbridge.server import suspending, trust
from tokenbridge.server.operator.office import Office
from tokenbridge.server.operator.telling import telling
from tokenbridge.server.store import accounts, anchors, cards, security_keys
from tokenbridge.server.store.schema import Account
from tokenbridge.server.store.suspensions import Kind, Ref
from tokenbridge.server.suspending import Device
from tokenbridge.server.trust import Trust


@dataclass(frozen=True, slots=True, kw_only=True)
class Changed:
    """`changed` False: it was so already."""

    username: str
    name: str
    suspended: bool
    changed: bool
    sessions_ended: int = 0


def set_suspended(office: Office, kind: Kind, number: int, *, suspended: bool) -> Changed:
    """A key or an enrolled card, by its number. Raises `BadRequest` when there is none."""
    with office.database.write() as tx:
        known = _trust(tx)
        found = security_keys.listed(tx) if kind is Kind.KEY else cards.listed(tx)
        owner = next((name for row, name in found if row.id == number), None)
        account = accounts.find(tx, owner) if owner is not None else None
        device = None if account is None else suspending.find(tx, account, known, Ref(kind, str(number)))
        if account is None or device is None:
            raise BadRequest(f"There is no {kind} {number}.", next_step=f"See `tokenbridge server {kind} list`.")
        done = _set(office, tx, account, device, suspended=suspended)
    _tell(office, account, done)
    return done


def set_issuer_suspended(office: Office, username: str, anchor: str, *, suspended: bool) -> Changed:
    """Cards by which `username` is known without their being enrolled, by the name of their trust anchor. Raises
    `BadRequest` when there are none."""
    with office.database.write() as tx:
        account = accounts.get(tx, username)
        found = {device.issuer: device for device in suspending.recognised(tx, account, _trust(tx))}
        if anchor not in found:
            names = ", ".join(sorted(found)) or "nobody"
            raise BadRequest(
                f"{account.username} is not known by the word of {anchor!r}.",
                next_step=f"By whose word: {names}. For enrolled cards: `tokenbridge server card suspend`.",
            )
        done = _set(office, tx, account, found[anchor], suspended=suspended)
    _tell(office, account, done)
    return done


def _set(office: Office, tx: Session, account: Account, device: Device, *, suspended: bool) -> Changed:
    changed, ended = (device.since is None) == suspended, 0
    if changed and suspended:
        ended = suspending.suspend(tx, account, [device], office.now())
        office.record(tx, f"{device.method}-suspended", account.username, name=device.name, sessions_ended=ended)
    elif changed:
        suspending.lift(tx, account, device)
        office.record(tx, "suspension-lifted", account.username, name=device.name)
    return Changed(
        username=account.username, name=device.name, suspended=suspended, changed=changed, sessions_ended=ended
    )


def _tell(office: Office, account: Account, done: Changed) -> None:
    if done.changed:
        with telling(office) as notices:
            (notices.suspended if done.suspended else notices.lifted)(account, done.name)


def _trust(tx: Session) -> Trust:
    return trust.build(anchors.listed(tx))
