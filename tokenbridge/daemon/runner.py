"""Carries out what `ceremony` decides: talks to site, card and person, and turns what happens into events.

Cancelling it (the client went away) withdraws the question, stops the card between two APDUs, gives the card back and
tells the site.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Coroutine, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Final, assert_never

from tokenbridge.daemon import ceremony, key_sign_in, steps
from tokenbridge.daemon.arrival import Arrival, usable_keys
from tokenbridge.daemon.card_sign_in import CardSignIn
from tokenbridge.daemon.devices import Devices
from tokenbridge.daemon.known_cards import KnownCards
from tokenbridge.daemon.prompts import StreamInteraction
from tokenbridge.daemon.site import Message, Offer, Site, Verdict
from tokenbridge.daemon.steps import Effect, Event, Finished, State, Wish
from tokenbridge.errors import RejectReason, RemoteError, SendFailed, SendFault, TokenbridgeError
from tokenbridge.fido.request import assertion_request
from tokenbridge.interaction import Secret
from tokenbridge.log import get

FRESH_SECONDS: Final = 150
"""An offer that ends sooner is replaced before a person is asked: the prompt itself may take two minutes."""

_log = get("sign-in")

FIRST_LOOK: Final = 1.0
LONGEST_LOOK: Final = 5.0
"""Seconds between two looks whether a telephone has answered."""
FIRST_LOOK_AT_MESSAGE: Final = 2.0
LONGEST_LOOK_AT_MESSAGE: Final = 15.0
"""The same for whether a message has got there."""
QUESTIONS: Final = {steps.PASSWORD: "password", steps.RECOVERY: "recovery-code"}


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
        self._cards = CardSignIn(bridge.devices, bridge.known, site.origin, wish.program)
        self._site = site
        self._interaction = interaction
        self._wish = wish
        self._events: asyncio.Queue[tuple[asyncio.Task[Any] | None, Event]] = asyncio.Queue()
        """Each with the task that tells it."""
        self._tasks: set[asyncio.Task[None]] = set()
        self._question: asyncio.Task[None] | None = None
        self._beside: asyncio.Task[None] | None = None
        """Looks out for a card while a key is asked for."""
        self._withdrawn: set[asyncio.Task[None]] = set()
        self._arrival: Arrival | None = None
        self._offer: Offer | None = None
        self._message: Message | None = None
        self._undelivered: list[str] = []
        """By what messages were sent that did not get there."""
        self._replaced = False
        """Whether the offer has just been replaced because it seemed to end too soon."""

    async def run(self) -> Verdict:
        """The site's verdict. Raises `TokenbridgeError`."""
        state, effects = ceremony.start(self._wish)
        try:
            while not isinstance(state, Finished):
                for effect in effects:
                    await self._perform(effect)
                event = await self._next()
                state, effects = ceremony.step(state, event)
                if not any(isinstance(effect, steps.Sign | steps.Prove) for effect in effects):
                    _wipe_typed(event)  # it came too late to be used
            return self._with_lost(_result(state))
        finally:
            await self._clean_up(state)

    def _with_lost(self, verdict: Verdict) -> Verdict:
        """For programs, which read the outcome only: by what messages were sent that did not get there."""
        if not self._undelivered:
            return verdict
        return replace(verdict, data={**verdict.data, "undelivered": self._undelivered})

    async def _perform(self, effect: Effect) -> None:
        match effect:
            case steps.Tell(step=step, facts=facts):
                await self._interaction.progress(step, **{k: v for k, v in facts.items() if k != "step"})
            case steps.Remember(snapshot=snapshot):
                self._cards.remember(snapshot)
            case steps.Withdraw():
                await self._withdraw()
            case steps.WaitForDevice():
                self._disregard(self._beside)
                await self._cards.release()
                self._start(self._wait_for_device(effect))
            case steps.UseKey():
                self._disregard(self._beside)
                self._question = self._start(self._use_key(effect))
                self._beside = self._start(self._card_beside_key(effect))
            case steps.Choose() | steps.AskLastTry() | steps.AskPin() | steps.AskSecret():
                self._question = self._start(self._ask(effect))
            case steps.WaitForApproval():
                self._start(self._wait_for_approval(effect))
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
            self._events.put_nowait((task, steps.Failed(error=TokenbridgeError(detail=repr(err)))))

    async def _report(self, work: Coroutine[Any, Any, Event | None]) -> None:
        try:
            event = await work
        except TokenbridgeError as err:
            event = steps.Failed(error=err)
        if event is not None:
            self._events.put_nowait((asyncio.current_task(), event))

    async def _next(self) -> Event:
        """The next event. What a withdrawn question had come to before it was withdrawn is none of them."""
        while True:
            task, event = await self._events.get()
            if task not in self._withdrawn:
                return event
            _wipe_typed(event)

    async def _work(
        self, effect: steps.Open | steps.Look | steps.Sign | steps.Send | steps.SendKey | steps.Prove
    ) -> Event | None:
        match effect:
            case steps.Open():
                await self._cancel_offer()
                self._offer = await self._site.open(self._wish.username if self._wish.method == steps.KEY else "")
                return steps.Opened(offer=self._usable(self._offer))
            case steps.Look():
                return await self._look(effect)
            case steps.Sign():
                return await self._cards.sign(effect)
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
                title = "Card or security key?" if steps.KEY in [option.id for option in options] else "Which card?"
                return steps.Chosen(reader=await self._interaction.choose(title, options))
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
        facts["username"] = username
        if method in steps.STARTED_FIRST:
            return await self._ask_code(method, offer, facts)
        secret = await self._interaction.ask_text(QUESTIONS.get(method, "code"), {**facts, "method": method})
        return steps.SecretTyped(username=username, secret=secret, method=method)

    async def _ask_code(self, method: str, offer: Offer, facts: Mapping[str, str]) -> Event:
        """Ask for the code of a message; once more when another message has taken its place. Raises `SendFailed` when
        it is lost and none has."""
        message = await self._sent(method, offer)
        while True:
            told = {**facts, "method": message.method, "sent_to": message.sent_to}
            asking = asyncio.create_task(self._interaction.ask_text("code", told))
            watching = asyncio.create_task(self._changed(message, offer))
            secret = await _typed_before(asking, watching)
            if secret is not None:
                return steps.SecretTyped(username=facts["username"], secret=secret, method=message.method)
            message = await self._replaced_by(message, watching.result())

    async def _changed(self, message: Message, offer: Offer) -> Message:
        """What the site says of a message once it is lost; it waits for ever while it may still come, and where nobody
        can tell."""
        wait = FIRST_LOOK_AT_MESSAGE
        while message.watched:
            await asyncio.sleep(wait)
            wait = min(wait * 1.3, LONGEST_LOOK_AT_MESSAGE)
            try:
                found = await self._site.message(offer.transaction)
            except TokenbridgeError as err:
                _log.info("what became of the message is not known: %s", err.message)
                continue
            if found.lost or found.method != message.method:
                return replace(found, watched=True)
        never: asyncio.Future[Message] = asyncio.get_running_loop().create_future()
        return await never

    async def _replaced_by(self, message: Message, found: Message) -> Message:
        """Tell the person, whose open question is void."""
        self._undelivered.append(message.method)
        await self._interaction.progress("withdrawn")
        await self._interaction.progress(
            "message-lost", method=message.method, instead="" if found.lost else found.method, sent_to=found.sent_to
        )
        if found.lost:
            error = SendFailed(SendFault.RECIPIENT)
            error.message, error.hint = "The message could not be delivered.", "Sign in by another method (--by)."
            raise error
        self._message = found
        return found

    async def _wait_for_approval(self, effect: steps.WaitForApproval) -> Event:
        """The site ends it: it says that there is an answer when the question is too old, and fails when all is."""
        transaction = effect.offer.transaction
        message = await self._sent(effect.method, effect.offer)
        what = "approve-on-phone" if message.number else "answer-call"
        await self._interaction.progress(what, number=message.number, sent_to=message.sent_to)
        wait = FIRST_LOOK
        while not await self._site.is_answered(transaction):
            await asyncio.sleep(wait)
            wait = min(wait * 1.3, LONGEST_LOOK)
        return self._decided(await self._site.send_approval(transaction))

    async def _sent(self, method: str, offer: Offer) -> Message:
        """The message of this sign-in: sent once, also when the code is typed again."""
        if self._message is None:
            self._message = await self._site.start_method(offer.transaction, method)
        return self._message

    def _usable(self, offer: Offer) -> Offer:
        """What a site asks of keys may be nonsense; that is no reason to refuse a card."""
        if not (offer.key_options is not None and offer.takes_card and self._wish.wants_card):
            return offer
        try:
            assertion_request(offer.key_options, self._site.origin)
        except TokenbridgeError as err:
            _log.warning("%s takes no keys: %s %s", self._site.origin, err.message, err.detail)
            return replace(offer, key_options=None)
        return offer

    async def _wait_for_device(self, effect: steps.WaitForDevice) -> Event:
        self._arrival = Arrival(self._devices, self._interaction, self._wish, effect.offer, effect.without)
        readers, keys = await self._arrival.wait(self._wait_seconds)
        return steps.DeviceThere(readers=readers, keys=keys, fresh=self._fresh(effect.offer))

    async def _use_key(self, effect: steps.UseKey) -> Event:
        """The whole dialogue with a key; cancelled by `Withdraw` when a card is presented instead."""
        return await key_sign_in.use(self._devices, self._interaction, self._site.origin, effect)

    async def _card_beside_key(self, effect: steps.UseKey) -> Event | None:
        """Ends when a card is inserted while a key is asked for."""
        arrival = self._arrival
        if arrival is None or not arrival.takes_card:
            return None
        readers = await arrival.next_card()
        return steps.DeviceThere(readers=readers, keys=arrival.keys(), fresh=self._fresh(effect.offer))

    async def _look(self, effect: steps.Look) -> Event:
        looked = await self._cards.look(effect.readers, effect.offer)
        for candidate in looked.candidates:
            self._start(self._cards.watch(candidate.snapshot.reader))
        return looked

    def _fresh(self, offer: Offer) -> bool:
        """Whether a person has the time to type a PIN. A replacement is taken as it comes: the clocks may disagree."""
        left = (offer.expires_at - datetime.now(UTC)).total_seconds()
        self._replaced = left <= FRESH_SECONDS and not self._replaced
        return not self._replaced

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

    async def _withdraw(self) -> None:
        question, self._question = self._question, None
        if question is None or not self._disregard(question):
            return
        await asyncio.wait({question})
        await self._interaction.progress("withdrawn")

    def _disregard(self, task: asyncio.Task[None] | None) -> bool:
        """End `task`; what it has come to is not heard any more. Whether it was under way."""
        if task is None:
            return False
        self._withdrawn.add(task)
        return task.cancel()

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
        await self._cards.release()
        while not self._events.empty():
            _wipe_typed(self._events.get_nowait()[1])
        if not (isinstance(state, Finished) and state.verdict is not None and state.verdict.decision != "challenge"):
            await self._cancel_offer()


async def _typed_before(asking: asyncio.Task[Secret], other: asyncio.Task[Any]) -> Secret | None:
    """What was typed, or None when `other` ended first. Neither goes on after it; raises what `asking` raises."""
    typed = False
    try:
        await asyncio.wait({asking, other}, return_when=asyncio.FIRST_COMPLETED)
        typed = asking.done()
        return asking.result() if typed else None
    finally:
        for task in (asking, other):
            task.cancel()
        await asyncio.wait({asking, other})
        if not typed and not asking.cancelled() and asking.exception() is None:
            asking.result().wipe()  # it came when nobody waited for it any more


def _wipe(pin: Secret | None) -> None:
    if pin is not None:
        pin.wipe()


def _wipe_typed(event: Event) -> None:
    match event:
        case steps.PinTyped(pin=secret) | steps.SecretTyped(secret=secret):
            _wipe(secret)


def _result(state: Finished) -> Verdict:
    if state.verdict is not None:
        return state.verdict
    raise state.error or TokenbridgeError(detail="ceremony ended without a result")
