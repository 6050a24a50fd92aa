"""What was lost with a phone, a key or a card, taken away all at once; nobody is locked out by it. It blocks."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum, unique
from typing import Final

from sqlalchemy.orm import Session

from tokenbridge.errors import BadRequest, LastFactor, StepUp
from tokenbridge.rp.proof import DEVICES, Method
from tokenbridge.server import holdings, numbers
from tokenbridge.server.changes import Changes
from tokenbridge.server.method_setup import CORE
from tokenbridge.server.methods.recovery import new_set
from tokenbridge.server.notices import Notices
from tokenbridge.server.step_up import Bar
from tokenbridge.server.store import accounts, cards, phone_apps, phones, security_keys, sessions
from tokenbridge.server.store.schema import Account
from tokenbridge.server.store.sessions import Live

MOST_SHOWN: Final = 10
"""Things on one page: a form has few fields. The rest follows once these are gone."""


@unique
class Kind(StrEnum):
    """What people lose."""

    PHONE = "phone"
    KEY = "key"
    CARD = "card"


@dataclass(frozen=True, slots=True, kw_only=True)
class Thing:
    """One thing that signs in. `field` names it in a form: the kind of thing and its number."""

    field: str
    method: Method
    name: str
    number: int = 0
    only: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Lost:
    """`recognised`: issuers whose cards sign in without being enrolled here, so that only they can end that. `lasts`:
    whether anything but the password and recovery codes is left without `things`. `weak`: the session is too weak."""

    things: tuple[Thing, ...]
    recognised: tuple[str, ...]
    lasts: bool
    weak: StepUp | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Removed:
    """`codes`: new recovery codes, to be shown once."""

    names: tuple[str, ...]
    recognised: tuple[str, ...]
    codes: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class LostThings:
    """`NoSession` is raised everywhere."""

    changes: Changes
    notices: Notices

    def look(self, session_token: str, kinds: frozenset[Kind], request: str) -> Lost:
        """What the account has of these kinds. Raises `StepUp` for a session that is too old."""
        bar, now = self.changes.rule.current(), self.changes.clock()
        with self.changes.looking(session_token) as (tx, live):
            weak = bar.weakness(tx, live, now)
            things = tuple(self._things(tx, live.account, kinds))[:MOST_SHOWN]
            have = accounts.enrolled(tx, live.account.id) & CORE
            recognised = _recognised(live.account, kinds, bar)
        if weak is None:
            with self.changes.permitted(session_token, "remove what is lost", request):
                pass
        return Lost(things=things, recognised=recognised, lasts=bool(have - _methods(things)), weak=weak)

    def remove(
        self, session_token: str, kinds: frozenset[Kind], chosen: frozenset[str], request: str, *, new_codes: bool
    ) -> Removed:
        """Remove the chosen things, by their `field`, and end the account's other sessions. Where nothing but the
        password is left, or with `new_codes`, there are new recovery codes, and the old ones are void.

        Raises `StepUp`, `BadRequest` when nothing is chosen, and `LastFactor` when nothing at all would be left."""
        bar, now = self.changes.rule.current(), self.changes.clock()
        with self.changes.permitted(session_token, "remove what is lost", request) as (tx, live):
            account = live.account
            gone = [thing for thing in self._things(tx, account, kinds) if thing.field in chosen]
            recognised = _recognised(account, kinds, bar)
            if not gone and not new_codes and not recognised:
                raise BadRequest("Choose what is lost.", next_step="Choose at least one thing.")
            for thing in gone:
                self._remove(tx, live, thing, request)
            tx.expire_all()
            left = accounts.enrolled(tx, account.id) & CORE
            if account.password_hash is None and not left & DEVICES and not recognised:
                raise LastFactor("Nothing would be left that signs you in.", next_step="Ask your IT service desk.")
            codes = new_set(tx, account.id, now) if new_codes or not left else ()
            if codes:
                self.changes.record(tx, "recovery-codes-made", live, request)
            self._report(tx, live, [f"a card of {issuer}" for issuer in recognised], request)
            ended = sessions.end_others(tx, live, now)
            self.changes.record(tx, "signed-out-elsewhere", live, request, sessions_ended=ended)
        names = tuple(thing.name for thing in gone)
        if names:
            self.notices.lost(account, ", ".join(names))
        return Removed(names=names, recognised=recognised, codes=codes)

    def report(self, session_token: str, kinds: frozenset[Kind], request: str) -> None:
        """Put the loss on record and end the account's other sessions: for a session that is too weak for more."""
        with self.changes.database.write() as tx:
            live = self.changes.live(tx, session_token)
            self._report(tx, live, sorted(kinds), request)
            sessions.end_others(tx, live, self.changes.clock())

    def _report(self, tx: Session, live: Live, what: list[str] | list[Kind], request: str) -> None:
        for thing in what:
            self.changes.record(tx, "reported", live, request, detail=f"lost: {thing}")

    def _things(self, tx: Session, account: Account, kinds: frozenset[Kind]) -> Iterator[Thing]:
        if Kind.PHONE in kinds:
            yield from self._on_phone(tx, account.id)
        if Kind.KEY in kinds:
            keys = security_keys.of(tx, account.id)
            for key in keys:
                name, only = f"the security key “{key.name}”", len(keys) == 1
                yield Thing(field=f"key-{key.id}", method=Method.KEY, name=name, number=key.id, only=only)
        if Kind.CARD in kinds:
            own = cards.listed(tx, account.id)
            for card, _ in own:
                name, only = f"the card {card.label or card.subject}", len(own) == 1
                yield Thing(field=f"card-{card.id}", method=Method.CARD, name=name, number=card.id, only=only)

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

    def _remove(self, tx: Session, live: Live, thing: Thing, request: str) -> None:
        event = "method-removed"
        match thing.method:
            case Method.TOTP:
                accounts.remove_totp(tx, live.account.id)
            case Method.NUMBER_MATCH:
                phone_apps.remove(tx, thing.number)
            case Method.KEY:
                security_keys.remove(tx, thing.number)
                event = "key-removed"
            case Method.CARD:
                cards.remove(tx, thing.number)
                event = "card-withdrawn"
            case _:
                phones.remove(tx, thing.number)
        self.changes.record(tx, event, live, request, method=str(thing.method), name=f"lost: {thing.name}")


def _methods(things: tuple[Thing, ...]) -> frozenset[Method]:
    """What goes with all of them. A number is every way to reach it."""
    found = {thing.method for thing in things}
    return frozenset(found | ({Method.SMS, Method.WHATSAPP, Method.VOICE} if Method.SMS in found else set()))


def _recognised(account: Account, kinds: frozenset[Kind], bar: Bar) -> tuple[str, ...]:
    if Kind.CARD not in kinds:
        return ()
    return tuple(holding.issuer for holding in holdings.asserted(account, bar.trust))
