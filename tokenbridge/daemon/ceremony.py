"""A sign-in as the bridge conducts it: a pure state machine `(state, event) -> (state, effects)`.

    Opening -> Waiting -> Looking -> [Choosing] -> [Confirming] -> Asking -> Signing -> Sending -> Finished
                 | ^------ card leaves while the person is asked -----'              ^    `-> Proving (challenge)
                 `-> Keying (a security key's dialogue) -----------------------------'

It performs nothing itself (`daemon.runner` does), holds no secret (a typed one passes through in event and effect) and
never asks for a second VERIFY with the same PIN. An event that does not fit the state, such as a late answer of
something withdrawn, changes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

from tokenbridge.card.base import CardSnapshot
from tokenbridge.daemon.site import Offer, Verdict
from tokenbridge.daemon.steps import (
    ANSWERABLE,
    APPROVED_ELSEWHERE,
    CARD,
    KEY,
    PASSWORD,
    Agreed,
    Asking,
    AskLastTry,
    AskPin,
    AskSecret,
    Candidate,
    CardGone,
    Choose,
    Choosing,
    Chosen,
    Confirming,
    Decided,
    DeviceThere,
    Effect,
    Event,
    Failed,
    Finished,
    Keying,
    KeySigned,
    KeyUnknown,
    Look,
    Looked,
    Looking,
    Open,
    Opened,
    Opening,
    OtherPin,
    PinTyped,
    Prove,
    Proving,
    Remember,
    SecretTyped,
    Send,
    Sending,
    SendKey,
    Sign,
    Signing,
    State,
    Step,
    Tell,
    TokenSigned,
    TryAgain,
    UseKey,
    WaitForApproval,
    WaitForDevice,
    Waiting,
    Wish,
    Withdraw,
)
from tokenbridge.errors import Cancelled, DeviceRemoved, NoDevice, NotAllowedNow, PinBlocked, TokenbridgeError
from tokenbridge.interaction import Option, PinRequest

# --- transitions -----------------------------------------------------------------------------------------------


MAX_REMOVALS: Final = 5
CARD_KEEPS_LEAVING: Final = "card keeps leaving the reader. Check how it sits"


def start(wish: Wish) -> Step:
    return Opening(wish=wish), (Open(),)


def step(state: State, event: Event) -> Step:
    """The one transition function; every pair has an answer."""
    match state, event:
        case Finished(), _:
            return state, ()
        case _, Failed(error=error):
            return _failed(state, error)
        case Opening(wish=wish), Opened(offer=offer):
            return _opened(wish, offer)
        case Waiting() | Keying(verdict=None), DeviceThere():
            return _device_there(state, event)
        case Looking(), Looked():
            return _looked(state, event)
        case Choosing(), Chosen(reader=reader):
            return _chosen(state, reader)
        case _, CardGone(reader=reader):
            return _card_gone(state, reader)
        case _:
            return _pin_and_after(state, event)


def _pin_and_after(state: State, event: Event) -> Step:
    match state, event:
        case Confirming(), Agreed():
            return _ask(state, state.candidate, state.last, agreed=True)
        case Asking(wish=wish, offer=offer, candidate=candidate, last=last), PinTyped(pin=pin):
            signing = Signing(wish=wish, offer=offer, candidate=candidate, last=last)
            return signing, (Sign(candidate=candidate, offer=offer, pin=pin),)
        case Signing(candidate=candidate), OtherPin(snapshot=snapshot):
            return _ask(state, replace(candidate, snapshot=snapshot), None)
        case Signing(), TryAgain():
            return _pin_again(state, event)
        case Signing(wish=wish, offer=offer), TokenSigned(token=token, snapshot=snapshot):
            return Sending(wish=wish, offer=offer), (Remember(snapshot=snapshot), Send(offer=offer, token=token))
        case _:
            return _after_signature(state, event)


def _after_signature(state: State, event: Event) -> Step:
    match state, event:
        case Keying(wish=wish, offer=offer), KeySigned(credential=credential):
            return Sending(wish=wish, offer=offer), (SendKey(offer=offer, credential=credential),)
        case Keying(), KeyUnknown():
            return _key_unknown(state, event)
        case Sending(), Decided():
            return _decided(state, event)
        case Proving(), _:
            return _proving(state, event)
        case _:
            return state, ()


def _proving(state: Proving, event: Event) -> Step:
    match event:
        case SecretTyped(username=username, secret=secret, method=sent):
            method = sent or state.method
            return state, (Prove(offer=state.offer, method=method, username=username, secret=secret),)
        case TryAgain(error=error):
            return _prove(replace(state, last=error), (Tell(step="try-again", facts=error.as_dict()),))
        case Decided():
            return _decided(state, event)
        case _:
            return state, ()


def _opened(wish: Wish, offer: Offer) -> Step:
    if wish.wants_password:
        return _prove(Proving(wish=wish, offer=offer, method=PASSWORD), ())
    if not (wish.wants_card and offer.takes_card) and not (wish.wants_key and offer.takes_key):
        return Finished(error=_not_taken(wish)), ()
    return Waiting(wish=wish, offer=offer), (WaitForDevice(offer=offer),)


def _not_taken(wish: Wish) -> NotAllowedNow:
    what = {CARD: "cards", KEY: "security keys"}.get(wish.method, "cards and no security keys")
    return NotAllowedNow(f"The site takes no {what}.", next_step="Sign in with a password: --user NAME.")


def _device_there(state: Waiting | Keying, event: DeviceThere) -> Step:
    """A card that is inserted while a key is asked for wins: it was presented now, the key may always be plugged in."""
    withdrawn: tuple[Effect, ...] = (Withdraw(),) if isinstance(state, Keying) else ()
    if not event.fresh:
        return Opening(wish=state.wish), (*withdrawn, Open())
    if event.readers:
        looking = Looking(wish=state.wish, offer=state.offer, keys=event.keys, presented=bool(withdrawn))
        return looking, (*withdrawn, Look(readers=event.readers, offer=state.offer))
    return _use_key(state, event.keys) if not withdrawn else (state, ())


def _use_key(state: Waiting | Keying | Looking | Choosing, keys: tuple[str, ...], *before: Effect) -> Step:
    use = UseKey(offer=state.offer, options=state.offer.key_options or {}, keys=keys, program=state.wish.program)
    return Keying(wish=state.wish, offer=state.offer, keys=keys), (*before, use)


def _looked(state: Looking, event: Looked) -> Step:
    if not event.candidates:
        # What is in a reader may be the very key that is also plugged in, or a bank card: no reason to stop.
        return _use_key(state, state.keys) if state.keys else _nothing_fits(state, event.errors)
    if len(event.candidates) == 1 and (state.presented or not state.keys):
        return _ask(state, event.candidates[0], None)
    return _choose(Choosing(wish=state.wish, offer=state.offer, candidates=event.candidates, keys=state.keys))


def _nothing_fits(state: Looking, errors: tuple[TokenbridgeError, ...]) -> Step:
    """A card that left (or bounced) while it was looked at may come back; any other error is the answer."""
    for error in errors:
        if not isinstance(error, DeviceRemoved | NoDevice):
            return Finished(error=error), ()
    told = tuple(Tell(step="card-removed", facts=error.as_dict()) for error in errors)
    return _wait_again(state, told)


def _wait_again(state: Looking | Choosing | Confirming | Asking | Keying, told: tuple[Effect, ...]) -> Step:
    removals = state.wish.removals + 1
    if removals > MAX_REMOVALS:
        what = "key keeps leaving. Check how it is plugged in" if isinstance(state, Keying) else CARD_KEEPS_LEAVING
        return Finished(error=DeviceRemoved(f"The {what}.")), told
    following, effects = _opened(replace(state.wish, removals=removals), state.offer)
    return following, (*told, *effects)


def _option(candidate: Candidate) -> Option:
    facts = candidate.certificate.facts
    issuer = f"{facts.issuer}, " if facts is not None else ""
    reader = candidate.snapshot.reader
    return Option(id=reader, label=candidate.snapshot.holder, detail=f"{issuer}in {reader}")


def _choose(state: Choosing) -> Step:
    options = tuple(_option(candidate) for candidate in state.candidates)
    if state.keys:
        several = f"one of {len(state.keys)}" if len(state.keys) > 1 else ""
        options += (Option(id=KEY, label="Security key", detail=several),)
    return state, (Choose(options=options),)


def _chosen(state: Choosing, reader: str) -> Step:
    if reader == KEY and state.keys:
        return _use_key(state, state.keys)
    for candidate in state.candidates:
        if candidate.snapshot.reader == reader:
            return _ask(state, candidate, None)
    return _choose(state)


def _ask(
    state: Looking | Choosing | Confirming | Signing,
    candidate: Candidate,
    last: TokenbridgeError | None,
    *,
    agreed: bool = False,
) -> Step:
    """Ask for the PIN, or first for consent when the last try is left; nobody is asked for a blocked PIN."""
    if candidate.snapshot.tries_left == 0:
        return Finished(error=last if isinstance(last, PinBlocked) else PinBlocked(sw=0x6983)), ()
    request = _request(state.wish, state.offer, candidate.snapshot)
    if request.last_try and not agreed:
        confirming = Confirming(wish=state.wish, offer=state.offer, candidate=candidate, last=last)
        return confirming, (AskLastTry(request=request),)
    asking = Asking(wish=state.wish, offer=state.offer, candidate=candidate, last=last)
    return asking, (AskPin(request=request, reader=candidate.snapshot.reader),)


def _request(wish: Wish, offer: Offer, snapshot: CardSnapshot) -> PinRequest:
    return PinRequest(
        purpose="sign-in",
        rp_name=offer.name,
        origin=offer.origin,
        program=wish.program,
        card=snapshot.guid,
        holder=snapshot.holder,
        tries_left=snapshot.tries_left,
        on_reader=snapshot.on_reader,
    )


def _pin_again(state: Signing, event: TryAgain) -> Step:
    snapshot = state.candidate.snapshot
    tries = snapshot.tries_left if event.tries_left is None else event.tries_left
    candidate = replace(state.candidate, snapshot=replace(snapshot, tries_left=tries))
    following, effects = _ask(state, candidate, event.error)
    return following, (Tell(step="try-again", facts=event.error.as_dict()), *effects)


def _card_gone(state: State, reader: str) -> Step:
    """While a person is asked, the card may come back: wait for it again. While it works, its own job reports."""
    match state:
        case Confirming() | Asking() if state.candidate.snapshot.reader == reader:
            pass
        case Choosing() if any(candidate.snapshot.reader == reader for candidate in state.candidates):
            pass
        case _:
            return state, ()
    return _wait_again(state, (Withdraw(), Tell(step="card-removed", facts={"reader": reader})))


def _decided(state: Sending | Proving, event: Decided) -> Step:
    verdict = event.verdict
    if verdict.decision != "challenge":
        return Finished(verdict=verdict), ()
    told = Tell(step="challenged", facts=dict(verdict.data))
    if KEY in verdict.methods and verdict.key_options is not None and event.keys and not state.wish.fallback:
        keying = Keying(wish=state.wish, offer=state.offer, keys=event.keys, verdict=verdict)
        program = state.wish.program
        use = UseKey(offer=state.offer, options=verdict.key_options, keys=event.keys, program=program)
        return keying, (told, use)
    return _prove_otherwise(state, verdict, told)


def _prove_otherwise(state: Sending | Proving | Keying, verdict: Verdict, *before: Effect) -> Step:
    wanted = [method for method in verdict.methods if method in ANSWERABLE]
    if not wanted:
        return Finished(verdict=verdict), before[1:]
    method = state.wish.fallback if state.wish.fallback in wanted else wanted[0]
    return _prove(Proving(wish=state.wish, offer=state.offer, method=method, verdict=verdict), before)


def _prove(state: Proving, before: tuple[Effect, ...]) -> Step:
    if state.method in APPROVED_ELSEWHERE:
        return state, (*before, WaitForApproval(method=state.method, offer=state.offer))
    return state, (*before, AskSecret(method=state.method, username=state.wish.username, offer=state.offer))


def _failed(state: State, error: TokenbridgeError) -> Step:
    """A person who declines after a mistake hears of the mistake; who declines a challenge, of the challenge."""
    if isinstance(state, Keying):
        return _key_failed(state, error)
    if isinstance(error, Cancelled) and error.by == "user":
        if isinstance(state, Proving) and state.verdict is not None and state.last is None:
            return Finished(verdict=state.verdict), ()
        last = state.last if isinstance(state, Confirming | Asking | Signing | Proving) else None
        return Finished(error=last or error), ()
    if isinstance(state, Waiting) and isinstance(error, NoDevice):
        return Finished(error=state.last or error), ()
    return Finished(error=error), ()


def _key_failed(state: Keying, error: TokenbridgeError) -> Step:
    """A key that leaves may come back. One that was only the first of several ways leaves the others."""
    if state.verdict is not None and not _by_person(error):
        return _prove_otherwise(state, state.verdict, Tell(step="try-again", facts=error.as_dict()))
    if isinstance(error, DeviceRemoved) and state.verdict is None:
        return _wait_again(state, (Tell(step="key-removed", facts=error.as_dict()),))
    if state.verdict is not None:
        return Finished(verdict=state.verdict), ()
    return Finished(error=error), ()


def _key_unknown(state: Keying, event: KeyUnknown) -> Step:
    """It may only be the key that is always plugged in: other keys are to be had, or a card that may come."""
    others = tuple(path for path in state.keys if path != event.key)
    told = Tell(step="try-again", facts=event.error.as_dict())
    if others:
        use = UseKey(offer=state.offer, options=_options(state), keys=others, program=state.wish.program)
        return replace(state, keys=others, tried=(*state.tried, event.key)), (told, use)
    if state.verdict is None and state.wish.wants_card and state.offer.takes_card:
        waiting = Waiting(wish=state.wish, offer=state.offer, last=event.error)
        return waiting, (told, WaitForDevice(offer=state.offer, without=(*state.tried, event.key)))
    return _key_failed(state, event.error)


def _options(state: Keying) -> Mapping[str, Any]:
    return (state.offer.key_options if state.verdict is None else state.verdict.key_options) or {}


def _by_person(error: TokenbridgeError) -> bool:
    return isinstance(error, Cancelled) and error.by == "user"
