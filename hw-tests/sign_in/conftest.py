"""A workplace on the private pcscd, and a person who answers what the bridge asks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest

from tokenbridge.daemon.client import BridgeClient, Stream
from tokenbridge.rig.pcscd import PrivatePcscd
from tokenbridge.rig.pki import RigPki
from tokenbridge.rig.plugin import CardMaker
from tokenbridge.rig.provision import DEFAULT_UID, Staff
from tokenbridge.rig.virtual_card import VirtualCard
from tokenbridge.rig.workplace import Workplace

USER = "ada"


@pytest.fixture(scope="session")
def workplace(pcscd: PrivatePcscd, rig_pki: RigPki, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workplace]:
    """Relying party and bridge; cards of the rig's PKI with the default user id belong to the account "ada"."""
    place = Workplace(tmp_path_factory.mktemp("workplace"), pcscd)
    furnish(place, rig_pki)
    yield place
    place.stop()


def furnish(place: Workplace, rig_pki: RigPki) -> None:
    """A server that trusts the rig's PKI and knows ada, and a bridge, both running."""
    pki = place.directory / "pki"
    rig_pki.save(pki)
    place.init_server()
    place.trust("rig", pki, "--map-nhs-uid")
    place.totp_secret = place.add_user(USER, "Ada Lovelace", "--nhs-uid", DEFAULT_UID)
    place.start_server()
    place.must("status")


@dataclass
class Told:
    """How a sign-in went: every line of the stream, and its last one."""

    lines: list[Mapping[str, Any]] = field(default_factory=list)

    @property
    def last(self) -> Mapping[str, Any]:
        return self.lines[-1]

    @property
    def error(self) -> str:
        """Code of the error that it ended with, "" if it ended well."""
        return str(self.last["error"]["code"]) if self.last["event"] == "error" else ""

    @property
    def decision(self) -> str:
        return str(self.last["outcome"]["decision"]) if self.last["event"] == "done" else ""

    def prompts(self, kind: str) -> list[Mapping[str, Any]]:
        return [line for line in self.lines if line["event"] == "prompt" and line["kind"] == kind]

    def steps(self, step: str) -> list[Mapping[str, Any]]:
        return [line for line in self.lines if line["event"] == "step" and line["step"] == step]


class Person:
    """Sits at the workplace. `answers` maps the kind of a question to what is answered, one after the other."""

    def __init__(self, place: Workplace) -> None:
        self.place = place
        self.bridge = BridgeClient(place.socket)

    def begin(self, **request: Any) -> Stream:
        body = {"url": self.place.origin, "ca": str(self.place.ca_file), "wait_seconds": 20, **request}
        return self.bridge.stream("POST", "/v1/sign-in", body)

    def sign_in(self, answers: Mapping[str, list[str]] | None = None, **request: Any) -> Told:
        """Lead a sign-in to its end; a question without an answer left is declined."""
        left = {kind: list(given) for kind, given in (answers or {"pin": ["123456"]}).items()}
        told = Told()
        with self.begin(**request) as stream:
            for line in stream:
                told.lines.append(line)
                if line["event"] == "prompt":
                    answer(stream, line, left)
                if line["event"] == "step":
                    self.on_step(line)
        return told

    def on_step(self, line: Mapping[str, Any]) -> None:
        """For tests that act on a step."""


def answer(stream: Stream, question: Mapping[str, Any], left: dict[str, list[str]]) -> None:
    given = left.get(question["kind"], [])
    if given:
        stream.answer(question["id"], given.pop(0).encode())
    else:
        stream.decline(question["id"])


@pytest.fixture
def person(workplace: Workplace) -> Person:
    return Person(workplace)


@pytest.fixture
def twin(make_card: CardMaker) -> Iterator[Any]:
    """Makes cards that the bridge has never seen, with one key pair and certificate: cheap, but each new to it."""
    first = make_card(Staff())
    state = first.card.state

    def make() -> VirtualCard:
        card = VirtualCard.create(profile=state.profile)
        card.install_key(0x9A, state.keys[0x9A].private)
        card.install_certificate(0x9A, first.certificates[0x9A])
        return card

    return make
