"""Dialogues with security keys: sign-in, registration and management with virtual keys, a person and a site."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
from pytest_mock import MockerFixture

from tests.daemon import workstation
from tests.patience import until_async
from tokenbridge.daemon import devices, key_dialogue
from tokenbridge.errors import (
    AccessDenied,
    Cancelled,
    CredentialExists,
    DeviceBusy,
    DeviceError,
    DeviceRemoved,
    KeyPinBlocked,
    KeyPinPaused,
    KeyPinUnfit,
    KeyPinWrong,
    KeyUnsupported,
    NoCredential,
    NoDevice,
    NotAllowedNow,
    RemoteError,
)
from tokenbridge.fido import fingerprints
from tokenbridge.fido import pin as key_pin
from tokenbridge.fido.pin import Permission
from tokenbridge.fido.session import KeySession
from tokenbridge.interaction import Secret
from tokenbridge.rig.pki import RigPki
from tokenbridge.rig.virtual_key import Touch
from tokenbridge.transport.base import EventKind, KeyPlace

from .conftest import ALLOW, KEY_CHALLENGE, ORIGIN, WISH, run
from .keyring import (
    KEY_WISH,
    PIN,
    REGISTRATION,
    KeyAccountSite,
    Keys,
    KeySite,
    management,
    pin_key,
    registration,
    signed_in,
)
from .workstation import Desk, LocalSite, Person, cards_of, link_to_newest


@pytest.fixture
def site() -> KeySite:
    return KeySite()


@pytest.fixture(autouse=True)
def _cards_in_this_process(mocker: MockerFixture) -> None:
    mocker.patch.object(devices, "PcscLink", link_to_newest)


# --- sign-in -----------------------------------------------------------------------------------------------------


def test_one_pin_and_a_touch_sign_in(keys: Keys, site: KeySite) -> None:
    key = pin_key(keys, site)

    async def work() -> None:
        desk = Desk(Person(pin=[PIN]), site)
        desk.station.plug(key, keys.path())
        assert await desk.sign_in() == ALLOW
        site.verify()
        assert desk.person.prompts() == [("pin", 8)]
        prompt = await desk.person.hears(kind="pin")
        assert (prompt["rp_name"], prompt["origin"]) == ("Test Hospital", ORIGIN)
        assert prompt["key"] == "k0 (K0)"
        assert all(len(typed) == 0 for typed in desk.person.typed)

    run(work())


def test_a_key_is_waited_for_and_taken_as_soon_as_it_comes(keys: Keys, site: KeySite) -> None:
    key = keys()
    site.enrol(key)

    async def work() -> None:
        desk = Desk(Person(), site)
        task = desk.start()
        waiting = await desk.person.hears(step="waiting-for-device")
        assert waiting["accepts"] == ["card", "key"]
        desk.station.plug(key, keys.path())
        assert await task == ALLOW
        site.verify()

    run(work())


def test_a_card_that_is_inserted_while_a_key_is_asked_for_wins(keys: Keys, site: KeySite, pki: RigPki) -> None:
    key = pin_key(keys, site)

    async def work() -> None:
        desk = Desk(Person(), site)
        desk.station.plug(key, keys.path())
        task = desk.start()
        await desk.person.hears(kind="pin")
        card = cards_of(pki).card()
        desk.station.insert(card)
        prompt = await desk.person.hears(kind="pin", key="")
        desk.person.answer(prompt["id"], b"123456")
        assert await task == ALLOW
        assert site.tokens
        assert not site.credentials
        assert desk.station.claims() == set()
        assert "choose" not in [kind for kind, _ in desk.person.prompts()]

    run(work())


def test_card_and_key_that_are_both_there_are_asked_about(keys: Keys, site: KeySite, pki: RigPki) -> None:
    key = pin_key(keys, site)

    async def work() -> None:
        desk = Desk(Person(choose=[b"key"], pin=[PIN]), site)
        desk.station.insert(cards_of(pki).card())
        desk.station.plug(key, keys.path())
        assert await desk.sign_in() == ALLOW
        site.verify()
        assert not site.tokens
        chosen = await desk.person.hears(kind="choose")
        assert chosen["title"] == "Card or security key?"
        assert [option["id"] for option in chosen["options"]] == ["Reader 00 00", "key"]

    run(work())


def test_a_card_that_does_not_fit_leaves_the_key(keys: Keys, site: KeySite, pki: RigPki) -> None:
    key = pin_key(keys, site)
    site.issuers = (b"nobody's",)

    async def work() -> None:
        desk = Desk(Person(pin=[PIN]), site)
        desk.station.insert(cards_of(pki).card())
        desk.station.plug(key, keys.path())
        assert await desk.sign_in() == ALLOW
        site.verify()

    run(work())


def test_the_device_that_was_named_is_the_one_that_is_used(keys: Keys, site: KeySite, pki: RigPki) -> None:
    first, second = pin_key(keys, site), pin_key(keys, site)

    async def work() -> None:
        desk = Desk(Person(pin=[PIN]), site)
        desk.station.insert(cards_of(pki).card())
        desk.station.plug(first, keys.path(0))
        desk.station.plug(second, keys.path(1))
        assert await desk.sign_in(replace(KEY_WISH, key="K1")) == ALLOW
        assert (await desk.person.hears(kind="pin"))["key"] == "k1 (K1)"

    run(work())


def test_of_several_keys_the_touched_one_is_meant(keys: Keys, site: KeySite) -> None:
    first, second = pin_key(keys, site), pin_key(keys, site)
    first.person.mode = Touch.NEVER

    async def work() -> None:
        desk = Desk(Person(pin=[PIN]), site)
        desk.station.plug(first, keys.path(0))
        desk.station.plug(second, keys.path(1))
        assert await desk.sign_in(KEY_WISH) == ALLOW
        assert "touch-to-choose" in desk.person.steps()
        assert (await desk.person.hears(kind="pin"))["key"] == "k1 (K1)"
        assert await asyncio.to_thread(first.person.wait_until_idle, 3)

    run(work())


def test_several_accounts_on_one_key_are_asked_about(keys: Keys, site: KeySite) -> None:
    key = pin_key(keys, site)
    site.enrol(key, typed=PIN, user=b"grace")

    async def work() -> None:
        desk = Desk(Person(pin=[PIN]), site)
        desk.station.plug(key, keys.path())
        task = desk.start(KEY_WISH)
        chosen = await desk.person.hears(kind="choose")
        by_name = {option["label"]: option["id"] for option in chosen["options"]}
        assert set(by_name) == {"ada", "grace"}
        desk.person.answer(chosen["id"], by_name["grace"].encode())
        assert await task == ALLOW
        site.verify()

    run(work())


def test_a_wrong_pin_is_asked_again_with_the_tries_left(keys: Keys, site: KeySite) -> None:
    key = pin_key(keys, site)

    async def work() -> None:
        desk = Desk(Person(pin=[b"0000", PIN]), site)
        desk.station.plug(key, keys.path())
        assert await desk.sign_in() == ALLOW
        assert desk.person.prompts() == [("pin", 8), ("pin", 7)]
        assert (await desk.person.hears(step="try-again"))["tries_left"] == 7

    run(work())


def test_who_declines_after_a_wrong_pin_hears_of_it(keys: Keys, site: KeySite) -> None:
    key = pin_key(keys, site)

    async def work() -> None:
        desk = Desk(Person(pin=[b"0000", None]), site)
        desk.station.plug(key, keys.path())
        with pytest.raises(KeyPinWrong):
            await desk.sign_in()

    run(work())


def test_what_cannot_be_a_pin_costs_nothing(keys: Keys, site: KeySite) -> None:
    key = pin_key(keys, site)

    async def work() -> None:
        desk = Desk(Person(pin=[b"12", None]), site)
        desk.station.plug(key, keys.path())
        with pytest.raises(KeyPinUnfit):
            await desk.sign_in()
        assert desk.person.prompts() == [("pin", 8), ("pin", 8)]

    run(work())


def test_the_last_try_is_spent_by_consent_only(keys: Keys, site: KeySite) -> None:
    key = pin_key(keys, site)
    with key.edit() as memory:
        memory.pin_tries = 1

    async def work() -> None:
        desk = Desk(Person(last_try=[None]), site)
        desk.station.plug(key, keys.path())
        with pytest.raises(Cancelled):
            await desk.sign_in()
        agreed = Desk(Person(last_try=[b"yes"], pin=[PIN]), site)
        agreed.station.happens_to_key(EventKind.KEY_ADDED, keys.path())
        assert await agreed.sign_in() == ALLOW

    run(work())


def test_nobody_is_asked_for_a_blocked_pin(keys: Keys, site: KeySite) -> None:
    key = pin_key(keys, site)
    with key.edit() as memory:
        memory.pin_tries = 0

    async def work() -> None:
        desk = Desk(Person(), site)
        desk.station.plug(key, keys.path())
        with pytest.raises(KeyPinBlocked):
            await desk.sign_in()
        assert desk.person.prompts() == []

    run(work())


def test_three_wrong_pins_in_a_row_ask_for_a_replug(keys: Keys, site: KeySite) -> None:
    key = pin_key(keys, site)

    async def work() -> None:
        desk = Desk(Person(pin=[b"0000", b"0000", b"0000"]), site)
        desk.station.plug(key, keys.path())
        with pytest.raises(KeyPinPaused):
            await desk.sign_in()
        again = Desk(Person(pin=[PIN]), site)
        again.station.unplug(key, keys.path())
        again.station.plug(key, keys.path())
        assert await again.sign_in() == ALLOW

    run(work())


def test_a_touch_is_asked_for_after_two_seconds(keys: Keys, site: KeySite, mocker: MockerFixture) -> None:
    mocker.patch.object(key_dialogue, "TOUCH_HINT_SECONDS", 0.1)
    key = keys()
    site.enrol(key)
    key.person.mode = Touch.COMMAND

    async def work() -> None:
        desk = Desk(Person(), site)
        desk.station.plug(key, keys.path())
        task = desk.start()
        assert (await desk.person.hears(step="touch-key"))["key"] == "k0 (K0)"
        key.person.touch()
        assert await task == ALLOW

    run(work())


def test_who_touches_at_once_is_told_nothing(keys: Keys, site: KeySite) -> None:
    key = keys()
    site.enrol(key)

    async def work() -> None:
        desk = Desk(Person(), site)
        desk.station.plug(key, keys.path())
        await desk.sign_in()
        assert desk.person.steps() == []

    run(work())


def test_a_key_that_leaves_may_come_back(keys: Keys, site: KeySite) -> None:
    key = pin_key(keys, site)
    key.person.mode = Touch.NEVER

    async def work() -> None:
        desk = Desk(Person(pin=[PIN, PIN]), site)
        desk.station.plug(key, keys.path())
        task = desk.start(KEY_WISH)
        await desk.person.hears(kind="pin")
        assert await asyncio.to_thread(key.person.wait_until_asked, 3)
        desk.station.unplug(key, keys.path())
        await desk.person.hears(step="key-removed")
        key.person.mode = Touch.ALWAYS
        desk.station.plug(key, keys.path())
        assert await task == ALLOW
        site.verify()

    run(work())


def test_a_key_that_keeps_leaving(keys: Keys, site: KeySite) -> None:
    key = keys()
    site.enrol(key)
    key.person.mode = Touch.NEVER

    async def work() -> None:
        desk = Desk(Person(), site)
        task = desk.start(KEY_WISH)
        for _ in range(6):
            desk.station.plug(key, keys.path())
            assert await asyncio.to_thread(key.person.wait_until_asked, 3)
            desk.station.unplug(key, keys.path())
            await asyncio.to_thread(key.person.wait_until_idle, 3)
        with pytest.raises(DeviceRemoved, match="keeps leaving"):
            await task

    run(work())


def test_cancelling_stops_the_blinking_and_frees_the_key(keys: Keys, site: KeySite) -> None:
    key = keys()
    site.enrol(key)
    key.person.mode = Touch.NEVER

    async def work() -> None:
        desk = Desk(Person(), site)
        path = desk.station.plug(key, keys.path())
        task = desk.start(KEY_WISH)
        assert await asyncio.to_thread(key.person.wait_until_asked, 3)
        assert desk.station.devices.picture.keys[path].claimed_by == WISH.program
        with pytest.raises(DeviceBusy, match="security key"):
            await desk.sign_in(KEY_WISH)
        task.cancel()
        await asyncio.wait({task})
        assert await asyncio.to_thread(key.person.wait_until_idle, 3)
        assert desk.station.devices.picture.keys[path].claimed_by == ""
        assert site.cancelled

    run(work())


def test_a_key_that_is_not_registered(keys: Keys, site: KeySite) -> None:
    key = keys()

    async def work() -> None:
        desk = Desk(Person(), site)
        desk.station.plug(key, keys.path())
        with pytest.raises(NoCredential):
            await desk.sign_in(KEY_WISH)

    run(work())


def test_a_key_that_is_not_registered_leaves_the_card_that_may_come(keys: Keys, site: KeySite, pki: RigPki) -> None:
    key = keys()

    async def work() -> None:
        desk = Desk(Person(pin=[b"123456"]), site)
        desk.station.plug(key, keys.path())
        task = desk.start()
        assert (await desk.person.hears(step="try-again"))["code"] == "key-not-registered"
        await desk.person.hears(step="waiting-for-device")
        desk.station.insert(cards_of(pki).card())
        assert await task == ALLOW
        assert site.tokens
        assert not site.credentials

    run(work())


def test_a_key_that_is_not_registered_is_the_answer_when_no_card_comes(keys: Keys, site: KeySite) -> None:
    key = keys()

    async def work() -> None:
        desk = Desk(Person(), site)
        desk.station.plug(key, keys.path())
        with pytest.raises(NoCredential):
            await desk.sign_in(wait_seconds=0.2)

    run(work())


def test_the_right_key_after_the_wrong_one(keys: Keys, site: KeySite) -> None:
    wrong, right = keys(), keys()
    site.enrol(right)

    async def work() -> None:
        desk = Desk(Person(), site)
        desk.station.plug(wrong, keys.path(0))
        task = desk.start()
        await desk.person.hears(step="waiting-for-device")
        desk.station.plug(right, keys.path(1))
        assert await task == ALLOW
        site.verify()

    run(work())


def test_of_two_keys_the_other_one_is_used_when_the_touched_one_is_unknown(keys: Keys, site: KeySite) -> None:
    wrong, right = keys(), keys()
    site.enrol(right)
    right.person.mode = Touch.COMMAND

    async def work() -> None:
        desk = Desk(Person(), site)
        desk.station.plug(wrong, keys.path(0))
        desk.station.plug(right, keys.path(1))
        task = desk.start(KEY_WISH)
        await desk.person.hears(step="try-again")
        while (asked := await asyncio.to_thread(right.person.wait_until_asked, 3)) and not asked.rp_id:
            await asyncio.sleep(0.01)  # it is being told that it was not chosen
        right.person.touch()
        assert await task == ALLOW
        site.verify()

    run(work())


def test_a_key_that_may_not_be_opened_is_told_from_none(keys: Keys, site: KeySite) -> None:
    async def work() -> None:
        desk = Desk(Person(), site)
        desk.station.happens_to_key(EventKind.KEY_ADDED, keys.path(), usable=False)
        with pytest.raises(AccessDenied) as caught:
            await desk.sign_in(KEY_WISH, wait_seconds=0.2)
        assert "setup udev" in caught.value.hint
        assert (await desk.person.hears(step="waiting-for-device"))["problem"]["code"] == "access-denied"

    run(work())


def test_access_that_is_given_while_waiting(keys: Keys, site: KeySite) -> None:
    key = keys()
    site.enrol(key)

    async def work() -> None:
        desk = Desk(Person(), site)
        key.plug(workstation.KeySocket(keys.path()))
        desk.station.happens_to_key(EventKind.KEY_ADDED, keys.path(), usable=False)
        task = desk.start(KEY_WISH)
        await desk.person.hears(step="waiting-for-device")
        desk.station.happens_to_key(EventKind.KEY_CHANGED, keys.path())
        assert await task == ALLOW

    run(work())


def test_no_device_comes(site: KeySite) -> None:
    async def work() -> None:
        with pytest.raises(NoDevice, match="no security key"):
            await Desk(Person(), site).sign_in(wait_seconds=0.1)

    run(work())


def test_sites_that_take_none_of_what_was_asked_for(keys: Keys) -> None:
    async def work() -> None:
        with pytest.raises(NotAllowedNow, match="security keys"):
            await Desk(Person(), LocalSite()).sign_in(KEY_WISH)

    run(work())


def test_a_key_as_the_further_proof_after_a_password(keys: Keys, site: KeySite) -> None:
    key = keys()
    site.enrol(key)
    site.on_password = [replace(KEY_CHALLENGE, key_options=site.key_options)]

    async def work() -> None:
        desk = Desk(Person(password=[b"secret"]), site)
        desk.station.plug(key, keys.path())
        assert await desk.sign_in(replace(WISH, username="ada")) == ALLOW
        site.verify()
        assert desk.person.steps() == ["challenged"]

    run(work())


def test_a_further_proof_by_code_when_the_key_is_the_wrong_one(keys: Keys, site: KeySite) -> None:
    key = keys()
    site.on_password = [replace(KEY_CHALLENGE, key_options=site.key_options)]
    site.on_code = [ALLOW]

    async def work() -> None:
        desk = Desk(Person(password=[b"secret"], code=[b"123456"]), site)
        desk.station.plug(key, keys.path())
        assert await desk.sign_in(replace(WISH, username="ada")) == ALLOW
        assert (await desk.person.hears(step="try-again"))["code"] == "key-not-registered"
        assert site.proofs[-1][1:] == ("totp", b"123456")

    run(work())


def test_the_sites_refusal_is_the_answer(keys: Keys, site: KeySite) -> None:
    key = keys()
    site.enrol(key)
    site.on_key = [RemoteError({"code": "rejected", "message": "no", "reason": "model-refused"})]

    async def work() -> None:
        desk = Desk(Person(), site)
        desk.station.plug(key, keys.path())
        with pytest.raises(RemoteError):
            await desk.sign_in()

    run(work())


def test_a_finger_that_is_not_known_ends_at_the_pin(keys: Keys, site: KeySite) -> None:
    key = keys(with_pin=True, fingerprints=True, uv_tries_per_request=1)
    session = KeySession(key.plug_in_process(), KeyPlace(path="/x"), lambda *_: None)
    token = key_pin.token(session, Secret(PIN), Permission.BIO_ENROLLMENT)
    fingerprints.add(session, token, "right index", lambda left, problem: None)
    session.close()
    site.enrol(key)
    key.person.finger = "left little"

    async def work() -> None:
        desk = Desk(Person(pin=[PIN]), site)
        desk.station.plug(key, keys.path())
        assert await desk.sign_in() == ALLOW
        site.verify()
        assert desk.person.steps().count("try-again") >= 1
        assert [kind for kind, _ in desk.person.prompts()] == ["pin"]

    run(work())


# --- registration ------------------------------------------------------------------------------------------------


def test_registering_after_a_sign_in(keys: Keys) -> None:
    key, site = keys(with_pin=True), KeyAccountSite()

    async def work() -> None:
        desk = Desk(Person(pin=[PIN]))
        desk.station.plug(key, keys.path())
        done = await registration(desk, site).run(signed_in)
        assert done == {"registered": {"key": {"id": 1}, "verified": True}}
        assert (site.sessions, site.signed_out, site.names) == ([b"session"], 1, ["blue"])

    run(work())


def test_registering_by_code_gives_a_blank_key_its_first_pin(keys: Keys) -> None:
    key, site = keys(), KeyAccountSite(need="required")

    async def work() -> None:
        desk = Desk(Person(username=[b"ada"], enrolment_code=[b"ABCD"], new_pin=[PIN]))
        desk.station.plug(key, keys.path())
        done = await registration(desk, site, replace(REGISTRATION, by_code=True)).run(signed_in)
        assert done["registered"]["verified"]
        assert site.codes == [("ada", b"ABCD")]
        prompt = await desk.person.hears(kind="new-pin")
        assert (prompt["purpose"], prompt["min_length"], prompt["max_length"]) == ("first-pin", 4, 63)
        assert all(len(typed) == 0 for typed in desk.person.typed)

    run(work())


def test_who_wants_no_pin_registers_by_touch_where_the_site_lets_it(keys: Keys) -> None:
    key, site = keys(), KeyAccountSite()

    async def work() -> None:
        desk = Desk(Person(new_pin=[None]))
        desk.station.plug(key, keys.path())
        done = await registration(desk, site).run(signed_in)
        assert not done["registered"]["verified"]

    run(work())


def test_who_wants_no_pin_where_the_site_insists(keys: Keys) -> None:
    key, site = keys(), KeyAccountSite(need="required")

    async def work() -> None:
        desk = Desk(Person(new_pin=[None]))
        desk.station.plug(key, keys.path())
        with pytest.raises(Cancelled):
            await registration(desk, site).run(signed_in)
        assert site.cancelled == ["r1"]
        assert site.signed_out == 1

    run(work())


def test_the_same_key_twice_is_told_and_given_up(keys: Keys) -> None:
    key, site = keys(), KeyAccountSite(need="discouraged")

    async def work() -> None:
        desk = Desk(Person())
        desk.station.plug(key, keys.path())
        await registration(desk, site).run(signed_in)
        with pytest.raises(CredentialExists):
            await registration(desk, site).run(signed_in)
        assert site.cancelled == ["r1"]

    run(work())


def test_a_key_to_register_is_waited_for(keys: Keys) -> None:
    key, site = keys(), KeyAccountSite(need="discouraged")

    async def work() -> None:
        desk = Desk(Person())
        task = asyncio.create_task(registration(desk, site).run(signed_in))
        await desk.person.hears(step="waiting-for-key")
        desk.station.plug(key, keys.path())
        assert (await task)["registered"]

    run(work())


def test_no_key_to_register_comes(keys: Keys) -> None:
    site = KeyAccountSite()

    async def work() -> None:
        with pytest.raises(NoDevice, match="No security key"):
            await registration(Desk(Person()), site, replace(REGISTRATION, wait_seconds=0.1)).run(signed_in)
        assert site.cancelled == ["r1"]

    run(work())


def test_a_key_pulled_while_it_registers(keys: Keys) -> None:
    key, site = keys(), KeyAccountSite(need="discouraged")
    key.person.mode = Touch.NEVER

    async def work() -> None:
        desk = Desk(Person())
        desk.station.plug(key, keys.path())
        task = asyncio.create_task(registration(desk, site).run(signed_in))
        assert await asyncio.to_thread(key.person.wait_until_asked, 3)
        desk.station.unplug(key, keys.path())
        with pytest.raises(DeviceRemoved):
            await task
        assert site.cancelled == ["r1"]

    run(work())


# --- management --------------------------------------------------------------------------------------------------


def test_an_overview_of_keys_that_may_and_may_not_be_opened(keys: Keys) -> None:
    key = keys(with_pin=True)

    async def work() -> None:
        desk = Desk(Person())
        desk.station.plug(key, keys.path(0))
        desk.station.happens_to_key(EventKind.KEY_ADDED, keys.path(1), usable=False)
        await asyncio.sleep(0)
        first, second = (await management(desk).overview())["keys"]
        assert first["pin"] == "set"
        assert "tries_left" not in first
        assert second["error"]["code"] == "access-denied"

    run(work())


def test_what_a_key_says_with_its_tries(keys: Keys) -> None:
    key = keys(with_pin=True)

    async def work() -> None:
        desk = Desk(Person())
        desk.station.plug(key, keys.path())
        found = await management(desk).info()
        assert (found["tries_left"], found["serial"], found["rooms_left"]) == (8, "K0", 50)

    run(work())


def test_setting_and_changing_a_pin(keys: Keys) -> None:
    key = keys()

    async def work() -> None:
        desk = Desk(Person(new_pin=[PIN, b"new pin"], pin=[PIN]))
        desk.station.plug(key, keys.path())
        with pytest.raises(NotAllowedNow):
            await management(desk).change_pin()
        await management(desk).set_pin()
        with pytest.raises(NotAllowedNow):
            await management(desk).set_pin()
        await management(desk).change_pin()
        again = Desk(Person(pin=[b"new pin"]))
        again.station.happens_to_key(EventKind.KEY_ADDED, keys.path())
        await asyncio.sleep(0)
        assert (await management(again).list_credentials())["credentials"] == []

    run(work())


def test_listing_and_deleting_a_credential_with_one_pin(keys: Keys, site: KeySite) -> None:
    key = pin_key(keys, site)

    async def work() -> None:
        desk = Desk(Person(pin=[PIN, PIN], confirm=[b"yes"]))
        desk.station.plug(key, keys.path())
        (found,) = (await management(desk).list_credentials())["credentials"]
        assert (found["rp_id"], found["account"]) == ("localhost", "ada")
        done = await management(desk).delete_credential(found["id"][:8], sure=False)
        assert done["deleted"]["id"] == found["id"]
        assert "can't be undone" in (await desk.person.hears(kind="confirm"))["consequence"]

    run(work())


def test_who_does_not_agree_deletes_nothing(keys: Keys, site: KeySite) -> None:
    key = pin_key(keys, site)

    async def work() -> None:
        desk = Desk(Person(pin=[PIN, PIN], confirm=[b"no"]))
        desk.station.plug(key, keys.path())
        with pytest.raises(Cancelled):
            await management(desk).delete_credential("", sure=False)
        assert len((await management(desk).list_credentials())["credentials"]) == 1

    run(work())


def test_fingers(keys: Keys) -> None:
    key = keys(with_pin=True, fingerprints=True)

    async def work() -> None:
        desk = Desk(Person(pin=[PIN, PIN, PIN]))
        desk.station.plug(key, keys.path())
        added = (await management(desk).add_fingerprint("thumb"))["added"]
        assert (await desk.person.hears(step="fingerprint-sample", remaining=0))["problem"] == ""
        assert (await management(desk).list_fingerprints())["fingerprints"] == [added]
        assert (await management(desk).delete_fingerprint("thumb"))["deleted"] == added

    run(work())


def test_a_key_without_sensor_is_told_before_anybody_types_a_pin(keys: Keys) -> None:
    key = keys(with_pin=True)

    async def work() -> None:
        desk = Desk(Person())
        desk.station.plug(key, keys.path())
        with pytest.raises(KeyUnsupported, match="sensor"):
            await management(desk).list_fingerprints()
        assert desk.person.lines == []

    run(work())


def test_the_sensor_is_spoken_of_after_the_pin(keys: Keys) -> None:
    key = keys(with_pin=True, fingerprints=True)

    async def work() -> None:
        desk = Desk(Person(pin=[PIN]))
        desk.station.plug(key, keys.path())
        await management(desk).add_fingerprint("thumb")
        said = [line.get("kind") or line.get("step") for line in desk.person.lines]
        assert said[:3] == ["pin", "fingerprint", "fingerprint-sample"]

    run(work())


def test_settings(keys: Keys) -> None:
    key = keys(with_pin=True)

    async def work() -> None:
        desk = Desk(Person(pin=[PIN]))
        desk.station.plug(key, keys.path())
        done = await management(desk).configure(always_verify=True, min_pin_length=6, force_new_pin=False)
        assert (done["always_verify"], done["min_pin_length"]) == (True, 6)

    run(work())


def test_several_keys_are_not_guessed_among(keys: Keys) -> None:
    first, second = keys(), keys()

    async def work() -> None:
        desk = Desk(Person(new_pin=[PIN]))
        desk.station.plug(first, keys.path(0))
        desk.station.plug(second, keys.path(1))
        await asyncio.sleep(0)
        with pytest.raises(DeviceError, match="2 security keys"):
            await management(desk).info()
        await management(desk, "K1").set_pin()
        assert second.memory.pin is not None
        assert first.memory.pin is None

    run(work())


def test_a_reset_right_after_plugging_in(keys: Keys, site: KeySite) -> None:
    key = pin_key(keys, site)

    async def work() -> None:
        desk = Desk(Person(confirm=[b"yes"]))
        desk.station.plug(key, keys.path())
        assert (await management(desk).reset(sure=False))["reset"]
        assert (await management(desk).info())["pin"] == "not set"

    run(work())


def test_a_reset_asks_for_a_replug_and_takes_the_same_key_only(
    keys: Keys, site: KeySite, mocker: MockerFixture
) -> None:
    mocker.patch("tokenbridge.daemon.key_management.FRESH_SECONDS", 0)
    key, other = pin_key(keys, site), keys()

    async def work() -> None:
        desk = Desk(Person())
        desk.station.plug(key, keys.path())
        task = asyncio.create_task(management(desk).reset(sure=True))
        await desk.person.hears(step="replug-key")
        desk.station.unplug(key, keys.path())
        desk.station.plug(other, keys.path(7))
        with pytest.raises(DeviceError, match="another security key"):
            await task
        desk.station.unplug(other, keys.path(7))
        desk.station.plug(key, keys.path())
        again = asyncio.create_task(management(desk).reset(sure=True))
        await until_async(lambda: desk.person.steps().count("replug-key") == 2)
        desk.station.unplug(key, keys.path())
        desk.station.plug(key, keys.path())
        assert (await again)["reset"]

    run(work())
