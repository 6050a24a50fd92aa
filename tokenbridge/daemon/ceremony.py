"""A sign-in as the bridge conducts it: a pure state machine `(state, event) -> (state, effects)`.

    Opening -> Waiting -> Looking -> [Choosing] -> [Confirming] -> Asking -> Signing -> Sending -> Finished
                  ^----- card leaves while the person is asked -----'                     `-> Proving (challenge)

It performs nothing itself (`daemon.runner` does), holds no secret (a typed one passes through in event and effect) and
never asks for a second VERIFY with the same PIN. An event that does not fit the state, such as a late answer of
something withdrawn, changes nothing.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from tokenbridge.card.base import CardSnapshot
from tokenbridge.daemon.site import Offer, Verdict
from tokenbridge.daemon.steps import (
    ANSWERABLE,
    PASSWORD,
    Agreed,
    Asking,
    AskLastTry,
    AskPin,
    AskSecret,
    Candidate,
    CardGone,
    CardThere,
    Choose,
    Choosing,
    Chosen,
    Confirming,
    Decided,
    Effect,
    Event,
    Failed,
    Finished,
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
    Sign,
    Signing,
    State,
    Step,
    Tell,
    TokenSigned,
    TryAgain,
    WaitForCard,
    Waiting,
    Wish,
    Withdraw,
)
from tokenbridge.errors import Cancelled, DeviceRemoved, NoDevice, NotAllowedNow, PinBlocked, TokenbridgeError
from tokenbridge.interaction import Option, PinRequest

# --- transitions -----------------------------------------------------------------------------------------------


MAX_REMOVALS: Final = 5


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
        case Waiting(), CardThere():
            return _card_there(state, event)
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
        case Sending(), Decided(verdict=verdict):
            return _decided(state, verdict)
        case Proving(), _:
            return _proving(state, event)
        case _:
            return state, ()


def _proving(state: Proving, event: Event) -> Step:
    match event:
        case SecretTyped(username=username, secret=secret):
            return state, (Prove(offer=state.offer, method=state.method, username=username, secret=secret),)
        case TryAgain(error=error):
            return _prove(replace(state, last=error), (Tell(step="try-again", facts=error.as_dict()),))
        case Decided(verdict=verdict):
            return _decided(state, verdict)
        case _:
            return state, ()


def _opened(wish: Wish, offer: Offer) -> Step:
    if wish.username:
        return _prove(Proving(wish=wish, offer=offer, method=PASSWORD), ())
    if not offer.takes_card:
        step = "Sign in with a password: --user NAME."
        return Finished(error=NotAllowedNow("The site takes no cards.", next_step=step)), ()
    return Waiting(wish=wish, offer=offer), (WaitForCard(offer=offer),)


def _card_there(state: Waiting, event: CardThere) -> Step:
    if not event.fresh:
        return Opening(wish=state.wish), (Open(),)
    return Looking(wish=state.wish, offer=state.offer), (Look(readers=event.readers, offer=state.offer),)


def _looked(state: Looking, event: Looked) -> Step:
    match event.candidates:
        case ():
            return _nothing_fits(state, event.errors)
        case (candidate,):
            return _ask(state, candidate, None)
        case candidates:
            return _choose(Choosing(wish=state.wish, offer=state.offer, candidates=candidates))


def _nothing_fits(state: Looking, errors: tuple[TokenbridgeError, ...]) -> Step:
    """A card that left (or bounced) while it was looked at may come back; any other error is the answer."""
    for error in errors:
        if not isinstance(error, DeviceRemoved | NoDevice):
            return Finished(error=error), ()
    told = tuple(Tell(step="card-removed", facts=error.as_dict()) for error in errors)
    return _wait_again(state, told)


def _wait_again(state: Looking | Choosing | Confirming | Asking, told: tuple[Effect, ...]) -> Step:
    removals = state.wish.removals + 1
    if removals > MAX_REMOVALS:
        return Finished(error=DeviceRemoved("The card keeps leaving the reader. Check how it sits.")), told
    following, effects = _opened(replace(state.wish, removals=removals), state.offer)
    return following, (*told, *effects)


def _option(candidate: Candidate) -> Option:
    facts = candidate.certificate.facts
    issuer = facts.issuer if facts is not None else ""
    return Option(id=candidate.snapshot.reader, label=candidate.snapshot.holder, detail=issuer)


def _choose(state: Choosing) -> Step:
    return state, (Choose(options=tuple(_option(candidate) for candidate in state.candidates)),)


def _chosen(state: Choosing, reader: str) -> Step:
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


def _decided(state: Sending | Proving, verdict: Verdict) -> Step:
    if verdict.decision != "challenge":
        return Finished(verdict=verdict), ()
    method = next((m for m in verdict.methods if m in ANSWERABLE), "")
    if not method:
        return Finished(verdict=verdict), ()
    proving = Proving(wish=state.wish, offer=state.offer, method=method, verdict=verdict)
    return _prove(proving, (Tell(step="challenged", facts=dict(verdict.data)),))


def _prove(state: Proving, before: tuple[Effect, ...]) -> Step:
    return state, (*before, AskSecret(method=state.method, username=state.wish.username, offer=state.offer))


def _failed(state: State, error: TokenbridgeError) -> Step:
    """A person who declines after a mistake hears of the mistake; who declines a challenge, of the challenge."""
    if isinstance(error, Cancelled) and error.by == "user":
        if isinstance(state, Proving) and state.verdict is not None and state.last is None:
            return Finished(verdict=state.verdict), ()
        last = state.last if isinstance(state, Confirming | Asking | Signing | Proving) else None
        return Finished(error=last or error), ()
    return Finished(error=error), ()
