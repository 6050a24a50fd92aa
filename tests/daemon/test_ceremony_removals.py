"""A loose contact: the ceremony waits for the card again, but not for ever; and for none where none is taken."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

from tokenbridge.daemon import ceremony, steps
from tokenbridge.daemon.site import Offer
from tokenbridge.daemon.steps import DeviceThere, Finished, Looked, Looking, Opened, Proving, Tell, Waiting, Wish
from tokenbridge.errors import DeviceRemoved, NotAllowedNow

OFFER = Offer(
    transaction="t",
    name="Test Hospital",
    origin="https://localhost",
    nonce="n" * 44,
    expires_at=datetime(2030, 1, 1, tzinfo=UTC),
    issuers=(),
    algorithms=("ES256",),
    takes_card=True,
)


def test_a_site_that_takes_no_cards_is_told_before_anybody_inserts_one() -> None:
    state, _ = ceremony.start(Wish(origin="https://localhost", program="test"))
    state, effects = ceremony.step(state, Opened(offer=replace(OFFER, takes_card=False)))
    assert isinstance(state, Finished)
    assert isinstance(state.error, NotAllowedNow)
    assert effects == ()
    by_password, _ = ceremony.start(Wish(origin="https://localhost", program="test", username="ada"))
    following, _ = ceremony.step(by_password, Opened(offer=replace(OFFER, takes_card=False)))
    assert isinstance(following, Proving)


def test_a_card_that_keeps_leaving_ends_the_ceremony() -> None:
    state, _ = ceremony.start(Wish(origin="https://localhost", program="test"))
    state, _ = ceremony.step(state, Opened(offer=OFFER))
    for _ in range(ceremony.MAX_REMOVALS):
        state, _ = ceremony.step(state, DeviceThere(readers=("r",), fresh=True))
        assert isinstance(state, Looking)
        state, effects = ceremony.step(state, Looked(candidates=(), errors=(DeviceRemoved(),)))
        assert isinstance(state, Waiting)
        assert isinstance(effects[0], Tell)
        assert isinstance(effects[-1], steps.WaitForDevice)
    state, _ = ceremony.step(state, DeviceThere(readers=("r",), fresh=True))
    state, _ = ceremony.step(state, Looked(candidates=(), errors=(DeviceRemoved(),)))
    assert isinstance(state, Finished)
    assert isinstance(state.error, DeviceRemoved)
