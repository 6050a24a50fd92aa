"""What was lost with a phone, a key or a card, taken away all at once; nobody is locked out by it. It blocks."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum, unique
from typing import Final

from sqlalchemy.orm import Session

from tokenbridge.errors import BadRequest, LastFactor, StepUp
from tokenbridge.rp.proof import Method
from tokenbridge.server import numbers, suspending
from tokenbridge.server.changes import Changes
from tokenbridge.server.method_setup import CORE
from tokenbridge.server.methods.recovery import new_set
from tokenbridge.server.notices import Notices
from tokenbridge.server.step_up import Bar
from tokenbridge.server.store import accounts, phone_apps, phones, recovery, sessions
from tokenbridge.server.store.schema import Account
from tokenbridge.server.store.sessions import Live
from tokenbridge.server.suspending import Device
from tokenbridge.server.trust import Trust

MOST_SHOWN: Final = 8
MOST_ISSUERS: Final = 4
"""Things on one page: a form has few fields. The rest follows once these are gone."""


@unique
class Kind(StrEnum):
    """What people lose."""

    PHONE = "phone"
    KEY = "key"
    CARD = "card"


@dataclass(frozen=True, slots=True, kw_only=True)
class Thing:
    """One thing that signs in. `field` names it in a form: the kind of thing and its number. `device`: it is a card or
    key, which can be suspended as well."""

    field: str
    method: Method
    name: str
    number: int = 0
    only: bool = True
    device: Device | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Lost:
    """`recognised`: cards that sign in without being enrolled here, by their issuers; what is suspended of them is out
    of use at this site, and only the issuer can end more. `lasts`: whether anything but the password and recovery codes
    is left without `things`. `recovery_left`: how many codes there are. `weak`: why nothing can be removed."""

    things: tuple[Thing, ...]
    recognised: tuple[Device, ...]
    lasts: bool
    recovery_left: int
    weak: StepUp | None

    @property
    def devices(self) -> tuple[Device, ...]:
        """What can be suspended, or is."""
        return (*(thing.device for thing in self.things if thing.device is not None), *self.recognised)

    @property
    def in_use(self) -> tuple[Device, ...]:
        return tuple(device for device in self.devices if device.since is None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Removed:
    """`recognised`: what is known by its issuer's word, so that its issuer has to be told; `suspended` of that are out
    of use here. `codes`: new recovery codes, to be shown once."""

    names: tuple[str, ...]
    recognised: tuple[str, ...]
    suspended: tuple[str, ...]
    codes: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class LostThings:
    """`NoSession` is raised everywhere."""

    changes: Changes
    notices: Notices

    def look(self, session_token: str, kinds: frozenset[Kind]) -> Lost:
        """What the account has of these kinds, and whether the session is strong and new enough to remove it."""
        bar, now = self.changes.rule.current(), self.changes.clock()
        with self.changes.looking(session_token) as (tx, live):
            weak = bar.refusal(tx, live, now)
            things = tuple(sorted(self._things(tx, live.account, kinds, bar.trust), key=_is_suspended))[:MOST_SHOWN]
            have = accounts.enrolled(tx, live.account.id) & CORE
            known = tuple(_recognised(tx, live.account, kinds, bar))[:MOST_ISSUERS]
            codes = recovery.left(tx, live.account.id)
        lasts = bool(have - _methods(things))
        return Lost(things=things, recognised=known, lasts=lasts, recovery_left=codes, weak=weak)

    def remove(
        self, session_token: str, kinds: frozenset[Kind], chosen: frozenset[str], request: str, *, new_codes: bool
    ) -> Removed:
        """Remove the chosen things, by their `field`, and end the account's other sessions; chosen cards that are known
        by their issuer are suspended. Where nothing but the password is left, or with `new_codes`, there are new
        recovery codes, and the old ones are void.

        Raises `StepUp`, `BadRequest` when nothing is chosen, and `LastFactor` when nothing at all would be left."""
        bar, now = self.changes.rule.current(), self.changes.clock()
        with self.changes.permitted(session_token, "remove what is lost", request) as (tx, live):
            account = live.account
            gone = [thing for thing in self._things(tx, account, kinds, bar.trust) if thing.field in chosen]
            known = list(_recognised(tx, account, kinds, bar))
            if not gone and not new_codes and not known:
                raise BadRequest("Choose what is lost.", next_step="Choose at least one thing.")
            for thing in gone:
                self._remove(tx, live, thing, bar.trust, request)
            barred = [device for device in known if str(device.ref) in chosen and device.since is None]
            if barred:
                suspending.suspend(tx, account, barred, now, keep=live.id)
            for device in barred:
                self.changes.record(tx, "card-suspended", live, request, name=device.name)
            tx.expire_all()
            left = accounts.enrolled(tx, account.id) & CORE
            if account.password_hash is None and not suspending.any_left(tx, account, bar.trust):
                raise LastFactor("Nothing would be left that signs you in.", next_step="Ask your IT service desk.")
            codes = new_set(tx, account.id, now) if new_codes or not left else ()
            if codes:
                self.changes.record(tx, "recovery-codes-made", live, request)
            self._report(tx, live, [f"a card of {device.issuer}" for device in known], request)
            ended = sessions.end_others(tx, live, now)
            self.changes.record(tx, "signed-out-elsewhere", live, request, sessions_ended=ended)
        names, stopped = tuple(thing.name for thing in gone), tuple(device.name for device in barred)
        if names:
            self.notices.lost(account, ", ".join(names))
        if stopped:
            self.notices.suspended(account, ", ".join(stopped))
        return Removed(names=names, recognised=tuple(device.issuer for device in known), suspended=stopped, codes=codes)

    def report(self, session_token: str, kinds: frozenset[Kind], request: str) -> None:
        """Put the loss on record and end the account's other sessions: for a session that is too weak for more."""
        with self.changes.database.write() as tx:
            live = self.changes.live(tx, session_token)
            self._report(tx, live, sorted(kinds), request)
            sessions.end_others(tx, live, self.changes.clock())

    def _report(self, tx: Session, live: Live, what: list[str] | list[Kind], request: str) -> None:
        for thing in what:
            self.changes.record(tx, "reported", live, request, detail=f"lost: {thing}")

    def _things(self, tx: Session, account: Account, kinds: frozenset[Kind], trust: Trust) -> Iterator[Thing]:
        if Kind.PHONE in kinds:
            yield from self._on_phone(tx, account.id)
        if Kind.KEY in kinds:
            yield from map(_thing, suspending.keys_of(tx, account))
        if Kind.CARD in kinds:
            yield from map(_thing, suspending.cards_of(tx, account, trust))

    def _on_phone(self, tx: Session, account: int) -> Iterator[Thing]:
        if accounts.totp(tx, account) is not None:
            yield Thing(field="app", method=Method.TOTP, name="the authenticator app")
        for app in phone_apps.of(tx, account):
            name = f"the phone app on {app.name}"
            yield Thing(field=f"phone-app-{app.id}", method=Method.NUMBER_MATCH, name=name, number=app.id)
        for row in phones.of(tx, account):
            number = self.changes.keys.ring().decrypt(row.number, context=numbers.context(account)).decode()
            name = f"the number {numbers.masked(number)}"
            yield Thing(field=f"number-{row.id}", method=Method.SMS, name=name, number=row.id)

    def _remove(self, tx: Session, live: Live, thing: Thing, trust: Trust, request: str) -> None:
        event = "method-removed"
        if thing.device is not None:
            suspending.remove(tx, live.account, thing.device, trust, self.changes.clock())
            event = "key-removed" if thing.method is Method.KEY else "card-withdrawn"
        match thing.method:
            case Method.TOTP:
                accounts.remove_totp(tx, live.account.id)
            case Method.NUMBER_MATCH:
                phone_apps.remove(tx, thing.number)
            case Method.SMS:
                phones.remove(tx, thing.number)
        self.changes.record(tx, event, live, request, method=str(thing.method), name=f"lost: {thing.name}")


def _methods(things: tuple[Thing, ...]) -> frozenset[Method]:
    """What goes with all of them. A number is every way to reach it."""
    found = {thing.method for thing in things}
    return frozenset(found | ({Method.SMS, Method.WHATSAPP, Method.VOICE} if Method.SMS in found else set()))


def _recognised(tx: Session, account: Account, kinds: frozenset[Kind], bar: Bar) -> Iterator[Device]:
    if Kind.CARD in kinds:
        yield from suspending.recognised(tx, account, bar.trust)


def _is_suspended(thing: Thing) -> bool:
    return thing.device is not None and thing.device.since is not None


def _thing(device: Device) -> Thing:
    return Thing(
        field=str(device.ref),
        method=device.method,
        name=device.name,
        number=device.ref.number,
        only=device.only,
        device=device,
    )
