"""The card's part of a sign-in, in two transactions: look at the card, then, after the person typed the PIN, sign.

No transaction is held while a person is waited for. The second one therefore starts by proving that the PIV application
is still the selected one, before a PIN is sent: a PIN must never reach another program's application.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

from tokenbridge.card import authentication, certificates
from tokenbridge.card.base import CardCertificate, CardSnapshot, KnownCard, PinReference, Slot
from tokenbridge.card.channel import Channel, Check
from tokenbridge.card.piv import Piv
from tokenbridge.card.registry import open_card
from tokenbridge.errors import ObjectMissing, WrongKey
from tokenbridge.interaction import Secret
from tokenbridge.transport.base import CardLink

Memory = Callable[[str], KnownCard | None]
"""GUID -> what is remembered of that card."""

ALL_SLOTS: Final = tuple(Slot)


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What the relying party accepts, and the time by which validity is judged."""

    issuers: Collection[bytes]
    algorithms: Collection[str]
    now: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Signed:
    """A signed token, and the snapshot as it is now (`tries_left` is full again, unknown)."""

    token: Mapping[str, str]
    snapshot: CardSnapshot


@dataclass(frozen=True, slots=True, kw_only=True)
class PinReferenceChanged:
    """The card wants its other PIN: nothing was sent. Ask again with what `snapshot` says now."""

    snapshot: CardSnapshot


def inspect(link: CardLink, cancel: Check, memory: Memory, terms: Terms) -> CardSnapshot:
    """Look at the card as far as a sign-in needs it: who it is, which certificate, how many tries are left.

    A remembered card costs three APDUs: its certificate is not read again.
    """
    with link.transaction():
        piv = open_card(link, cancel)
        guid = piv.guid()
        known = memory(guid) if guid else None
        if known is not None and _stale(known, terms):
            known = None
        found = _recall(known) if known is not None else _read_until_one_fits(piv, terms)
        return _snapshot(piv, link, guid, known, found)


def survey(link: CardLink, cancel: Check) -> CardSnapshot:
    """Look at everything: all certificates and the discovery object, freshly read."""
    with link.transaction():
        piv = open_card(link, cancel)
        guid = piv.guid()
        found = {slot: piv.certificate(slot) for slot in ALL_SLOTS}
        snapshot = _snapshot(piv, link, guid, None, found)
        return _confirm_reference(piv, snapshot)


def authorize(
    link: CardLink, cancel: Check, snapshot: CardSnapshot, certificate: CardCertificate, pin: Secret | None, ask: Ask
) -> Signed | PinReferenceChanged:
    """Verify `pin` (None: typed on the reader) and sign, in one transaction.

    Raises `PinUnfit` (nothing sent), `PinWrong`, `PinBlocked`, the `DeviceError` family. Afterwards the card is
    reset, so that no other program finds it unlocked.
    """
    with link.transaction(reset_after=True):
        piv = Piv(Channel(link, cancel))
        current = _confirm_reference(piv, snapshot)
        if _means_something_else(current, snapshot):
            return PinReferenceChanged(snapshot=current)
        if pin is None:
            piv.verify_on_reader(current.pin_reference)
        else:
            piv.verify(current.pin_reference, pin)
        return _sign(piv, current, certificate, ask)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """What is to be signed: never more than this."""

    origin: str
    nonce: str
    terms: Terms


def _means_something_else(current: CardSnapshot, shown: CardSnapshot) -> bool:
    """Whether the card wants its other PIN, and the tries that the person was shown are not those of that PIN.

    With the same tries left, the person has agreed to exactly what is about to be spent.
    """
    return current.pin_reference is not shown.pin_reference and current.tries_left != shown.tries_left


def _sign(piv: Piv, snapshot: CardSnapshot, certificate: CardCertificate, ask: Ask) -> Signed:
    terms = ask.terms
    try:
        token = authentication.sign(piv, certificate, origin=ask.origin, nonce=ask.nonce, algorithms=terms.algorithms)
        return Signed(token=token, snapshot=replace(snapshot, tries_left=None))
    except WrongKey:
        if not snapshot.from_memory:
            raise
    # The card has been given a new certificate since it was remembered. The PIN stands: read it and sign again.
    fresh = certificates.read(certificate.slot, piv.certificate(certificate.slot))
    token = authentication.sign(piv, fresh, origin=ask.origin, nonce=ask.nonce, algorithms=terms.algorithms)
    renewed = replace(
        snapshot,
        certificates={fresh.slot: fresh},
        looked_at=frozenset({fresh.slot}),
        from_memory=False,
        tries_left=None,
    )
    return Signed(token=token, snapshot=renewed)


def _stale(known: KnownCard, terms: Terms) -> bool:
    """Whether memory holds nothing that fits: then the card may have been given something better."""
    return not certificates.fitting(_parse(_recall(known).items()), terms.issuers, terms.now)


def _recall(known: KnownCard) -> dict[Slot, bytes]:
    return dict(known.certificates)


def _parse(found: Iterable[tuple[Slot, bytes]]) -> dict[Slot, CardCertificate]:
    return {slot: certificates.read(slot, der) for slot, der in found if der}


def _read_until_one_fits(piv: Piv, terms: Terms) -> dict[Slot, bytes]:
    """Read the slots meant for signing in, in order; stop at the first that fits, since its usage decides."""
    found: dict[Slot, bytes] = {}
    for slot in certificates.SIGN_IN_SLOTS:
        found[slot] = piv.certificate(slot)
        if certificates.fitting(_parse(found.items()), terms.issuers, terms.now):
            break
    return found


def _snapshot(
    piv: Piv, link: CardLink, guid: str, known: KnownCard | None, found: Mapping[Slot, bytes]
) -> CardSnapshot:
    reference = known.pin_reference if known is not None else PinReference.APPLICATION
    try:
        tries = piv.tries_left(reference)
        confirmed, has_discovery = known is not None, known.has_discovery if known is not None else True
    except ObjectMissing:
        # No application PIN: the discovery object says which one there is.
        discovery = piv.discovery()
        reference = discovery.pin_reference if discovery is not None else PinReference.GLOBAL
        tries, confirmed, has_discovery = piv.tries_left(reference), True, discovery is not None
    return CardSnapshot(
        reader=link.reader,
        atr=link.atr,
        guid=guid,
        pin_reference=reference,
        pin_reference_confirmed=confirmed,
        has_discovery=has_discovery,
        tries_left=tries,
        certificates=_parse(found.items()),
        looked_at=frozenset(found),
        from_memory=known is not None,
        on_reader=link.has_pin_pad,
    )


def _confirm_reference(piv: Piv, snapshot: CardSnapshot) -> CardSnapshot:
    """Prove that PIV is selected, and which PIN it wants: by the discovery object, or without one by selecting anew."""
    discovery = piv.discovery() if snapshot.has_discovery else None
    if discovery is None:
        # Either the card has no such object, or another application was selected (or the card reset) meanwhile.
        piv.select()
        discovery = piv.discovery() if snapshot.has_discovery else None
    if discovery is None:
        return replace(snapshot, has_discovery=False, pin_reference_confirmed=True)
    if discovery.pin_reference is snapshot.pin_reference:
        return replace(snapshot, pin_reference_confirmed=True)
    return replace(
        snapshot,
        pin_reference=discovery.pin_reference,
        pin_reference_confirmed=True,
        tries_left=piv.tries_left(discovery.pin_reference),
    )
