"""What may happen at the same moment: a card beside a key, several callers, callers that leave, sites that lie."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from pytest_mock import MockerFixture

from tests.patience import until_async
from tokenbridge.daemon import devices, key_dialogue, key_sign_in, steps
from tokenbridge.daemon.key_management import KeyManagement
from tokenbridge.daemon.prompts import StreamInteraction
from tokenbridge.daemon.runner import SignIn
from tokenbridge.daemon.settings import Settings
from tokenbridge.errors import DeviceBusy, KeyNotTouched, OriginRefused, RelyingPartyUnavailable
from tokenbridge.rig.pki import RigPki
from tokenbridge.rig.virtual_key import Touch
from tokenbridge.transport.base import DeviceEvent, EventKind
from tokenbridge.transport.trace import log_traffic

from .conftest import ALLOW, WISH, run
from .keyring import KEY_WISH, PIN, Keys, KeySite, pin_key
from .workstation import Desk, Person, cards_of, link_to_newest

OTHER_CALLER = replace(KEY_WISH, program="firefox (43)")


@pytest.fixture
def site() -> KeySite:
    return KeySite()


@pytest.fixture(autouse=True)
def _cards_in_this_process(mocker: MockerFixture) -> None:
    mocker.patch.object(devices, "PcscLink", link_to_newest)


# --- a card beside a key -----------------------------------------------------------------------------------------


def test_what_the_key_came_to_just_before_the_card_won_is_no_answer(
    keys: Keys, site: KeySite, pki: RigPki, mocker: MockerFixture
) -> None:
    """Both events wait in one queue, and the card's is the first."""
    key = keys()

    async def work() -> None:
        desk = Desk(Person(pin=[b"123456"]), site)
        desk.station.plug(key, keys.path())
        card = cards_of(pki).card()

        async def use(*_: Any) -> steps.Event:
            desk.station.insert(card)
            async with desk.station.devices.events() as events:
                await events.get()
            for _ in range(3):  # the sign-in hears of the card before
                await asyncio.sleep(0)
            raise KeyNotTouched()

        mocker.patch.object(key_sign_in, "use", use)
        assert await desk.sign_in() == ALLOW
        assert site.tokens

    run(work())


def test_a_card_that_came_while_another_was_looked_at_wins_too(keys: Keys, site: KeySite, pki: RigPki) -> None:
    key = pin_key(keys, site)
    bench = cards_of(pki)

    async def work() -> None:
        desk = Desk(Person(), site)
        site.issuers = (b"nobody's",)
        desk.station.insert(bench.card())
        desk.station.plug(key, keys.path())
        looks: list[Mapping[str, Any]] = []
        real = SignIn._look

        async def look(self: SignIn, effect: steps.Look) -> steps.Event:
            if not looks:
                desk.station.insert(bench.card(), "Reader 01 00")
                await asyncio.sleep(0)
            looks.append({})
            return await real(self, effect)

        SignIn._look = look  # type: ignore[method-assign]
        try:
            task = desk.start()
            await until_async(lambda: len(looks) == 2)
            await desk.person.hears(kind="pin")
            await asyncio.sleep(0.1)
            assert len(looks) == 2  # and no third time
            task.cancel()
            await asyncio.wait({task})
        finally:
            SignIn._look = real  # type: ignore[method-assign]

    run(work())


def test_a_card_wins_while_the_touch_chooses_among_keys(keys: Keys, site: KeySite, pki: RigPki) -> None:
    first, second = pin_key(keys, site), pin_key(keys, site)
    first.person.mode = second.person.mode = Touch.NEVER

    async def work() -> None:
        desk = Desk(Person(pin=[b"123456"]), site)
        desk.station.plug(first, keys.path(0))
        desk.station.plug(second, keys.path(1))
        task = desk.start()
        await desk.person.hears(step="touch-to-choose")
        assert await asyncio.to_thread(first.person.wait_until_asked, 3)
        desk.station.insert(cards_of(pki).card())
        assert await task == ALLOW
        assert site.tokens
        assert await asyncio.to_thread(first.person.wait_until_idle, 3)
        assert {key.claimed_by for key in desk.station.devices.picture.keys.values()} == {""}

    run(work())


def test_a_pin_that_was_typed_when_the_card_won_is_wiped_and_costs_nothing(
    keys: Keys, site: KeySite, pki: RigPki
) -> None:
    key = pin_key(keys, site)

    async def work() -> None:
        desk = Desk(Person(), site)
        desk.station.plug(key, keys.path())
        task = desk.start()
        asked = await desk.person.hears(kind="pin")
        desk.station.insert(cards_of(pki).card())
        desk.person.answer(asked["id"], PIN)
        asked = await desk.person.hears(kind="pin", key="")
        desk.person.answer(asked["id"], b"123456")
        assert await task == ALLOW
        assert all(len(typed) == 0 for typed in desk.person.typed)

    run(work())
    assert key.memory.pin_tries == 8


def test_a_card_that_wins_late_gets_a_fresh_offer(keys: Keys, site: KeySite, pki: RigPki) -> None:
    key = pin_key(keys, site)

    async def work() -> None:
        desk = Desk(Person(choose=[b"Reader 00 00"]), site)  # a new offer is begun with: both are there now
        desk.station.plug(key, keys.path())
        site.lifetimes = [151, 300]
        task = desk.start()
        await desk.person.hears(kind="pin")
        await asyncio.sleep(1.1)  # the offer's clock is the machine's own
        desk.station.insert(cards_of(pki).card())
        asked = await desk.person.hears(kind="pin", key="")
        assert site.opened == 2
        desk.person.answer(asked["id"], b"123456")
        assert await task == ALLOW

    run(work())


# --- several callers ---------------------------------------------------------------------------------------------


def test_two_callers_with_a_key_each(keys: Keys, site: KeySite) -> None:
    first, second = pin_key(keys, site), pin_key(keys, site)

    async def work() -> None:
        desk = Desk(Person(), site)
        desk.station.plug(first, keys.path(0))
        one = desk.start(replace(KEY_WISH, key="K0"))
        asked = await desk.person.hears(kind="pin")
        desk.station.plug(second, keys.path(1))
        other = Person(pin=[PIN])
        interaction = other.interaction()
        verdict = await SignIn(desk.station.bridge, site, interaction, OTHER_CALLER, wait_seconds=5).run()  # type: ignore[arg-type]
        assert verdict == ALLOW
        assert (await other.hears(kind="pin"))["key"] == "k1 (K1)"
        desk.person.answer(asked["id"], PIN)
        assert await one == ALLOW

    run(work())


def test_a_second_caller_while_the_touch_chooses_hears_who_is_busy(keys: Keys, site: KeySite) -> None:
    first, second = keys(), keys()
    first.person.mode = second.person.mode = Touch.NEVER

    async def work() -> None:
        desk = Desk(Person(), site)
        desk.station.plug(first, keys.path(0))
        desk.station.plug(second, keys.path(1))
        one = desk.start(KEY_WISH)
        await desk.person.hears(step="touch-to-choose")
        assert await asyncio.to_thread(first.person.wait_until_asked, 3)
        with pytest.raises(DeviceBusy, match=r"tokenbridge \(42\)"):
            await desk.sign_in(OTHER_CALLER)
        assert {key.claimed_by for key in desk.station.devices.picture.keys.values()} == {WISH.program}
        one.cancel()
        await asyncio.wait({one})
        assert {key.claimed_by for key in desk.station.devices.picture.keys.values()} == {""}

    run(work())


def test_a_caller_that_leaves_is_told_nothing_more(keys: Keys, site: KeySite, mocker: MockerFixture) -> None:
    """The key may still say that it wants a touch while it is told that nobody waits."""
    mocker.patch.object(key_dialogue, "TOUCH_HINT_SECONDS", 0.05)
    key = keys()
    site.enrol(key)
    key.person.mode = Touch.NEVER

    async def work() -> None:
        desk = Desk(Person(), site)
        desk.station.plug(key, keys.path())
        task = desk.start(KEY_WISH)
        assert await asyncio.to_thread(key.person.wait_until_asked, 3)
        task.cancel()
        await asyncio.wait({task})
        told = len(desk.person.lines)
        assert await asyncio.to_thread(key.person.wait_until_idle, 3)
        left = asyncio.all_tasks() - {asyncio.current_task()}
        assert {item.get_coro().__qualname__ for item in left} <= {"run.<locals>.limited"}  # type: ignore[union-attr]
        assert len(desk.person.lines) == told

    run(work())


def test_a_caller_that_does_not_read_hinders_no_touch(keys: Keys, site: KeySite, mocker: MockerFixture) -> None:
    mocker.patch.object(key_dialogue, "TOUCH_HINT_SECONDS", 0)
    key = keys()
    site.enrol(key)
    key.person.mode = Touch.COMMAND

    async def work() -> None:
        desk = Desk(Person(), site)
        desk.station.plug(key, keys.path())
        stuck = asyncio.Event()

        async def emit(_: Mapping[str, Any]) -> None:
            stuck.set()
            await asyncio.Event().wait()

        interaction = StreamInteraction(emit, desk.person.pending, seconds=5)
        signing = SignIn(desk.station.bridge, site, interaction, KEY_WISH, wait_seconds=5)  # type: ignore[arg-type]
        task = asyncio.create_task(signing.run())
        await stuck.wait()
        key.person.touch()
        assert await task == ALLOW

    run(work())


# --- sites that lie ----------------------------------------------------------------------------------------------

MALFORMED = (
    {},
    {"challenge": 5},
    {"challenge": "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8", "rpId": "evil.example"},
    {"challenge": "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8", "rpId": ["localhost"]},
    {"challenge": "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8", "allowCredentials": [{}] * 1000},
    {"challenge": "short"},
)


@pytest.mark.parametrize("options", MALFORMED)
def test_nonsense_about_keys_does_not_keep_a_card_out(
    keys: Keys, site: KeySite, pki: RigPki, options: dict[str, Any]
) -> None:
    key = keys()
    site.key_options = options

    async def work() -> None:
        desk = Desk(Person(pin=[b"123456"]), site)
        desk.station.plug(key, keys.path())
        task = desk.start()
        assert (await desk.person.hears(step="waiting-for-device"))["accepts"] == ["card"]
        desk.station.insert(cards_of(pki).card())
        assert await task == ALLOW

    run(work())


@pytest.mark.parametrize("options", MALFORMED)
def test_nonsense_about_keys_is_told_to_who_wants_to_use_one(
    keys: Keys, site: KeySite, options: dict[str, Any]
) -> None:
    key = keys()
    site.key_options = options

    async def work() -> None:
        desk = Desk(Person(), site)
        desk.station.plug(key, keys.path())
        with pytest.raises((RelyingPartyUnavailable, OriginRefused)):
            await desk.sign_in(KEY_WISH)

    run(work())


# --- keys that can't be watched for ------------------------------------------------------------------------------


def test_nobody_waits_for_ever_when_keys_cannot_be_watched(keys: Keys, mocker: MockerFixture) -> None:
    async def work() -> None:
        watched = devices.Devices(asyncio.get_running_loop(), Settings(), log_traffic)
        watched.sink(DeviceEvent(kind=EventKind.KEYS_UNWATCHED, at=0.0, reason="Too many open files"))
        person = Person()
        overview = await KeyManagement(watched, person.interaction(), "tokenbridge (42)").overview()
        assert overview == {"keys": []}
        assert watched.picture.key_watch == "Too many open files"
        watched.sink(DeviceEvent(kind=EventKind.KEYS_SETTLED, at=0.0))
        await asyncio.sleep(0)
        assert watched.picture.key_watch == "up"

    run(work())


def test_a_key_that_was_there_before_the_bridge_is_not_taken_for_fresh(keys: Keys) -> None:
    """A reset works in a key's first ten seconds only: who wants one is asked at once to plug it in again."""

    async def work() -> None:
        desk = Desk(Person())
        desk.station.devices.keys_settled.clear()
        await asyncio.sleep(0)
        desk.station.devices.keys_settled.clear()
        desk.station.plug(keys(), keys.path())
        desk.station.happens(EventKind.KEYS_SETTLED)
        task = asyncio.create_task(
            KeyManagement(desk.station.devices, desk.person.interaction(), "tokenbridge (42)").reset(sure=True)
        )
        await desk.person.hears(step="replug-key")
        task.cancel()
        await asyncio.wait({task})

    run(work())


def test_a_bridge_that_ends_leaves_no_key_blinking(keys: Keys, site: KeySite) -> None:
    """Its process ends right afterwards, and the threads with it."""
    key = keys()
    site.enrol(key)
    key.person.mode = Touch.NEVER

    async def work() -> None:
        desk = Desk(Person(), site)
        desk.station.plug(key, keys.path())
        task = desk.start(KEY_WISH)
        assert await asyncio.to_thread(key.person.wait_until_asked, 3)
        task.cancel()
        await asyncio.wait({task})
        await desk.station.devices.stop()
        assert key.person.wait_until_idle(0)
        assert desk.station.devices.picture.keys == {}

    run(work())
