"""A workstation without PC/SC: real devices, workers and ceremonies over cards in this process, a site and a person."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, ClassVar

from tests.card.conftest import Bench, DirectLink
from tokenbridge.daemon.devices import Devices
from tokenbridge.daemon.known_cards import KnownCards
from tokenbridge.daemon.prompts import Pending, StreamInteraction
from tokenbridge.daemon.runner import Bridge, SignIn
from tokenbridge.daemon.settings import Settings
from tokenbridge.daemon.site import Message, Offer, Verdict
from tokenbridge.daemon.steps import Wish
from tokenbridge.errors import RemoteError
from tokenbridge.interaction import Secret
from tokenbridge.rig.key_socket import KeySocket
from tokenbridge.rig.pki import RigPki
from tokenbridge.rig.virtual_card import VirtualCard
from tokenbridge.rig.virtual_key import VirtualKey
from tokenbridge.rp.webeid import Token, verify_signature
from tokenbridge.transport.base import DeviceEvent, EventKind, KeyPlace
from tokenbridge.transport.trace import log_traffic

from .conftest import ALLOW, OFFER, ORIGIN, READER, WISH

Shape = Callable[[DirectLink], None]


class Workstation:
    """Readers and cards; made inside a running loop. `newest` is the one whose cards are there to be linked to."""

    newest: ClassVar[Workstation]

    def __init__(self, settings: Settings | None = None) -> None:
        self.settings = settings or Settings(busy_seconds=5, card_seconds=5)
        self.devices = Devices(asyncio.get_running_loop(), self.settings, log_traffic)
        self.known = KnownCards(None)
        self.links: list[DirectLink] = []
        self.cards: dict[str, VirtualCard] = {}
        self.shape: Shape = lambda link: None
        """What a test does to each link that is opened."""
        Workstation.newest = self
        self.happens(EventKind.SERVICE_UP)
        self.happens(EventKind.KEYS_SETTLED)

    @property
    def bridge(self) -> Bridge:
        return Bridge(devices=self.devices, known=self.known)

    def open_link(self, reader: str, _: object) -> DirectLink:
        link = DirectLink(self.cards[reader], reader=reader)
        self.shape(link)
        self.links.append(link)
        return link

    def insert(self, card: VirtualCard, reader: str = READER) -> None:
        card.reset()
        self.cards[reader] = card
        self.happens(EventKind.CARD_INSERTED, reader, card.atr)

    def pull(self, reader: str = READER) -> None:
        for link in self.links:
            link.gone = link.gone or link.reader == reader
        self.happens(EventKind.CARD_REMOVED, reader)

    def plug(self, key: VirtualKey, path: Path) -> str:
        """Plug a virtual key in at a socket; its path names it from now on."""
        key.plug(KeySocket(path))
        self.happens_to_key(EventKind.KEY_ADDED, path)
        return str(path)

    def unplug(self, key: VirtualKey, path: Path) -> None:
        key.unplug()
        self.happens_to_key(EventKind.KEY_REMOVED, path)

    def happens_to_key(self, kind: EventKind, path: Path, *, usable: bool = True) -> None:
        place = KeyPlace(path=str(path), name=path.stem, serial=path.stem.upper(), usable=usable)
        self.devices.sink(DeviceEvent(kind=kind, at=time.monotonic(), key=place))

    def sent(self) -> list[bytes]:
        return [apdu for link in self.links for apdu in link.sent]

    def verifies(self) -> list[bytes]:
        return [apdu for link in self.links for apdu in link.verifies()]

    def claims(self) -> set[str]:
        return {card.claimed_by for card in self.devices.picture.cards.values()} - {""}

    def happens(self, kind: EventKind, reader: str = "", atr: bytes = b"", reason: str = "") -> None:
        self.devices.sink(DeviceEvent(kind=kind, at=0.0, reader=reader, atr=atr, reason=reason))


def link_to_newest(reader: str, trace: object) -> DirectLink:
    """In place of `PcscLink`."""
    return Workstation.newest.open_link(reader, trace)


Answer = bytes | None
"""What the person types; None declines."""


class Person:
    """Reads the event stream and answers by script, by kind of question; what is not in the script is left waiting."""

    def __init__(self, **script: list[Answer]) -> None:
        self.script = {kind.replace("_", "-"): list(answers) for kind, answers in script.items()}
        self.pending = Pending()
        self.lines: list[Mapping[str, Any]] = []
        self.typed: list[Secret] = []
        self._news = asyncio.Condition()

    async def emit(self, line: Mapping[str, Any]) -> None:
        self.lines.append(line)
        if line["event"] == "prompt" and self.script.get(line["kind"]):
            self.answer(line["id"], self.script[line["kind"]].pop(0))
        async with self._news:
            self._news.notify_all()

    def answer(self, question: str, answer: Answer) -> None:
        if answer is None:
            self.pending.decline(question)
            return
        self.typed.append(Secret(bytearray(answer)))
        self.pending.answer(question, self.typed[-1])

    async def hears(self, **wanted: object) -> Mapping[str, Any]:
        """The latest line with these members, waited for if need be."""
        async with self._news:
            await self._news.wait_for(lambda: self._latest(wanted) is not None)
        line = self._latest(wanted)
        assert line is not None
        return line

    def _latest(self, wanted: Mapping[str, object]) -> Mapping[str, Any] | None:
        fits = [line for line in self.lines if all(line.get(key) == value for key, value in wanted.items())]
        return fits[-1] if fits else None

    def prompts(self) -> list[tuple[str, Any]]:
        return [(line["kind"], line.get("tries_left")) for line in self.lines if line["event"] == "prompt"]

    def steps(self) -> list[str]:
        return [line["step"] for line in self.lines if line["event"] == "step"]

    def interaction(self) -> StreamInteraction:
        return StreamInteraction(self.emit, self.pending, seconds=5)


@dataclass
class LocalSite:
    """The relying party as `daemon.site.Site` shows it; it verifies what it is sent."""

    origin: str = ORIGIN
    on_card: Verdict = ALLOW
    on_password: list[Verdict | Exception] = field(default_factory=list)
    on_code: list[Verdict | Exception] = field(default_factory=list)
    lifetimes: list[int] = field(default_factory=list)
    issuers: tuple[bytes, ...] = ()
    algorithms: tuple[str, ...] = OFFER.algorithms
    key_options: Mapping[str, Any] | None = None
    on_key: list[Verdict | Exception] = field(default_factory=list)
    on_open: Callable[[], Awaitable[None]] | None = None
    opened: int = 0
    cancelled: list[str] = field(default_factory=list)
    tokens: list[Mapping[str, str]] = field(default_factory=list)
    credentials: list[Mapping[str, Any]] = field(default_factory=list)
    proofs: list[tuple[str, str, bytes]] = field(default_factory=list)
    on_start: Message | None = None
    on_message: list[Message | Exception] = field(default_factory=list)
    started: list[str] = field(default_factory=list)
    on_approval: list[Verdict | Exception] = field(default_factory=list)
    looks: int = 0

    async def open(self, username: str = "") -> Offer:
        if self.on_open is not None:
            await self.on_open()
        self.opened += 1
        seconds = self.lifetimes.pop(0) if self.lifetimes else 300
        expires = datetime.now(UTC) + timedelta(seconds=seconds)
        return replace(
            OFFER,
            transaction=f"t{self.opened}",
            expires_at=expires,
            issuers=self.issuers,
            algorithms=self.algorithms,
            key_options=self.key_options,
        )

    async def send_card(self, transaction: str, token: Mapping[str, str]) -> Verdict:
        assert transaction not in self.cancelled
        verify_signature(Token.parse(token), expected_origin=self.origin, expected_nonce=OFFER.nonce)
        self.tokens.append(token)
        return self.on_card

    async def send_key(self, transaction: str, credential: Mapping[str, Any]) -> Verdict:
        assert transaction not in self.cancelled
        self.credentials.append(credential)
        answer = self.on_key.pop(0) if self.on_key else ALLOW
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def send_password(self, transaction: str, username: str, password: Secret) -> Verdict:
        return self._proof(username, password, self.on_password)

    async def start_method(self, transaction: str, method: str) -> Message:
        assert transaction not in self.cancelled
        self.started.append(method)
        return self.on_start or Message(method=method, sent_to="07••• •••456")

    async def message(self, transaction: str) -> Message:
        assert transaction not in self.cancelled
        found = self.on_message.pop(0) if len(self.on_message) > 1 else self.on_message[0]
        if isinstance(found, Exception):
            raise found
        return found

    async def is_answered(self, transaction: str) -> bool:
        assert transaction not in self.cancelled
        self.looks += 1
        return self.looks > 2

    async def send_approval(self, transaction: str) -> Verdict:
        answer = self.on_approval.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def send_code(self, transaction: str, method: str, code: Secret) -> Verdict:
        return self._proof(method, code, self.on_code)

    def _proof(self, what: str, secret: Secret, answers: list[Verdict | Exception]) -> Verdict:
        self.proofs.append((f"t{self.opened}", what, bytes(secret.reveal())))
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def cancel(self, transaction: str) -> None:
        self.cancelled.append(transaction)


def wrong(reason: str) -> RemoteError:
    return RemoteError({"code": "rejected", "message": "wrong", "next_step": "again", "reason": reason})


class Desk:
    """One person at one workstation with one site."""

    def __init__(self, person: Person, site: LocalSite | None = None, settings: Settings | None = None) -> None:
        self.station = Workstation(settings)
        self.person = person
        self.site = site or LocalSite()

    async def sign_in(self, wish: Wish = WISH, *, wait_seconds: float = 5) -> Verdict:
        interaction = self.person.interaction()
        return await SignIn(self.station.bridge, self.site, interaction, wish, wait_seconds=wait_seconds).run()  # type: ignore[arg-type]

    def start(self, wish: Wish = WISH) -> asyncio.Task[Verdict]:
        return asyncio.create_task(self.sign_in(wish))


def cards_of(pki: RigPki) -> Bench:
    """Makes the cards. Their times are the machine's own: the bridge looks at its clock."""
    return Bench(pki, now=datetime.now(UTC))
