"""Carries out what `ceremony` decides: talks to site, card and person, and turns what happens into events.

Cancelling it (the client went away) withdraws the question, stops the card between two APDUs, gives the card back and
tells the site.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Coroutine, Sequence
from contextlib import AsyncExitStack, ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, assert_never

from tokenbridge.card import authentication, certificates, sign_in
from tokenbridge.card.base import CardSnapshot, Fitness
from tokenbridge.card.sign_in import Ask, PinReferenceChanged, Signed, Terms
from tokenbridge.daemon import ceremony, key_sign_in, steps
from tokenbridge.daemon.arrival import Arrival, usable_keys
from tokenbridge.daemon.devices import Card, Devices
from tokenbridge.daemon.known_cards import KnownCards
from tokenbridge.daemon.prompts import StreamInteraction
from tokenbridge.daemon.site import Offer, Site, Verdict
from tokenbridge.daemon.steps import Candidate, Effect, Event, Finished, State, Wish
from tokenbridge.errors import (
    NoUsableCertificate,
    PinBlocked,
    PinUnfit,
    PinWrong,
    RejectReason,
    RemoteError,
    TokenbridgeError,
)
from tokenbridge.interaction import Secret
from tokenbridge.log import get
from tokenbridge.transport.base import EventKind

FRESH_SECONDS: Final = 150
"""An offer that ends sooner is replaced before a person is asked: the prompt itself may take two minutes."""

_log = get("sign-in")

QUESTIONS: Final = {steps.PASSWORD: "password", steps.RECOVERY: "recovery-code"}

WHY: Final = {
    Fitness.EXPIRED: "its certificate has expired",
    Fitness.NOT_YET_VALID: "its certificate is not valid yet",
    Fitness.WRONG_USAGE: "its certificate is not meant for signing in",
    Fitness.ISSUER_NOT_ACCEPTED: "the site does not accept who issued its certificate",
    Fitness.KEY_UNSUPPORTED: "its key is of a kind that can't be used",
    Fitness.UNREADABLE: "its certificate can't be read",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Bridge:
    """What every ceremony needs of this workstation."""

    devices: Devices
    known: KnownCards


class SignIn:
    """One sign-in ceremony; use once."""

    def __init__(
        self, bridge: Bridge, site: Site, interaction: StreamInteraction, wish: Wish, *, wait_seconds: float
    ) -> None:
        self._wait_seconds = wait_seconds
        self._devices = bridge.devices
        self._known = bridge.known
        self._site = site
        self._interaction = interaction
        self._wish = wish
        self._events: asyncio.Queue[Event] = asyncio.Queue()
        self._tasks: set[asyncio.Task[None]] = set()
        self._question: asyncio.Task[None] | None = None
        self._claims = AsyncExitStack()
        self._cards: dict[str, Card] = {}
        self._offer: Offer | None = None
        self._replaced = False
        """Whether the offer has just been replaced because it seemed to end too soon."""

    async def run(self) -> Verdict:
        """The site's verdict. Raises `TokenbridgeError`."""
        state, effects = ceremony.start(self._wish)
        try:
            while not isinstance(state, Finished):
                for effect in effects:
                    await self._perform(effect)
                event = await self._events.get()
                state, effects = ceremony.step(state, event)
                if not any(isinstance(effect, steps.Sign | steps.Prove) for effect in effects):
                    _wipe_typed(event)  # it came too late to be used
            return _result(state)
        finally:
            await self._clean_up(state)

    async def _perform(self, effect: Effect) -> None:
        match effect:
            case steps.Tell(step=step, facts=facts):
                await self._interaction.progress(step, **{k: v for k, v in facts.items() if k != "step"})
            case steps.Remember(snapshot=snapshot):
                self._remember(snapshot)
            case steps.Withdraw():
                await self._withdraw()
            case steps.WaitForDevice(offer=offer):
                await self._release()
                self._start(self._wait_for_device(offer))
            case steps.UseKey():
                self._question = self._start(self._use_key(effect))
                self._start(self._card_beside_key(effect))
            case steps.Choose() | steps.AskLastTry() | steps.AskPin() | steps.AskSecret():
                self._question = self._start(self._ask(effect))
            case steps.Open() | steps.Look() | steps.Sign() | steps.Send() | steps.SendKey() | steps.Prove():
                self._start(self._work(effect))
            case _:
                assert_never(effect)

    def _start(self, work: Coroutine[Any, Any, Event | None]) -> asyncio.Task[None]:
        task = asyncio.create_task(self._report(work))
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[None]) -> None:
        """A defect ends the ceremony too: nothing else would wake it."""
        self._tasks.discard(task)
        if not task.cancelled() and (err := task.exception()) is not None:
            _log.error("sign-in failed", exc_info=err)
            self._events.put_nowait(steps.Failed(error=TokenbridgeError(detail=repr(err))))

    async def _report(self, work: Coroutine[Any, Any, Event | None]) -> None:
        try:
            event = await work
        except TokenbridgeError as err:
            event = steps.Failed(error=err)
        if event is not None:
            self._events.put_nowait(event)

    async def _work(
        self, effect: steps.Open | steps.Look | steps.Sign | steps.Send | steps.SendKey | steps.Prove
    ) -> Event | None:
        match effect:
            case steps.Open():
                await self._cancel_offer()
                self._offer = await self._site.open(self._wish.username if self._wish.method == steps.KEY else "")
                return steps.Opened(offer=self._offer)
            case steps.Look(readers=readers, offer=offer):
                return await self._look(readers, offer)
            case steps.Sign():
                return await self._sign(effect)
            case steps.Send(offer=offer, token=token):
                return self._decided(await self._site.send_card(offer.transaction, token))
            case steps.SendKey(offer=offer, credential=credential):
                return self._decided(await self._site.send_key(offer.transaction, credential))
            case steps.Prove():
                return await self._prove(effect)
            case _:
                assert_never(effect)

    async def _ask(self, effect: steps.Choose | steps.AskLastTry | steps.AskPin | steps.AskSecret) -> Event | None:
        match effect:
            case steps.Choose(options=options):
                return steps.Chosen(reader=await self._interaction.choose("Which card?", options))
            case steps.AskLastTry(request=request):
                await self._interaction.confirm_last_try(request)
                return steps.Agreed()
            case steps.AskPin(request=request) if request.on_reader:
                await self._interaction.progress("type-pin-on-reader", tries_left=request.tries_left)
                return steps.PinTyped(pin=None)
            case steps.AskPin(request=request):
                return steps.PinTyped(pin=await self._interaction.ask_pin(request))
            case steps.AskSecret(method=method, username=username, offer=offer):
                return await self._ask_secret(method, username, offer)
            case _:
                assert_never(effect)

    async def _ask_secret(self, method: str, username: str, offer: Offer) -> Event:
        facts = {"rp_name": offer.name, "origin": offer.origin, "username": username}
        if method == steps.PASSWORD and not username:
            with await self._interaction.ask_text("username", facts) as typed:
                username = typed.reveal().decode("utf-8", "replace")
        kind = QUESTIONS.get(method, "code")
        secret = await self._interaction.ask_text(kind, {**facts, "username": username, "method": method})
        return steps.SecretTyped(username=username, secret=secret)

    async def _wait_for_device(self, offer: Offer) -> Event:
        readers, keys = await self._arrival(offer).wait(self._wait_seconds)
        return steps.DeviceThere(readers=readers, keys=keys, fresh=self._fresh(offer))

    async def _use_key(self, effect: steps.UseKey) -> Event:
        """The whole dialogue with a key; cancelled by `Withdraw` when a card is presented instead."""
        return steps.KeySigned(credential=await key_sign_in.sign(self._devices, self._interaction, self._site, effect))

    async def _card_beside_key(self, effect: steps.UseKey) -> Event | None:
        """Ends when a card is inserted while a key is asked for."""
        arrival = self._arrival(effect.offer)
        if not arrival.takes_card:
            return None
        await arrival.next_card()
        return steps.DeviceThere(readers=arrival.readers(), keys=arrival.keys(), fresh=True)

    def _arrival(self, offer: Offer) -> Arrival:
        return Arrival(self._devices, self._interaction, self._wish, offer)

    def _fresh(self, offer: Offer) -> bool:
        """Whether a person has the time to type a PIN. A replacement is taken as it comes: the clocks may disagree."""
        left = (offer.expires_at - datetime.now(UTC)).total_seconds()
        self._replaced = left <= FRESH_SECONDS and not self._replaced
        return not self._replaced

    async def _look(self, readers: Sequence[str], offer: Offer) -> Event:
        """Inspect all cards at once; claims the fitting ones until the ceremony ends or waits again."""
        terms = _terms(offer)
        found = await asyncio.gather(*(self._inspect(reader, terms) for reader in readers), return_exceptions=True)
        candidates, errors = [], []
        for result in found:
            if isinstance(result, TokenbridgeError):
                errors.append(result)
            elif isinstance(result, BaseException):
                raise result
            else:
                candidates.append(result)
        for candidate in candidates:
            self._start(self._watch(candidate.snapshot.reader))
        return steps.Looked(candidates=tuple(candidates), errors=tuple(errors))

    async def _inspect(self, reader: str, terms: Terms) -> Candidate:
        card = self._devices.card(reader)
        with ExitStack() as claim:
            claim.enter_context(self._devices.claim(card, self._wish.program))
            snapshot = await self._devices.run(
                card, lambda link, cancel: sign_in.inspect(link, cancel, self._known.get, terms)
            )
            fitting = certificates.fitting(snapshot.certificates, terms.issuers, terms.now)
            if not fitting:
                raise _no_certificate(snapshot, terms)
            authentication.check_algorithm(fitting[0], terms.algorithms)
            self._claims.enter_context(claim.pop_all())
        self._cards[reader] = card
        return Candidate(snapshot=snapshot, certificate=fitting[0])

    async def _watch(self, reader: str) -> Event:
        """Ends when the card of `reader` leaves."""
        card = self._cards[reader]
        async with self._devices.events() as events:
            while self._devices.picture.cards.get(reader) is card:
                event = await events.get()
                if event.kind is EventKind.SERVICE_DOWN:
                    break
        return steps.CardGone(reader=reader)

    async def _sign(self, effect: steps.Sign) -> Event:
        candidate, offer = effect.candidate, effect.offer
        ask = Ask(origin=self._site.origin, nonce=offer.nonce, terms=_terms(offer))
        card = self._cards[candidate.snapshot.reader]
        try:
            result = await self._devices.run(
                card,
                lambda link, cancel: sign_in.authorize(
                    link, cancel, candidate.snapshot, candidate.certificate, effect.pin, ask
                ),
                typing=effect.pin is None,
            )
        except (PinWrong, PinUnfit, PinBlocked) as err:
            return _pin_refused(err)
        finally:
            _wipe(effect.pin)
        match result:
            case Signed(token=token, snapshot=snapshot):
                return steps.TokenSigned(token=dict(token), snapshot=snapshot)
            case PinReferenceChanged(snapshot=snapshot):
                return steps.OtherPin(snapshot=snapshot)
            case _:
                assert_never(result)

    async def _prove(self, effect: steps.Prove) -> Event:
        transaction = effect.offer.transaction
        with effect.secret as secret:
            try:
                if effect.method == steps.PASSWORD:
                    verdict = await self._site.send_password(transaction, effect.username, secret)
                else:
                    verdict = await self._site.send_code(transaction, effect.method, secret)
            except RemoteError as err:
                if err.data.get("reason") in (RejectReason.CREDENTIALS_WRONG, RejectReason.CODE_WRONG):
                    return steps.TryAgain(error=err)
                raise
        return self._decided(verdict)

    def _decided(self, verdict: Verdict) -> Event:
        return steps.Decided(verdict=verdict, keys=usable_keys(self._devices, self._wish))

    def _remember(self, snapshot: CardSnapshot) -> None:
        if (known := snapshot.known()) is not None:
            self._known.put(known)

    async def _withdraw(self) -> None:
        question, self._question = self._question, None
        if question is not None and not question.done():
            question.cancel()
            await asyncio.wait({question})
            await self._interaction.progress("withdrawn")

    async def _release(self) -> None:
        await self._claims.aclose()
        self._claims = AsyncExitStack()
        self._cards.clear()

    async def _cancel_offer(self) -> None:
        offer, self._offer = self._offer, None
        if offer is not None:
            with contextlib.suppress(TokenbridgeError):  # it expires by itself
                await self._site.cancel(offer.transaction)

    async def _clean_up(self, state: State) -> None:
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)  # they hold claims: the next caller must not find the device taken
        await self._release()
        while not self._events.empty():
            _wipe_typed(self._events.get_nowait())
        if not (isinstance(state, Finished) and state.verdict is not None and state.verdict.decision != "challenge"):
            await self._cancel_offer()


def _terms(offer: Offer) -> Terms:
    return Terms(issuers=offer.issuers, algorithms=offer.algorithms, now=datetime.now(UTC))


def _wipe(pin: Secret | None) -> None:
    if pin is not None:
        pin.wipe()


def _wipe_typed(event: Event) -> None:
    match event:
        case steps.PinTyped(pin=secret) | steps.SecretTyped(secret=secret):
            _wipe(secret)


def _pin_refused(err: PinWrong | PinUnfit | PinBlocked) -> Event:
    match err:
        case PinWrong(tries_left=tries):
            return steps.TryAgain(error=err, tries_left=tries)
        case PinUnfit():
            return steps.TryAgain(error=err)
        case _:
            return steps.Failed(error=err)


def _no_certificate(snapshot: CardSnapshot, terms: Terms) -> NoUsableCertificate:
    reasons = [
        WHY.get(certificates.fitness(certificate, terms.issuers, terms.now), "")
        for certificate in snapshot.certificates.values()
    ]
    if not any(reasons):
        return NoUsableCertificate("The card has no certificate to sign in with.")
    return NoUsableCertificate(f"The card can't be used to sign in here: {'; '.join(filter(None, reasons))}.")


def _result(state: Finished) -> Verdict:
    if state.verdict is not None:
        return state.verdict
    raise state.error or TokenbridgeError(detail="ceremony ended without a result")
