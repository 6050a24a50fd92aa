"""Takes cards and keys out of use and puts them back, in a transaction that is alone. It permits and records nothing.

A sign-in that has begun with what is suspended does not complete: one whose evidence is judged later finds the
suspension in the transaction of its verdict; one that was judged before and awaits something more is ended here.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from sqlalchemy.orm import Session

from tokenbridge.errors import LastFactor
from tokenbridge.rp.proof import Method
from tokenbridge.server import holdings, login
from tokenbridge.server.store import accounts, cards, security_keys, sessions, sign_ins, suspensions
from tokenbridge.server.store.schema import Account
from tokenbridge.server.store.suspensions import Kind, Ref
from tokenbridge.server.trust import Trust

ENDED: Final = "suspended"
"""Why a sign-in is dead that had begun with what is suspended now."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """A card or key of an account. `since`: it is suspended since then. `issuer`: that of cards that are known by its
    word alone; `only`: there is no other of its kind. `vouched`: an issuer by whose word an enrolled card signs in even
    if it is removed."""

    ref: Ref
    name: str
    since: dt.datetime | None
    issuer: str = ""
    only: bool = True
    vouched: str = ""

    @property
    def method(self) -> Method:
        return Method.KEY if self.ref.kind is Kind.KEY else Method.CARD


def keys_of(tx: Session, account: Account) -> Iterator[Device]:
    rows = security_keys.of(tx, account.id)
    for row in rows:
        name = f"the security key “{row.name}”"
        yield Device(ref=Ref(Kind.KEY, str(row.id)), name=name, since=row.suspended_at, only=len(rows) == 1)


def cards_of(tx: Session, account: Account, trust: Trust) -> Iterator[Device]:
    """Enrolled ones."""
    rows = cards.listed(tx, account.id)
    trusted = {holding.issuer for holding in holdings.asserted(tx, account, trust)}
    for row, _ in rows:
        anchor = holdings.anchor_of(row.certificate, trust)
        yield Device(
            ref=Ref(Kind.CARD, str(row.id)),
            name=f"the card {row.label or row.subject}",
            since=row.suspended_at,
            only=len(rows) == 1,
            vouched=anchor.name if anchor is not None and anchor.name in trusted else "",
        )


def recognised(tx: Session, account: Account, trust: Trust) -> Iterator[Device]:
    """Those that are known by their issuers' word; what is suspended is there also if nobody trusts its issuer now."""
    known = set()
    for holding in holdings.asserted(tx, account, trust):
        known.add(holding.ref.which)
        name = f"cards of {holding.issuer}"
        yield Device(ref=holding.ref, name=name, since=holding.suspended, issuer=holding.issuer)
    for anchor, row in suspensions.issuers(tx, account.id).items():
        if anchor not in known:
            ref = Ref(Kind.ISSUER, anchor)
            yield Device(ref=ref, name=f"cards of {row.name}", since=row.suspended_at, issuer=row.name)


def devices(tx: Session, account: Account, trust: Trust) -> tuple[Device, ...]:
    return (*keys_of(tx, account), *cards_of(tx, account, trust), *recognised(tx, account, trust))


def find(tx: Session, account: Account, trust: Trust, ref: Ref) -> Device | None:
    """A device of this account and no other."""
    return next((device for device in devices(tx, account, trust) if device.ref == ref), None)


def any_left(tx: Session, account: Account, trust: Trust) -> bool:
    """Whether any card or key of the account signs in."""
    return any(device.since is None for device in devices(tx, account, trust))


def suspend(
    tx: Session, account: Account, chosen: Collection[Device], now: dt.datetime, *, keep: int | None = None
) -> int:
    """From now on they sign in nowhere; password resets, sign-ins under way and sessions that had to do with them end.
    Returns how many sessions; that of the number `keep` goes on."""
    for device in chosen:
        suspensions.suspend(tx, account.id, device.ref, now, name=device.issuer)
    for pending in sign_ins.begun(tx, account.id, now):
        state = pending.state
        assert isinstance(state, login.AwaitingPassword | login.AwaitingCode | login.Judging)
        if suspensions.tainted(tx, account.id, suspensions.shown(state.proofs)):
            sign_ins.change(tx, pending, login.Dead(reason=ENDED))
    return sessions.end_tainted(tx, account.id, now, keep=keep)


def lift(tx: Session, account: Account, device: Device) -> bool:
    """From now on it signs in again; False when it did all the time."""
    return suspensions.lift(tx, account.id, device.ref)


def remove(tx: Session, account: Account, device: Device, trust: Trust, now: dt.datetime) -> None:
    """Forget a key or an enrolled card. A card that was suspended does not come back by its issuer's word."""
    if device.ref.kind is Kind.KEY:
        security_keys.remove(tx, device.ref.number)
    else:
        cards.remove(tx, device.ref.number)
    keep_out(tx, account, trust, now, [device])
    tx.expire_all()


def keep_out(tx: Session, account: Account, trust: Trust, now: dt.datetime, going: Iterable[Device]) -> None:
    """Suspended cards that are removed don't come back by their issuer's word: from now on that is suspended."""
    words = {device.vouched for device in going if device.since is not None and device.vouched}
    for other in recognised(tx, account, trust) if words else ():
        if other.issuer in words:
            suspensions.suspend(tx, account.id, other.ref, now, name=other.issuer)


def check_left(tx: Session, account: Account, trust: Trust, *, confirmed: bool) -> None:
    """Raises `LastFactor` where nothing is left beside a password and recovery codes, unless that is `confirmed`, and
    where nothing at all is."""
    tx.expire_all()
    if account.password_hash is None and not any_left(tx, account, trust):
        raise LastFactor("Nothing would be left that signs you in.", next_step="Add another card or key first.")
    if not accounts.enrolled(tx, account.id) - {Method.RECOVERY} and not confirmed:
        raise LastFactor
