"""A sign-in that begins on a page and is done with a card by the bridge of the same workstation.

    browser                     server                          bridge
      | "Use my smartcard" ----> | hand-over H of transaction T
      | <- link with H --------- |
      | link is opened -----------------------------------------> |  shows site, account and browser; the person agrees
      |                          | <------- what to sign, by H -- |
      |                          | <------- card's signature ---- |  PIN
      |                          | -- code C ------------------->  |
      | <------------------------------------------- opens page C |
      | page C, with the cookie that T was begun with ->| session

Whoever sends somebody else a link H gets nothing by it: what the bridge brings back is opened in the browser beside it,
and counts only there where the sign-in was begun. So a link that was sent by mail ends in an error, not in a session of
the sender's.

A card that somebody adds to the own account comes by the same way. It is a page of that very session that adds it: a
link that was sent to others adds their cards to no account.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from tokenbridge.errors import NotAllowedNow, NotFound
from tokenbridge.rp.challenge import Challenge
from tokenbridge.server import keys
from tokenbridge.server.keys import KeyBook
from tokenbridge.server.ledger import MAX_TOKEN, Clock, Done
from tokenbridge.server.sign_in import SignInDesk
from tokenbridge.server.store import hand_overs, sign_ins
from tokenbridge.server.store.database import Database
from tokenbridge.server.store.hand_overs import Kept, NewHandOver, Waiting
from tokenbridge.server.trust import TrustBook

TRANSACTION: Final = "hand-over:transaction"
SESSION: Final = "hand-over:session"


@dataclass(frozen=True, slots=True, kw_only=True)
class Browser:
    """Where a sign-in was begun. `secret`: only this browser has it. `account`: the user name that was typed, `device`
    what the browser calls itself; both are for the person to recognise. `onward`: the path to go to afterwards.
    `adds_to`: the number of the session whose account shall get the card; None: it is a sign-in."""

    secret: str
    account: str = ""
    device: str = ""
    onward: str = ""
    adds_to: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Redeemed:
    """`session` None: the sign-in is not complete, and goes on in its transaction."""

    session: str | None
    onward: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What the bridge is told: what to sign and by which issuers' cards, for whom and for which browser. `adds`: to
    add the card to an account."""

    challenge: Challenge
    issuers: tuple[bytes, ...]
    account: str
    device: str
    adds: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Brought:
    """What the bridge gets for its evidence: the outcome without a session, and the code for the browser. `done` None:
    the card is good, and the browser may add it."""

    done: Done | None
    code: str


class HandOverDesk:
    """All methods raise `NotFound` for what is over, was used, or belongs to another browser."""

    def __init__(self, database: Database, book: KeyBook, clock: Clock, trust: TrustBook, sign_ins: SignInDesk) -> None:
        self._database = database
        self._keys = book
        self._clock = clock
        self._trust = trust
        self._sign_ins = sign_ins

    async def begin(self, transaction: str, browser: Browser) -> str:
        """Hand the sign-in of the token `transaction` over; returns what the link holds, shown once."""
        return await asyncio.to_thread(self._begin, transaction, browser)

    async def asked(self, ref: str) -> Asked:
        """What the bridge should sign."""
        return await asyncio.to_thread(self._asked, ref)

    async def card(self, ref: str, raw: Mapping[str, Any], request: str) -> Brought:
        """Present the card's evidence; as `SignInDesk.card`, or as `SignInDesk.prove_card` for a card to be added."""
        waiting = await asyncio.to_thread(self._waiting, ref)
        transaction, code, done = self._open(waiting.transaction, TRANSACTION), keys.new_token(), None
        if waiting.adds:
            kept = Kept(certificate=(await self._sign_ins.prove_card(transaction, raw, request)).der)
        else:
            done = await self._sign_ins.card(transaction, raw, request)
            kept = Kept(session=self._sealed(done))
        await asyncio.to_thread(self._keep, ref, code, kept)
        return Brought(done=done, code=code)

    async def cancel(self, ref: str) -> None:
        """The person said no at the bridge: the link is void, the page goes on in other ways."""
        await asyncio.to_thread(self._cancel, ref)

    async def redeem(self, code: str, secret: str) -> Redeemed:
        """What the browser with this `secret` gets."""
        return await asyncio.to_thread(self._redeem, code, secret)

    def _begin(self, transaction: str, browser: Browser) -> str:
        ref, now = keys.new_token(), self._clock()
        sealed = self._keys.ring().encrypt(transaction.encode(), context=TRANSACTION)
        with self._database.write() as tx:
            pending = sign_ins.find(tx, keys.hash_token(transaction)) if len(transaction) <= MAX_TOKEN else None
            if pending is None:
                raise NotFound("That sign-in is over.", next_step="Start again.")
            new = NewHandOver(
                ref=keys.hash_token(ref),
                browser=keys.hash_token(browser.secret),
                sign_in_id=pending.id,
                transaction=sealed,
                account=browser.account,
                device=browser.device,
                onward=browser.onward,
                expires_at=pending.challenge.expires_at,
                adds_to=browser.adds_to,
            )
            hand_overs.add(tx, new, now)
        return ref

    def _asked(self, ref: str) -> Asked:
        waiting = self._waiting(ref)
        with self._database.read() as tx:
            pending = sign_ins.find(tx, keys.hash_token(self._open(waiting.transaction, TRANSACTION)))
        if pending is None:
            raise _gone()
        return Asked(
            challenge=pending.challenge,
            issuers=self._trust.current().store.issuer_names,
            account=waiting.account,
            device=waiting.device,
            adds=waiting.adds,
        )

    def _waiting(self, ref: str) -> Waiting:
        with self._database.read() as tx:
            found = hand_overs.find(tx, _hashed(ref), self._clock())
        if found is None:
            raise _gone()
        return found

    def _sealed(self, done: Done) -> bytes | None:
        if done.opened is None:
            return None
        return self._keys.ring().encrypt(done.opened.token.encode(), context=SESSION)

    def _keep(self, ref: str, code: str, kept: Kept) -> None:
        with self._database.write() as tx:
            if not hand_overs.done(tx, _hashed(ref), keys.hash_token(code), kept, self._clock()):
                raise NotAllowedNow("Another request for the same sign-in was faster.")

    def _cancel(self, ref: str) -> None:
        with self._database.write() as tx:
            hand_overs.drop(tx, _hashed(ref))

    def _redeem(self, code: str, secret: str) -> Redeemed:
        with self._database.write() as tx:
            found = hand_overs.take(tx, _hashed(code), keys.hash_token(secret), self._clock())
        if found is None:
            raise _gone()
        session = None if found.session is None else self._open(found.session, SESSION)
        return Redeemed(session=session, onward=found.onward)

    def _open(self, sealed: bytes, context: str) -> str:
        return self._keys.ring().decrypt(sealed, context=context).decode()


def link(site: str, ref: str) -> str:
    """What the page offers: the bridge is registered for this scheme on workstations that have it."""
    return f"tokenbridge://hand-over?site={site}&id={ref}"


def door(port: int) -> str:
    """Where the bridge of a workstation listens for pages, if its administrator allowed this site; empty for port 0."""
    return f"http://127.0.0.1:{port}/hand-over" if port else ""


def _hashed(text: str) -> str:
    return keys.hash_token(text[: MAX_TOKEN + 1])


def _gone() -> NotFound:
    return NotFound(
        "This sign-in is over, was done already, or was begun in another browser.",
        next_step="Go back to the page where you want to sign in, and choose the smartcard there again.",
    )
