"""Changing and unblocking a PIN with a person, over real devices and cards in process."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from pytest_mock import MockerFixture

from tests.card.conftest import Bench
from tokenbridge.daemon import devices
from tokenbridge.daemon.pin_ceremony import PinCeremony
from tokenbridge.errors import (
    Cancelled,
    DeviceBusy,
    DeviceError,
    NoDevice,
    NotAllowedNow,
    PinBlocked,
    PinUnfit,
    PinWrong,
    TokenbridgeError,
)
from tokenbridge.rig.piv_objects import Discovery, PinRef
from tokenbridge.rig.pki import RigPki
from tokenbridge.rig.virtual_card import VirtualCard
from tokenbridge.wire.apdu import INS

from .conftest import OTHER_READER, READER, run
from .workstation import Person, Workstation, cards_of, link_to_newest

PIN, NEW, PUK = b"123456", b"24682468", b"12345678"
SECRET = {INS.VERIFY, INS.CHANGE_REFERENCE_DATA, INS.RESET_RETRY_COUNTER}


@pytest.fixture
def cards(pki: RigPki, mocker: MockerFixture) -> Bench:
    mocker.patch.object(devices, "PcscLink", link_to_newest)
    return cards_of(pki)


class Counter:
    """A person at a workstation with `card` in the reader."""

    def __init__(self, card: VirtualCard | None, **script: list[bytes | None]) -> None:
        self.person = Person(**script)
        self.station = Workstation()
        self.given = card

    async def __aenter__(self) -> Counter:
        if self.given is not None:
            async with self.station.devices.events() as events:
                self.station.insert(self.given)
                while not self.station.devices.picture.cards:
                    await events.get()
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self.station.claims() == set()
        assert all(len(secret) == 0 for secret in self.person.typed)

    async def change(self, reader: str = "") -> Any:
        return await self.ceremony.change(reader)

    async def unblock(self) -> Any:
        return await self.ceremony.unblock("")

    @property
    def ceremony(self) -> PinCeremony:
        return PinCeremony(self.station.devices, self.person.interaction(), "tokenbridge (42)")

    def secrets_sent(self) -> list[bytes]:
        return [apdu for apdu in self.station.sent() if apdu[1] in SECRET and len(apdu) > 5]


def test_change(cards: Bench) -> None:
    async def work() -> None:
        card = cards.card()
        async with Counter(card, pin=[PIN], new_pin=[NEW]) as counter:
            assert await counter.change() == {"changed": True, "reader": READER}
            assert counter.person.prompts() == [("pin", 3), ("new-pin", None)]
        async with Counter(card, pin=[PIN], new_pin=[PIN]) as counter:
            with pytest.raises(PinWrong):
                await counter.change()

    run(work())


def test_change_of_a_global_pin(cards: Bench) -> None:
    async def work() -> None:
        card = cards.card(discovery=Discovery.BOTH_GLOBAL_PRIMARY)
        async with Counter(card, pin=[PIN], new_pin=[NEW]) as counter:
            await counter.change()
            assert [apdu[3] for apdu in counter.secrets_sent()] == [PinRef.GLOBAL]

    run(work())


def test_a_blocked_pin_is_not_asked_for(cards: Bench) -> None:
    async def work() -> None:
        card = cards.card()
        card.set_tries(PinRef.APPLICATION, 0)
        async with Counter(card) as counter:
            with pytest.raises(PinBlocked):
                await counter.change()
            assert counter.person.prompts() == []

    run(work())


def test_the_last_try_needs_consent(cards: Bench) -> None:
    async def work() -> None:
        card = cards.card()
        card.set_tries(PinRef.APPLICATION, 1)
        async with Counter(card, last_try=[None]) as counter:
            with pytest.raises(Cancelled):
                await counter.change()
            assert counter.secrets_sent() == []
        async with Counter(card, last_try=[b"yes"], pin=[PIN], new_pin=[NEW]) as counter:
            await counter.change()

    run(work())


@pytest.mark.parametrize(("old", "new"), [(b"12", NEW), (PIN, b"12"), (b"12345x", NEW), (PIN, b"123456789")])
def test_unfit_pins_are_not_sent(cards: Bench, old: bytes, new: bytes) -> None:
    async def work() -> None:
        async with Counter(cards.card(), pin=[old], new_pin=[new]) as counter:
            with pytest.raises(PinUnfit):
                await counter.change()
            assert counter.secrets_sent() == []

    run(work())


@pytest.mark.parametrize("script", [{"pin": [None]}, {"pin": [PIN], "new_pin": [None]}])
def test_declining_changes_nothing(cards: Bench, script: dict[str, list[bytes | None]]) -> None:
    async def work() -> None:
        async with Counter(cards.card(), **script) as counter:
            with pytest.raises(Cancelled):
                await counter.change()
            assert counter.secrets_sent() == []

    run(work())


def test_unblock(cards: Bench) -> None:
    async def work() -> None:
        card = cards.card()
        card.set_tries(PinRef.APPLICATION, 0)
        async with Counter(card, puk=[PUK], new_pin=[NEW]) as counter:
            assert await counter.unblock() == {"unblocked": True, "reader": READER}
            assert counter.person.prompts() == [("puk", None), ("new-pin", None)]
        assert card.tries_left() == 3

    run(work())


def test_wrong_puk_is_one_try_and_no_more(cards: Bench) -> None:
    async def work() -> None:
        card = cards.card()
        async with Counter(card, puk=[b"00000000"], new_pin=[NEW]) as counter:
            with pytest.raises(PinWrong) as caught:
                await counter.unblock()
            assert caught.value.tries_left == 2
        assert card.tries_left(PinRef.PUK) == 2

    run(work())


@pytest.mark.parametrize(("puk", "new"), [(b"123", NEW), (PUK, b"letters")])
def test_unfit_input_is_not_sent_at_unblocking(cards: Bench, puk: bytes, new: bytes) -> None:
    async def work() -> None:
        async with Counter(cards.card(), puk=[puk], new_pin=[new]) as counter:
            with pytest.raises(PinUnfit):
                await counter.unblock()
            assert counter.secrets_sent() == []

    run(work())


def test_a_global_pin_is_not_unblocked_here(cards: Bench) -> None:
    async def work() -> None:
        async with Counter(cards.card(discovery=Discovery.BOTH_GLOBAL_PRIMARY)) as counter:
            with pytest.raises(NotAllowedNow):
                await counter.unblock()
            assert counter.person.prompts() == []

    run(work())


def test_which_card(cards: Bench) -> None:
    async def work() -> None:
        async with Counter(None) as counter:
            await asyncio.to_thread(lambda: None)  # the service is up by then
            with pytest.raises(NoDevice):
                await counter.change()
        async with Counter(cards.card(), pin=[PIN], new_pin=[NEW]) as counter:
            async with counter.station.devices.events() as events:
                counter.station.insert(cards.card(), OTHER_READER)
                while OTHER_READER not in counter.station.devices.picture.cards:
                    await events.get()
            with pytest.raises(DeviceError) as caught:
                await counter.change()
            assert OTHER_READER in caught.value.hint
            assert await counter.change(OTHER_READER) == {"changed": True, "reader": OTHER_READER}
            with pytest.raises(NoDevice):
                await counter.change("Reader 99")

    run(work())


def test_a_claimed_card_is_busy(cards: Bench) -> None:
    async def work() -> None:
        async with Counter(cards.card()) as counter:
            card = counter.station.devices.card(READER)
            for act in (counter.change, counter.unblock):
                with counter.station.devices.claim(card, "portal (7)"), pytest.raises(DeviceBusy) as caught:
                    await act()
                assert isinstance(caught.value, TokenbridgeError)
                assert caught.value.as_dict()["by"] == "portal (7)"

    run(work())
