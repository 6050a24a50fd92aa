"""A card that another program gives back at the very moment when waiting for it is given up."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from pytest_mock import MockerFixture

from tests.card.conftest import DirectLink
from tests.patience import SECONDS
from tokenbridge.card import pin as card_pin
from tokenbridge.daemon import devices
from tokenbridge.daemon.settings import Settings
from tokenbridge.errors import DeviceBusy
from tokenbridge.rig.pki import RigPki

from .conftest import READER, run
from .workstation import Workstation, cards_of, link_to_newest


def test_a_job_whose_caller_gives_up_does_not_begin(pki: RigPki, mocker: MockerFixture) -> None:
    given_back, over = threading.Event(), threading.Event()

    def hold(link: DirectLink) -> None:
        transaction = link.transaction

        @contextmanager
        def waits(*, reset_after: bool = False) -> Iterator[None]:
            link.waiting_for_transaction = True
            assert given_back.wait(SECONDS)
            link.waiting_for_transaction = False
            try:
                with transaction(reset_after=reset_after):
                    yield
            finally:
                over.set()

        link.transaction = waits  # type: ignore[method-assign]  # the card is another program's for a while

    def holders() -> str:
        given_back.set()
        assert over.wait(SECONDS)
        return "scdaemon (812)"

    async def work() -> None:
        station = Workstation(Settings(busy_seconds=0.05, card_seconds=5))
        station.shape = hold
        station.insert(cards_of(pki).card())
        with pytest.raises(DeviceBusy) as caught:
            await station.devices.run(await inserted(station), card_pin.status)
        assert caught.value.by == "scdaemon (812)"
        assert station.sent() == []

    mocker.patch.object(devices, "PcscLink", link_to_newest)
    mocker.patch.object(devices, "holders", holders)
    run(work())


async def inserted(station: Workstation) -> devices.Card:
    async with station.devices.events() as events:
        while READER not in station.devices.picture.cards:
            await events.get()
    return station.devices.card(READER)
