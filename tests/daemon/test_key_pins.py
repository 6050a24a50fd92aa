"""A key's PIN in dialogues: a change that the key insists on, new PINs that do not fit, what others change."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from tokenbridge.authenticator.memory import Memory
from tokenbridge.errors import Cancelled, KeyPinMustChange, KeyPinPaused, KeyPinUnfit, KeyPinWrong
from tokenbridge.fido import pin as key_pin
from tokenbridge.fido import settings as key_settings
from tokenbridge.fido.pin import Permission
from tokenbridge.fido.session import KeySession
from tokenbridge.interaction import Secret
from tokenbridge.rig.virtual_key import VirtualKey
from tokenbridge.transport.base import EventKind, KeyPlace

from .conftest import ALLOW, run
from .keyring import KEY_WISH, PIN, REGISTRATION, KeyAccountSite, Keys, KeySite, management, pin_key, registration
from .keyring import signed_in as by_session
from .workstation import Desk, Person

NEW = b"new pin"


@pytest.fixture
def site() -> KeySite:
    return KeySite()


def insists(key: VirtualKey) -> VirtualKey:
    """`key`, which wants a new PIN before it goes on."""
    with key.edit() as memory:
        memory.force_pin_change = True
    return key


def another_program(keys: Keys, number: int = 0) -> KeySession:
    """On the same key, at the same time."""
    return KeySession.open(KeyPlace(path=str(keys.path(number))), lambda *_: None)


def all_wiped(person: Person) -> bool:
    return all(len(typed) == 0 for typed in person.typed)


# --- a change that the key insists on ----------------------------------------------------------------------------


def test_a_sign_in_changes_the_pin_and_goes_on_with_the_new_one(keys: Keys, site: KeySite) -> None:
    key = insists(pin_key(keys, site))

    async def work() -> None:
        desk = Desk(Person(pin=[PIN], new_pin=[NEW]), site)
        desk.station.plug(key, keys.path())
        assert await desk.sign_in(KEY_WISH) == ALLOW
        site.verify()
        assert [kind for kind, _ in desk.person.prompts()] == ["pin", "new-pin"]
        asked = await desk.person.hears(kind="new-pin")
        assert (asked["purpose"], asked["key"]) == ("must-change-pin", "k0 (K0)")
        assert all_wiped(desk.person)
        again = Desk(Person(pin=[NEW]), site)
        again.station.happens_to_key(EventKind.KEY_ADDED, keys.path())
        assert await again.sign_in(KEY_WISH) == ALLOW

    run(work())


def test_a_registration_does_too(keys: Keys) -> None:
    key, site = insists(keys(with_pin=True)), KeyAccountSite(need="required")

    async def work() -> None:
        desk = Desk(Person(pin=[PIN], new_pin=[NEW]))
        desk.station.plug(key, keys.path())
        done = await registration(desk, site).run(by_session)
        assert done["registered"]["verified"]
        assert (await desk.person.hears(kind="new-pin"))["purpose"] == "must-change-pin"

    run(work())


def test_managing_does_too(keys: Keys, site: KeySite) -> None:
    key = insists(pin_key(keys, site))

    async def work() -> None:
        desk = Desk(Person(pin=[PIN], new_pin=[NEW]))
        desk.station.plug(key, keys.path())
        assert len((await management(desk).list_credentials())["credentials"]) == 1

    run(work())


@pytest.mark.parametrize("script", [{"pin": [None]}, {"pin": [PIN], "new_pin": [None]}])
def test_who_declines_the_change_hears_of_it(keys: Keys, site: KeySite, script: dict[str, list[bytes | None]]) -> None:
    key = insists(pin_key(keys, site))

    async def work() -> None:
        desk = Desk(Person(**script), site)
        desk.station.plug(key, keys.path())
        with pytest.raises(KeyPinMustChange):
            await desk.sign_in(KEY_WISH)
        assert all_wiped(desk.person)

    run(work())
    assert key.memory.force_pin_change


def test_a_wrong_pin_on_the_way_costs_one_try_and_is_asked_again(keys: Keys, site: KeySite) -> None:
    key = insists(pin_key(keys, site))

    async def work() -> None:
        desk = Desk(Person(pin=[b"0000", PIN], new_pin=[NEW]), site)
        desk.station.plug(key, keys.path())
        assert await desk.sign_in(KEY_WISH) == ALLOW
        assert [prompt for prompt in desk.person.prompts() if prompt[0] == "pin"] == [("pin", 8), ("pin", 7)]

    run(work())


def test_a_new_pin_that_the_key_refuses_is_asked_again(keys: Keys, site: KeySite) -> None:
    key = insists(pin_key(keys, site))

    async def work() -> None:
        desk = Desk(Person(pin=[PIN, PIN], new_pin=[PIN, NEW]), site)  # the same PIN is no change
        desk.station.plug(key, keys.path())
        assert await desk.sign_in(KEY_WISH) == ALLOW
        assert (await desk.person.hears(step="try-again"))["code"] == "key-pin-unfit"
        assert key.memory.pin_tries == 8

    run(work())


def test_the_change_may_be_wanted_since_the_key_was_asked(keys: Keys, site: KeySite) -> None:
    key = pin_key(keys, site)

    async def work() -> None:
        desk = Desk(Person(pin=[PIN, PIN, PIN], new_pin=[NEW]), site)
        desk.station.plug(key, keys.path())
        assert await desk.sign_in(KEY_WISH) == ALLOW
        session = another_program(keys)
        token = key_pin.token(session, Secret(PIN), Permission.CONFIGURATION)
        key_settings.set_min_pin_length(session, token, None, force=True)
        session.close()
        site.challenge()
        assert await desk.sign_in(KEY_WISH) == ALLOW
        site.verify()

    run(work())


# --- new PINs ----------------------------------------------------------------------------------------------------


def test_a_new_pin_that_does_not_fit_is_asked_again(keys: Keys) -> None:
    key = keys()

    async def work() -> None:
        desk = Desk(Person(new_pin=[b"12", b"\xff\xfe\xfd\xfc", PIN]))
        desk.station.plug(key, keys.path())
        await management(desk).set_pin()
        assert desk.person.steps() == ["try-again", "try-again"]
        assert all_wiped(desk.person)

    run(work())
    assert key.memory.pin is not None


def test_who_declines_after_one_that_does_not_fit_hears_of_it(keys: Keys) -> None:
    key = keys()

    async def work() -> None:
        desk = Desk(Person(new_pin=[b"12", None]))
        desk.station.plug(key, keys.path())
        with pytest.raises(KeyPinUnfit):
            await management(desk).set_pin()

    run(work())


def test_the_pin_is_asked_before_the_new_one(keys: Keys) -> None:
    key = keys(with_pin=True)

    async def work() -> None:
        desk = Desk(Person(pin=[PIN], new_pin=[NEW]))
        desk.station.plug(key, keys.path())
        await management(desk).change_pin()
        assert [kind for kind, _ in desk.person.prompts()] == ["pin", "new-pin"]
        assert all_wiped(desk.person)

    run(work())


def test_a_wrong_pin_while_changing_is_told(keys: Keys) -> None:
    key = keys(with_pin=True)

    async def work() -> None:
        desk = Desk(Person(pin=[b"0000", None], new_pin=[NEW]))
        desk.station.plug(key, keys.path())
        with pytest.raises(KeyPinWrong):
            await management(desk).change_pin()
        assert all_wiped(desk.person)

    run(work())


def test_an_answer_that_is_no_text_is_asked_again(keys: Keys, site: KeySite) -> None:
    key = pin_key(keys, site)

    async def work() -> None:
        desk = Desk(Person(pin=[b"\xff\xfe\xfd\xfc", PIN]), site)
        desk.station.plug(key, keys.path())
        assert await desk.sign_in(KEY_WISH) == ALLOW
        assert desk.person.prompts() == [("pin", 8), ("pin", 8)]
        assert all_wiped(desk.person)

    run(work())


def test_the_third_wrong_pin_asks_for_a_replug_even_if_the_key_only_calls_it_wrong(keys: Keys, site: KeySite) -> None:
    key = pin_key(keys, site)

    async def work() -> None:
        desk = Desk(Person(pin=[b"0000", b"0000", b"0000", PIN]), site)
        desk.station.plug(key, keys.path())
        with pytest.raises(KeyPinPaused):
            await desk.sign_in(KEY_WISH)
        assert len(desk.person.prompts()) == 3

    run(work())


# --- other programs, and callers that leave ------------------------------------------------------------------------


def test_a_pin_that_another_program_set_meanwhile(keys: Keys, site: KeySite) -> None:
    key = keys()
    site.enrol(key)

    async def work() -> None:
        desk = Desk(Person(pin=[PIN]), site)
        desk.station.plug(key, keys.path())
        assert await desk.sign_in(KEY_WISH) == ALLOW
        session = another_program(keys)
        key_pin.set_first(session, Secret(PIN))
        session.close()
        site.challenge()
        site.key_options = {**(site.key_options or {}), "userVerification": "required"}
        assert await desk.sign_in(KEY_WISH) == ALLOW
        assert desk.person.prompts() == [("pin", 8)]

    run(work())


def test_a_pin_that_another_program_set_before_the_first_one_was_typed(keys: Keys) -> None:
    key = keys()

    async def work() -> None:
        desk = Desk(Person())
        desk.station.plug(key, keys.path())
        task = asyncio.create_task(management(desk).set_pin())
        asked = await desk.person.hears(kind="new-pin")
        session = another_program(keys)
        key_pin.set_first(session, Secret(NEW))
        session.close()
        desk.person.answer(asked["id"], PIN)
        with pytest.raises(Exception) as caught:  # noqa: PT011  whatever the key says
            await task
        assert not isinstance(caught.value, Cancelled)
        assert (await management(desk).info())["pin"] == "set"

    run(work())


def test_a_caller_that_leaves_with_the_pin_typed_costs_no_try(keys: Keys, site: KeySite) -> None:
    key = pin_key(keys, site)

    async def work() -> Memory:
        desk = Desk(Person(), site)
        desk.station.plug(key, keys.path())
        task = desk.start(KEY_WISH)
        asked = await desk.person.hears(kind="pin")
        desk.person.answer(asked["id"], PIN)
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait({task})
        assert all_wiped(desk.person)
        assert (await management(desk).info())["tries_left"] == 8
        return key.memory

    assert run(work()).pin_tries == 8


def test_a_token_is_wiped_when_its_caller_has_gone(keys: Keys, site: KeySite, mocker: object) -> None:
    key = pin_key(keys, site)
    taken: list[key_pin.Token] = []
    real = key_pin.token

    def watched(*arguments: object) -> key_pin.Token:
        taken.append(real(*arguments))  # type: ignore[arg-type]
        return taken[-1]

    async def work() -> None:
        desk = Desk(Person(pin=[PIN]))
        desk.station.plug(key, keys.path())
        task = asyncio.create_task(management(desk).delete_credential("", sure=False))
        await desk.person.hears(kind="confirm")
        assert [len(token.secret) for token in taken] == [32]
        task.cancel()
        await asyncio.wait({task})
        assert [len(token.secret) for token in taken] == [0]

    mocker.patch.object(key_pin, "token", watched)  # type: ignore[attr-defined]
    run(work())


def test_declining_a_first_pin_where_none_is_needed(keys: Keys) -> None:
    key, site = keys(), KeyAccountSite()

    async def work() -> None:
        desk = Desk(Person(new_pin=[b"12", None]))
        desk.station.plug(key, keys.path())
        with pytest.raises(KeyPinUnfit):
            await registration(desk, site, replace(REGISTRATION)).run(by_session)

    run(work())
