"""The sign-in as the API sees it. Blocking work leaves the event loop here, and only here; no rule stands here."""

from __future__ import annotations

import asyncio
import datetime as dt
import secrets
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any, Final

from tokenbridge.errors import NotAllowedNow, TooMany, Undecided
from tokenbridge.rp.certificate import Certificate
from tokenbridge.rp.certs import RevocationData
from tokenbridge.rp.challenge import NONCE_BYTES, Challenge
from tokenbridge.rp.proof import Method
from tokenbridge.rp.rules import Context
from tokenbridge.server import login, passwords
from tokenbridge.server.approval_sign_in import ApprovalSignIn
from tokenbridge.server.approvals import Asked
from tokenbridge.server.card_sign_in import CardAttempt, CardSignIn
from tokenbridge.server.key_sign_in import KeySignIn, Offer
from tokenbridge.server.ledger import Beginning, Clock, Done, Ledger
from tokenbridge.server.notices import Notices
from tokenbridge.server.password_sign_in import PasswordAttempt, PasswordSignIn
from tokenbridge.server.people import person
from tokenbridge.server.revocation import RevocationFetcher
from tokenbridge.server.second_step import Begun, SecondStep
from tokenbridge.server.settings import Settings
from tokenbridge.server.store import anchors
from tokenbridge.server.trust import TrustBook
from tokenbridge.server.whereabouts import Whereabouts

MOST_HASHING: Final = 32
"""Passwords that may wait for their slow comparison: more would only make everybody wait longer than they would."""

MOST_SENDING: Final = 32

FEW_SECONDS: Final = 3
"""After so many those who wait now have been served, or most of them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ticket:
    """What a client gets when a sign-in begins. `issuers` are DER names; no `key_options`: no keys are taken."""

    token: str
    rp_name: str
    challenge: Challenge
    issuers: tuple[bytes, ...]
    key_options: dict[str, Any] | None
    after_password: tuple[Method, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """What the desk works with; put together in the composition root. `hashing` is the pool for argon2,
    `sending` the one for services that send messages: a slow one holds up nobody else."""

    settings: Settings
    ledger: Ledger
    trust: TrustBook
    revocation: RevocationFetcher
    cards: CardSignIn
    security_keys: KeySignIn | None
    passwords: PasswordSignIn
    approvals: ApprovalSignIn
    second: SecondStep
    hashing: ThreadPoolExecutor
    sending: ThreadPoolExecutor
    clock: Clock
    notices: Notices


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """`username` is whose password or device was shown. `methods` complete the sign-in, the best first; `key_options`
    when a key is one of them. `asked` is a question to the telephone that is open, or was answered. `barred_until`:
    before that nobody is asked or called for the account, since somebody has declined."""

    ref: str
    username: str
    methods: tuple[Method, ...]
    key_options: dict[str, Any] | None = None
    asked: Asked | None = None
    barred_until: dt.datetime | None = None


class SignInDesk:
    """All methods raise `Rejected`, `NotAllowedNow`, `TooMany` or `SetupError`."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._hashing = 0
        self._sending = 0

    async def start(self, client: str, where: Whereabouts, username: str | None = None) -> Ticket:
        """Begin a sign-in for the program `client`; the key's options name the credentials of `username`."""
        return await asyncio.to_thread(self._start, client, where, username)

    async def card(self, token: str, raw: Mapping[str, Any], request: str) -> Done:
        """Present a Web eID token. The nonce is spent first, then the token is judged."""
        cards, revocation = self._parts.cards, self._parts.revocation
        attempt = await asyncio.to_thread(cards.begin, token, raw, request)
        fetched = await revocation.fetch(attempt.presented.sources)
        done, doubtful = await asyncio.to_thread(self._after_card, attempt, fetched)
        if doubtful:
            revocation.forget(attempt.presented.sources)
        return self._tell(done)

    async def prove_card(self, token: str, raw: Mapping[str, Any], request: str) -> Certificate:
        """Have a Web eID token verified as in a sign-in, by which nobody is signed in. Raises `Undecided` as well."""
        cards, revocation = self._parts.cards, self._parts.revocation
        attempt = await asyncio.to_thread(cards.begin, token, raw, request)
        fetched = await revocation.fetch(attempt.presented.sources)
        try:
            return await asyncio.to_thread(cards.prove, attempt, fetched)
        except Undecided:
            revocation.forget(attempt.presented.sources)
            raise

    async def key(self, token: str, raw: Mapping[str, Any], request: str) -> Done:
        """Present a key's assertion. The challenge is spent first, then the assertion is judged."""
        return self._tell(await asyncio.to_thread(self._key, token, raw, request))

    async def password(self, token: str, username: str, password: str, request: str) -> Done:
        """Present a password. Unknown names, disabled accounts and wrong passwords look and cost the same."""
        flow, loop = self._parts.passwords, asyncio.get_running_loop()
        if self._hashing >= MOST_HASHING:
            raise TooMany("Too many people are signing in at this moment.", seconds=FEW_SECONDS)
        self._hashing += 1
        try:
            attempt = await asyncio.to_thread(flow.begin, token, username, request)
            good = await loop.run_in_executor(self._parts.hashing, passwords.verify, attempt.encoded, password)
        finally:
            self._hashing -= 1
        return self._tell(await asyncio.to_thread(self._after_password, attempt, good))

    async def code(self, token: str, code: str, request: str, method: Method = Method.TOTP) -> Done:
        """Present a code of an authenticator app, or a recovery code; it counts once."""
        return self._tell(await asyncio.to_thread(self._parts.passwords.code, token, code, request, method))

    async def waiting(self, token: str) -> Waiting | None:
        """What a sign-in that has begun waits for after its first step; None when it is over or has not got so far."""
        return await asyncio.to_thread(self._waiting, token)

    async def asked(self, token: str) -> Asked | None:
        """Whether the question to the telephone was answered; None when there is none. Changes nothing."""
        return await asyncio.to_thread(self._parts.approvals.look, token)

    async def approval(self, token: str, request: str) -> Done:
        """Go on with what the telephone has answered. Raises `NotAnswered` as well."""
        return self._tell(await asyncio.to_thread(self._parts.approvals.present, token, request))

    async def send(self, token: str, method: Method, request: str, device: str = "") -> Begun:
        """Start a method of those that send something; `device` is what people may be told of who asks.
        Raises `SendFailed` as well."""
        if self._sending >= MOST_SENDING:
            raise TooMany("Too many messages are being sent at this moment.", seconds=FEW_SECONDS)
        self._sending += 1
        try:
            run = asyncio.get_running_loop().run_in_executor
            return await run(self._parts.sending, self._parts.second.start, token, method, request, device)
        finally:
            self._sending -= 1

    async def cancel(self, token: str, request: str) -> None:
        await asyncio.to_thread(self._parts.ledger.advance, token, request, login.Cancel())

    def _tell(self, done: Done) -> Done:
        """The person, by e-mail, of a sign-in about which something is unusual. It waits for nothing."""
        signals = done.answer.decision.signals if done.answer is not None else ()
        if done.opened is not None and done.person is not None and signals:
            self._parts.notices.unusual(done.person, signals, done.pending.where.address)
        return done

    def _after(self, client: str, where: Whereabouts) -> tuple[Method, ...]:
        """What may follow a password of somebody who has it all, and of whom nothing is known yet."""
        policy = self._parts.passwords.policy.current().policy
        context = Context(client=client, enrolled=None, now=self._parts.clock(), address=where.address)
        rule = policy.rule_for(context)
        ways = rule.fallback if rule is not None else ()
        return tuple(method for method in ways if method in self._takes())

    def _takes(self) -> frozenset[Method]:
        """What may follow a password at this server."""
        by_key = frozenset({Method.KEY}) if self._parts.security_keys is not None else frozenset()
        return by_key | frozenset(self._parts.passwords.methods)

    def _waiting(self, token: str) -> Waiting | None:
        pending = self._parts.ledger.look(token)
        if pending is None or not isinstance(pending.state, login.AwaitingPassword | login.AwaitingCode):
            return None
        state = pending.state
        with self._parts.passwords.database.read() as tx:
            who = person(tx, state.account)
            barred = self._parts.approvals.questions.barred_until(tx, state.account, self._parts.clock())
        if who is None:
            return None
        return Waiting(
            ref=pending.ref,
            username=who.username,
            methods=state.methods if isinstance(state, login.AwaitingCode) else (Method.PASSWORD,),
            key_options=self._with_options(Done(pending=pending, state=state)).key_options,
            asked=self._parts.approvals.look(token),
            barred_until=barred,
        )

    def _after_card(self, attempt: CardAttempt, fetched: RevocationData) -> tuple[Done, bool]:
        done, doubtful = self._parts.cards.complete(attempt, fetched)
        return self._with_options(done), doubtful

    def _after_password(self, attempt: PasswordAttempt, good: bool) -> Done:
        return self._with_options(self._parts.passwords.complete(attempt, good=good))

    def _key(self, token: str, raw: Mapping[str, Any], request: str) -> Done:
        keys = self._parts.security_keys
        if keys is None:
            raise NotAllowedNow("This server takes no security keys.", next_step="Use another way to sign in.")
        return self._with_options(keys.present(token, raw, request))

    def _with_options(self, done: Done) -> Done:
        """With what a key is asked for, where a key is one of the ways on."""
        keys = self._parts.security_keys
        options = keys.options_after(done) if keys is not None else None
        return done if options is None else replace(done, key_options=options)

    def _start(self, client: str, where: Whereabouts, username: str | None) -> Ticket:
        parts = self._parts
        keys = parts.security_keys
        offer = keys.offer(username) if keys is not None else Offer()
        beginning = Beginning(
            client=client,
            where=where,
            origin=parts.settings.site,
            ttl=dt.timedelta(seconds=parts.settings.sign_in_seconds),
            expected=offer.expected,
        )
        stamps: list[anchors.Stamp] = []
        token, challenge = parts.ledger.open(
            beginning, random=secrets.token_bytes(NONCE_BYTES), also=lambda tx: stamps.append(anchors.stamp(tx))
        )
        return Ticket(
            token=token,
            rp_name=parts.settings.name,
            challenge=challenge,
            issuers=parts.trust.current(*stamps).store.issuer_names,
            key_options=keys.options(challenge, offer.credentials) if keys is not None else None,
            after_password=self._after(client, where),
        )
