"""A card's part of a sign-in: which of the cards that are there fit, and the signature by the one that was chosen.

The cards that fit are kept from other callers until `release`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import AsyncExitStack, ExitStack
from datetime import UTC, datetime
from typing import Final, assert_never

from tokenbridge.card import authentication, certificates, sign_in
from tokenbridge.card.base import CardSnapshot, Fitness
from tokenbridge.card.sign_in import Ask, PinReferenceChanged, Signed, Terms
from tokenbridge.daemon import steps
from tokenbridge.daemon.devices import Card, Devices
from tokenbridge.daemon.known_cards import KnownCards
from tokenbridge.daemon.site import Offer
from tokenbridge.daemon.steps import Candidate, Event
from tokenbridge.errors import NoUsableCertificate, PinBlocked, PinUnfit, PinWrong, TokenbridgeError
from tokenbridge.transport.base import EventKind

WHY: Final = {
    Fitness.EXPIRED: "its certificate has expired",
    Fitness.NOT_YET_VALID: "its certificate is not valid yet",
    Fitness.WRONG_USAGE: "its certificate is not meant for signing in",
    Fitness.ISSUER_NOT_ACCEPTED: "the site does not accept who issued its certificate",
    Fitness.KEY_UNSUPPORTED: "its key is of a kind that can't be used",
    Fitness.UNREADABLE: "its certificate can't be read",
}


class CardSignIn:
    """For one ceremony of `program` at `origin`."""

    def __init__(self, devices: Devices, known: KnownCards, origin: str, program: str) -> None:
        self._devices = devices
        self._known = known
        self._origin = origin
        self._program = program
        self._claims = AsyncExitStack()
        self._cards: dict[str, Card] = {}

    async def look(self, readers: Sequence[str], offer: Offer) -> steps.Looked:
        """Inspect all cards at once; claims the fitting ones."""
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
        return steps.Looked(candidates=tuple(candidates), errors=tuple(errors))

    async def _inspect(self, reader: str, terms: Terms) -> Candidate:
        card = self._devices.card(reader)
        with ExitStack() as claim:
            claim.enter_context(self._devices.claim(card, self._program))
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

    async def watch(self, reader: str) -> Event:
        """Ends when the card of `reader` leaves."""
        card = self._cards[reader]
        async with self._devices.events() as events:
            while self._devices.picture.cards.get(reader) is card:
                event = await events.get()
                if event.kind is EventKind.SERVICE_DOWN:
                    break
        return steps.CardGone(reader=reader)

    async def sign(self, effect: steps.Sign) -> Event:
        """Sends the PIN once; it is wiped."""
        candidate, offer = effect.candidate, effect.offer
        ask = Ask(origin=self._origin, nonce=offer.nonce, terms=_terms(offer))
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
            if effect.pin is not None:
                effect.pin.wipe()
        match result:
            case Signed(token=token, snapshot=snapshot):
                return steps.TokenSigned(token=dict(token), snapshot=snapshot)
            case PinReferenceChanged(snapshot=snapshot):
                return steps.OtherPin(snapshot=snapshot)
            case _:
                assert_never(result)

    def remember(self, snapshot: CardSnapshot) -> None:
        if (known := snapshot.known()) is not None:
            self._known.put(known)

    async def release(self) -> None:
        """Give the cards back to other callers."""
        await self._claims.aclose()
        self._claims = AsyncExitStack()
        self._cards.clear()


def _terms(offer: Offer) -> Terms:
    return Terms(issuers=offer.issuers, algorithms=offer.algorithms, now=datetime.now(UTC))


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
