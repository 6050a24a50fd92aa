"""Staff cards in memory and `DirectLink`, the in-process link to them: the driver above is the real one."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache

import pytest

from tokenbridge.card import certificates, sign_in
from tokenbridge.card.base import CardSnapshot, KnownCard
from tokenbridge.card.sign_in import Ask, PinReferenceChanged, Signed, Terms
from tokenbridge.errors import DeviceRemoved
from tokenbridge.interaction import Secret
from tokenbridge.rig import piv_crypto
from tokenbridge.rig.piv_crypto import Algorithm, PrivateKey
from tokenbridge.rig.pki import Profile, RigPki, Variant
from tokenbridge.rig.virtual_card import CardProfile, VirtualCard
from tokenbridge.wire.apdu import INS

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
ORIGIN = "https://localhost:8443"
NONCE = b64encode(bytes(range(32))).decode()
ALGORITHMS = ("ES256", "ES384", "RS256")
PIN = b"123456"
WRONG_PIN = b"654321"
PUK = b"12345678"


@dataclass
class DirectLink:
    """`transport.base.CardLink` on a card in this process.

    It can lose the card at its APDU number `cut_at` (from 1): before the card has seen the command, or, with
    `cut_answer`, after the card has carried it out and before the answer is out.
    """

    card: VirtualCard
    reader: str = "Direct 00 00"
    cut_at: int = 0
    cut_answer: bool = False
    on_command: Callable[[bytes], bytes | None] | None = None
    """Sees every command first; what it answers, the card is not asked."""
    on_answer: Callable[[bytes, bytes], bytes] | None = None
    pad: Callable[[bytes], bytes] | None = None
    """A PIN pad: gets the VERIFY template, gives the status word."""
    generation: int = 0
    sent: list[bytes] = field(default_factory=list)
    seen_by_card: list[bytes] = field(default_factory=list)
    in_transaction: bool = False
    gone: bool = False
    waiting_for_transaction: bool = False

    @property
    def atr(self) -> bytes:
        return self.card.atr

    @property
    def extended_length(self) -> bool:
        return self.card.state.profile.extended_length

    @property
    def has_pin_pad(self) -> bool:
        return self.pad is not None

    def transmit(self, apdu: bytes) -> bytes:
        assert self.in_transaction, "a command outside a transaction"
        self.sent.append(apdu)
        cut = len(self.sent) == self.cut_at
        if self.gone or (cut and not self.cut_answer):
            raise self._pulled()
        answer = self._answer(apdu)
        if cut:
            raise self._pulled()
        return answer

    def _answer(self, apdu: bytes) -> bytes:
        if self.on_command is not None and (given := self.on_command(apdu)) is not None:
            return given
        self.seen_by_card.append(apdu)
        answer = self.card.transmit(apdu)
        return self.on_answer(apdu, answer) if self.on_answer is not None else answer

    def _pulled(self) -> DeviceRemoved:
        self.gone = True
        self.card.reset()
        return DeviceRemoved(detail="pulled")

    def verify_on_reader(self, template: bytes, *, min_length: int, max_length: int) -> bytes:
        assert self.in_transaction
        assert self.pad is not None
        assert (min_length, max_length) == (6, 8)
        return self.pad(template)

    @contextmanager
    def transaction(self, *, reset_after: bool = False) -> Iterator[None]:
        assert not self.in_transaction, "a transaction in a transaction"
        self.in_transaction = True
        try:
            yield
        finally:
            self.in_transaction = False
            if reset_after:
                self.card.reset()
                self.generation += 1

    def close(self) -> None:
        self.gone = True

    def verifies(self) -> list[bytes]:
        """The VERIFY commands with a PIN in them that were sent."""
        return [apdu for apdu in self.sent if apdu[1] == INS.VERIFY and len(apdu) > 5]


class Never:
    """A `Check` that lets everything go on."""

    def check(self) -> None:
        return


@cache
def private_key(algorithm: Algorithm, number: int = 0) -> PrivateKey:
    """The same keys for the whole run: large RSA keys take seconds to make."""
    return piv_crypto.generate(algorithm)


@dataclass
class Bench:
    """Makes cards of one test hospital and signs in with them."""

    pki: RigPki
    remembered: dict[str, KnownCard] = field(default_factory=dict)
    now: datetime = NOW

    def card(
        self,
        algorithm: Algorithm = Algorithm.P256,
        *,
        variant: Variant = Variant.GOOD,
        keys: Mapping[int, Algorithm] | None = None,
        **profile: object,
    ) -> VirtualCard:
        card = VirtualCard.create(profile=CardProfile(**profile), pin=PIN, puk=PUK)
        for number, (ref, kind) in enumerate((keys or {0x9A: algorithm}).items()):
            public = card.install_key(ref, private_key(kind, number))
            certificate = self.pki.issue(public, Profile(uid="000123456789"), now=self.now, variant=variant)
            card.install_certificate(ref, certificate)
        return card

    def terms(self, *issuers: bytes) -> Terms:
        return Terms(issuers=issuers, algorithms=ALGORITHMS, now=self.now)

    def ask(self, **changes: str) -> Ask:
        values = {"origin": ORIGIN, "nonce": NONCE, **changes}
        return Ask(origin=values["origin"], nonce=values["nonce"], terms=self.terms())

    def inspect(self, link: DirectLink, *issuers: bytes) -> CardSnapshot:
        return sign_in.inspect(link, Never(), self.remembered.get, self.terms(*issuers))

    def authorize(
        self, link: DirectLink, snapshot: CardSnapshot, pin: bytes | None = PIN, ask: Ask | None = None
    ) -> Signed | PinReferenceChanged:
        (certificate, *_) = certificates.fitting(snapshot.certificates, (), self.now)
        secret = Secret(pin) if pin is not None else None
        return sign_in.authorize(link, Never(), snapshot, certificate, secret, ask or self.ask())

    def sign_in(self, link: DirectLink, pin: bytes | None = PIN) -> Signed:
        """The card's whole part, memory included; one PIN is typed, once."""
        signed = self.authorize(link, self.inspect(link), pin)
        assert isinstance(signed, Signed)
        if (known := signed.snapshot.known()) is not None:
            self.remembered[known.guid] = known
        return signed


@pytest.fixture(scope="session")
def pki() -> RigPki:
    return RigPki.create(now=NOW)


@pytest.fixture
def bench(pki: RigPki) -> Bench:
    return Bench(pki)
