"""Sign-ins as the bridge conducts them: real ceremony, devices and workers; card, site and person are in process."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from dataclasses import replace
from typing import Any

import pytest
from pytest_mock import MockerFixture

from tests.card.conftest import Bench, DirectLink
from tests.patience import SECONDS
from tokenbridge.daemon import devices, runner
from tokenbridge.daemon.site import Message, Verdict
from tokenbridge.errors import (
    AccessDenied,
    BadCardData,
    Cancelled,
    CardUnsupported,
    DeviceBusy,
    DeviceRemoved,
    NoDevice,
    NotAllowedNow,
    NoUsableCertificate,
    PinBlocked,
    PinUnfit,
    PinWrong,
    RelyingPartyUnavailable,
    RemoteError,
    SendFailed,
    ServiceGone,
    TokenbridgeError,
)
from tokenbridge.rig.piv_crypto import Algorithm
from tokenbridge.rig.piv_objects import Discovery, PinRef
from tokenbridge.rig.pki import RigPki, Variant
from tokenbridge.transport.base import EventKind
from tokenbridge.wire.apdu import INS

from .conftest import ALLOW, CHALLENGE, DENY, OTHER_READER, PASSWORD_WISH, READER, UNANSWERABLE, WISH, run
from .workstation import Desk, LocalSite, Person, cards_of, link_to_newest, wrong

PIN, WRONG_PIN = b"123456", b"654321"
Work = Callable[[], Coroutine[Any, Any, None]]


@pytest.fixture
def cards(pki: RigPki, mocker: MockerFixture) -> Bench:
    """Makes cards; links to them are opened in process."""
    mocker.patch.object(devices, "PcscLink", link_to_newest)
    return cards_of(pki)


def fails(desk: Desk, kind: type[TokenbridgeError], wish: Any = WISH, **more: Any) -> Coroutine[Any, Any, Any]:
    async def work() -> Any:
        with pytest.raises(TokenbridgeError) as caught:
            await desk.sign_in(wish, **more)
        assert type(caught.value) is kind
        return caught.value

    return work()


# --- the main way ----------------------------------------------------------------------------------------------


def test_one_pin_signs_in_and_is_wiped(cards: Bench) -> None:
    async def work() -> None:
        desk = Desk(Person(pin=[PIN]))
        desk.station.insert(cards.card())
        assert await desk.sign_in() == ALLOW
        assert desk.person.prompts() == [("pin", 3)]
        assert [len(secret) for secret in desk.person.typed] == [0]
        assert len(desk.site.tokens) == 1
        assert desk.site.cancelled == []
        assert desk.station.claims() == set()

    run(work())


def test_a_known_card_costs_six_apdus(cards: Bench) -> None:
    async def work() -> None:
        desk = Desk(Person(pin=[PIN, PIN]))
        card = cards.card()
        desk.station.insert(card)
        await desk.sign_in()
        before = len(desk.station.sent())
        await desk.sign_in()
        assert len(desk.station.sent()) - before <= 6
        assert desk.station.known.get(card.guid.hex()) is not None

    run(work())


def test_a_card_is_waited_for(cards: Bench) -> None:
    async def work() -> None:
        desk = Desk(Person(pin=[PIN]))
        signing_in = desk.start()
        line = await desk.person.hears(step="waiting-for-device")
        assert (line["rp"], line["origin"]) == ("Test Hospital", desk.site.origin)
        desk.station.insert(cards.card())
        assert await signing_in == ALLOW

    run(work())


def test_no_card_comes_in_time() -> None:
    async def work() -> None:
        desk = Desk(Person())
        await fails(desk, NoDevice, wait_seconds=0.01)
        assert desk.site.cancelled == ["t1"]

    run(work())


def test_a_service_that_is_down_is_told_of_and_waited_for(cards: Bench) -> None:
    async def work() -> None:
        desk = Desk(Person(pin=[PIN]))
        desk.station.happens(EventKind.SERVICE_DOWN)
        signing_in = desk.start()
        line = await desk.person.hears(step="waiting-for-device")
        assert line["problem"]["code"] == "pcsc-service-gone"
        desk.station.happens(EventKind.SERVICE_UP)
        desk.station.insert(cards.card())
        assert await signing_in == ALLOW

    run(work())


def test_a_service_that_stays_down_is_the_answer() -> None:
    async def work() -> None:
        desk = Desk(Person())
        desk.station.happens(EventKind.SERVICE_DOWN)
        await fails(desk, ServiceGone, wait_seconds=0.01)

    run(work())


def test_a_service_that_refuses_is_not_waited_for() -> None:
    async def work() -> None:
        desk = Desk(Person())
        desk.station.happens(EventKind.SERVICE_DOWN, reason="access-denied")
        await fails(desk, AccessDenied)
        assert desk.person.lines == []
        assert desk.site.cancelled == ["t1"]

    run(work())


def test_only_the_reader_that_was_named_is_looked_at(cards: Bench) -> None:
    async def work() -> None:
        desk = Desk(Person(pin=[PIN]))
        desk.station.insert(cards.card(), OTHER_READER)
        signing_in = desk.start(replace(WISH, reader=READER))
        await desk.person.hears(step="waiting-for-device")
        desk.station.insert(cards.card())
        assert await signing_in == ALLOW
        assert {link.reader for link in desk.station.links} == {READER}

    run(work())


def test_two_cards_are_chosen_from(cards: Bench) -> None:
    async def work() -> None:
        desk = Desk(Person(choose=[OTHER_READER.encode()], pin=[PIN]))
        first, second = cards.card(), cards.card()
        desk.station.insert(first)
        desk.station.insert(second, OTHER_READER)
        assert await desk.sign_in() == ALLOW
        prompt = await desk.person.hears(kind="choose")
        assert [option["id"] for option in prompt["options"]] == [READER, OTHER_READER]
        assert [link.reader for link in desk.station.links if link.verifies()] == [OTHER_READER]

    run(work())


def test_a_card_that_does_not_fit_beside_one_that_does_is_no_question(cards: Bench) -> None:
    async def work() -> None:
        desk = Desk(Person(pin=[PIN]))
        desk.station.insert(cards.card(variant=Variant.EXPIRED))
        desk.station.insert(cards.card(), OTHER_READER)
        assert await desk.sign_in() == ALLOW

    run(work())


def test_a_stale_offer_is_replaced_and_given_back(cards: Bench) -> None:
    async def work() -> None:
        desk = Desk(Person(pin=[PIN]), LocalSite(lifetimes=[100, 300]))
        desk.station.insert(cards.card())
        assert await desk.sign_in() == ALLOW
        assert desk.site.opened == 2
        assert desk.site.cancelled == ["t1"]

    run(work())


def test_global_pin(cards: Bench) -> None:
    async def work() -> None:
        desk = Desk(Person(pin=[PIN, PIN]))
        card = cards.card(discovery=Discovery.BOTH_GLOBAL_PRIMARY)
        card.set_tries(PinRef.GLOBAL, 2)
        desk.station.insert(card)
        assert await desk.sign_in() == ALLOW
        assert desk.person.prompts() == [("pin", 3), ("pin", 2)]
        assert [apdu[3] for apdu in desk.station.verifies()] == [PinRef.GLOBAL]
        assert [len(secret) for secret in desk.person.typed] == [0, 0]

    run(work())


def test_pin_typed_on_the_reader(cards: Bench) -> None:
    async def work() -> None:
        desk = Desk(Person())

        def pad(link: DirectLink) -> None:
            link.pad = lambda template: link.transmit(template[:5] + b"123456\xff\xff")

        desk.station.shape = pad
        desk.station.insert(cards.card())
        assert await desk.sign_in() == ALLOW
        assert desk.person.prompts() == []
        assert "type-pin-on-reader" in desk.person.steps()

    run(work())


# --- PINs ------------------------------------------------------------------------------------------------------


def test_a_wrong_pin_asks_again_and_both_are_wiped(cards: Bench) -> None:
    async def work() -> None:
        desk = Desk(Person(pin=[WRONG_PIN, PIN]))
        desk.station.insert(cards.card())
        assert await desk.sign_in() == ALLOW
        assert desk.person.prompts() == [("pin", 3), ("pin", 2)]
        told = await desk.person.hears(step="try-again")
        assert (told["code"], told["tries_left"]) == ("pin-wrong", 2)
        assert [len(secret) for secret in desk.person.typed] == [0, 0]

    run(work())


def test_an_unfit_pin_asks_again_and_costs_nothing(cards: Bench) -> None:
    async def work() -> None:
        desk = Desk(Person(pin=[b"12", PIN]))
        card = cards.card()
        desk.station.insert(card)
        assert await desk.sign_in() == ALLOW
        assert desk.person.prompts() == [("pin", 3), ("pin", 3)]
        assert len(desk.station.verifies()) == 1
        assert (await desk.person.hears(step="try-again"))["code"] == PinUnfit.code

    run(work())


def test_declining_after_a_wrong_pin_ends_as_wrong_pin(cards: Bench) -> None:
    async def work() -> None:
        desk = Desk(Person(pin=[WRONG_PIN, None]))
        desk.station.insert(cards.card())
        error = await fails(desk, PinWrong)
        assert error.tries_left == 2
        assert desk.site.cancelled == ["t1"]

    run(work())


def test_the_last_try_is_spent_after_consent_only(cards: Bench) -> None:
    async def work() -> None:
        desk = Desk(Person(pin=[WRONG_PIN, WRONG_PIN], last_try=[None]))
        card = cards.card()
        desk.station.insert(card)
        await fails(desk, PinWrong)
        assert desk.person.prompts() == [("pin", 3), ("pin", 2), ("last-try", 1)]
        assert card.tries_left() == 1
        again = Desk(Person(pin=[PIN], last_try=[b"yes"]))
        again.station.insert(card)
        assert await again.sign_in() == ALLOW
        assert card.tries_left() == 3

    run(work())


def test_the_last_wrong_pin_ends_as_blocked_and_then_nobody_is_asked(cards: Bench) -> None:
    async def work() -> None:
        card = cards.card()
        card.set_tries(PinRef.APPLICATION, 1)
        desk = Desk(Person(pin=[WRONG_PIN], last_try=[b"yes"]))
        desk.station.insert(card)
        await fails(desk, PinBlocked)
        again = Desk(Person())
        again.station.insert(card)
        error = await fails(again, PinBlocked)
        assert "unblock" in error.hint
        assert again.person.prompts() == []

    run(work())


def test_nobody_answers(cards: Bench) -> None:
    async def work() -> None:
        desk = Desk(Person(pin=[None]))
        desk.station.insert(cards.card())
        error = await fails(desk, Cancelled)
        assert error.by == "user"
        assert desk.station.claims() == set()
        assert desk.site.cancelled == ["t1"]

    run(work())


# --- cards that do not do --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("variant", "words"),
    [
        (Variant.EXPIRED, "has expired"),
        (Variant.NOT_YET_VALID, "not valid yet"),
        (Variant.WRONG_USAGE, "not meant for signing in"),
        (Variant.UNKNOWN_ISSUER, "does not accept who issued"),
    ],
)
def test_a_certificate_that_does_not_fit_says_why_and_no_pin_is_asked(
    cards: Bench, variant: Variant, words: str
) -> None:
    async def work() -> None:
        desk = Desk(Person(), LocalSite(issuers=(cards.pki.issuing.name.public_bytes(),)))
        desk.station.insert(cards.card(variant=variant))
        error = await fails(desk, NoUsableCertificate)
        assert words in error.message
        assert desk.person.prompts() == []
        assert desk.site.cancelled == ["t1"]

    run(work())


def test_a_card_without_piv_and_one_with_bad_data(cards: Bench) -> None:
    async def work() -> None:
        for answer, kind in ((b"\x6a\x82", CardUnsupported), (b"\0\x61\0", BadCardData)):
            desk = Desk(Person())
            desk.station.shape = lambda link, answer=answer: setattr(link, "on_command", lambda _: answer)
            desk.station.insert(cards.card())
            await fails(desk, kind)
            assert desk.person.prompts() == []

    run(work())


def test_the_second_caller_hears_who_is_busy(cards: Bench) -> None:
    async def work() -> None:
        desk = Desk(Person())
        desk.station.insert(cards.card())
        first = desk.start(replace(WISH, program="portal (7)"))
        prompt = await desk.person.hears(kind="pin")
        assert desk.station.claims() == {"portal (7)"}
        error = await fails(desk, DeviceBusy)
        assert error.by == "portal (7)"
        desk.person.answer(prompt["id"], PIN)
        assert await first == ALLOW
        assert desk.station.claims() == set()

    run(work())


# --- cards that leave ------------------------------------------------------------------------------------------


def test_a_card_that_leaves_while_asked_withdraws_the_question_and_may_come_back(cards: Bench) -> None:
    async def work() -> None:
        desk = Desk(Person())
        card = cards.card()
        desk.station.insert(card)
        signing_in = desk.start()
        first = await desk.person.hears(kind="pin")
        desk.station.pull()
        await desk.person.hears(step="waiting-for-device")
        assert desk.person.steps() == ["withdrawn", "card-removed", "waiting-for-device"]
        with pytest.raises(TokenbridgeError):
            desk.person.answer(first["id"], PIN)
        assert desk.station.claims() == set()
        desk.person.script["pin"] = [PIN]
        desk.station.insert(card)
        assert await signing_in == ALLOW
        assert len(desk.station.verifies()) == 1

    run(work())


@pytest.mark.parametrize("cut_answer", [False, True])
@pytest.mark.parametrize("n", range(6, 10))
def test_a_card_pulled_while_it_signs(cards: Bench, n: int, cut_answer: bool) -> None:
    async def work() -> None:
        desk = Desk(Person(pin=[PIN, PIN]))
        card = cards.card()

        def cut(link: DirectLink) -> None:
            link.cut_at, link.cut_answer = n, cut_answer

        desk.station.shape = cut
        desk.station.insert(card)
        if n <= 6:  # at the tries query: the card is still looked at, so it is waited for
            signing_in = desk.start()
            await desk.person.hears(step="waiting-for-device")
        else:
            await fails(desk, DeviceRemoved)
            signing_in = None
        assert desk.station.devices.picture.cards == {}
        desk.station.shape = lambda link: None
        desk.station.insert(card)
        assert await (signing_in or desk.start()) == ALLOW
        assert card.tries_left() == 3
        assert all(len(secret) == 0 for secret in desk.person.typed)

    run(work())


# --- callers that leave ----------------------------------------------------------------------------------------


def test_a_client_that_leaves_while_asked_takes_everything_back(cards: Bench) -> None:
    async def work() -> None:
        desk = Desk(Person())
        desk.station.insert(cards.card())
        signing_in = desk.start()
        prompt = await desk.person.hears(kind="pin")
        signing_in.cancel()
        with pytest.raises(asyncio.CancelledError):
            await signing_in
        assert desk.station.claims() == set()
        assert desk.site.cancelled == ["t1"]
        with pytest.raises(TokenbridgeError):
            desk.person.answer(prompt["id"], PIN)
        desk.person.script["pin"] = [PIN]
        assert await desk.sign_in() == ALLOW

    run(work())


def test_a_client_that_leaves_while_the_card_works_stops_it_before_the_pin(cards: Bench) -> None:
    async def work() -> None:
        desk = Desk(Person(pin=[PIN]))
        entered, go_on = asyncio.Event(), threading.Event()
        loop = asyncio.get_running_loop()

        def hold(link: DirectLink) -> None:
            def look(apdu: bytes) -> None:
                if apdu[1] == INS.GET_DATA and apdu[6:8] == b"\x01\x7e":
                    loop.call_soon_threadsafe(entered.set)
                    assert go_on.wait(SECONDS)

            link.on_command = look

        desk.station.shape = hold
        card = cards.card()
        desk.station.insert(card)
        signing_in = desk.start()
        await entered.wait()
        signing_in.cancel()
        with pytest.raises(asyncio.CancelledError):
            await signing_in
        go_on.set()
        station = desk.station
        held = station.devices.card(READER)
        await station.devices.run(held, lambda link, cancel: None)
        assert station.verifies() == []
        assert station.claims() == set()
        assert [len(secret) for secret in desk.person.typed] == [0]
        assert desk.site.cancelled == ["t1"]

    run(work())


# --- the site --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("verdict", [DENY, UNANSWERABLE])
def test_other_verdicts_are_handed_on(cards: Bench, verdict: Any) -> None:
    async def work() -> None:
        desk = Desk(Person(pin=[PIN]), LocalSite(on_card=verdict))
        desk.station.insert(cards.card())
        assert await desk.sign_in() == verdict
        assert desk.site.cancelled == ([] if verdict is DENY else ["t1"])

    run(work())


def test_a_challenge_after_the_card(cards: Bench) -> None:
    async def work() -> None:
        site = LocalSite(on_card=CHALLENGE, on_code=[wrong("code-wrong"), ALLOW])
        desk = Desk(Person(pin=[PIN], code=[b"000000", b"111111"]), site)
        desk.station.insert(cards.card())
        assert await desk.sign_in() == ALLOW
        assert site.proofs == [("t1", "totp", b"000000"), ("t1", "totp", b"111111")]
        assert [len(secret) for secret in desk.person.typed] == [0, 0, 0]
        assert "challenged" in desk.person.steps()

    run(work())


def test_password_and_code(cards: Bench) -> None:
    async def work() -> None:
        site = LocalSite(on_password=[wrong("credentials-wrong"), CHALLENGE], on_code=[ALLOW])
        desk = Desk(Person(password=[b"no", b"yes"], code=[b"111111"]), site)
        assert await desk.sign_in(PASSWORD_WISH) == ALLOW
        assert [what for _, what, _ in site.proofs] == ["ada", "ada", "totp"]
        assert desk.station.links == []

    run(work())


def by_message(*methods: str) -> Verdict:
    return Verdict(decision="challenge", methods=methods, data={"decision": "challenge", "sentence": "more"})


def test_a_message_is_sent_once_and_its_code_typed_until_it_is_right(cards: Bench) -> None:
    async def work() -> None:
        site = LocalSite(on_password=[by_message("sms", "totp")], on_code=[wrong("code-wrong"), ALLOW])
        person = Person(password=[b"yes"], code=[b"111111", b"222222"])
        assert await Desk(person, site).sign_in(PASSWORD_WISH) == ALLOW
        assert site.started == ["sms"]
        assert [what for _, what, _ in site.proofs] == ["ada", "sms", "sms"]
        asked = [line for line in person.lines if line.get("kind") == "code"]
        assert [(line["method"], line["sent_to"]) for line in asked] == [("sms", "07••• •••456")] * 2

    run(work())


def test_a_text_message_in_place_of_a_whatsapp_message_is_presented_as_what_it_is(cards: Bench) -> None:
    async def work() -> None:
        sent = Message(method="sms", sent_to="07••• •••456")
        site = LocalSite(on_password=[by_message("whatsapp", "sms")], on_code=[ALLOW], on_start=sent)
        assert await Desk(Person(password=[b"yes"], code=[b"111111"]), site).sign_in(PASSWORD_WISH) == ALLOW
        assert (site.started, [what for _, what, _ in site.proofs]) == (["whatsapp"], ["ada", "sms"])

    run(work())


BY_WHATSAPP = Message(method="whatsapp", sent_to="*** *** 456", watched=True)


def test_a_message_that_is_replaced_is_told_and_its_code_asked_for_anew(
    cards: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "FIRST_LOOK_AT_MESSAGE", 0.001)

    async def work() -> None:
        instead = replace(BY_WHATSAPP, method="sms", watched=False)
        site = LocalSite(
            on_password=[by_message("whatsapp", "sms")],
            on_code=[wrong("code-wrong"), ALLOW],
            on_start=BY_WHATSAPP,
            on_message=[BY_WHATSAPP, RelyingPartyUnavailable("away for a moment"), instead],
        )
        person = Person(password=[b"yes"])
        task = asyncio.create_task(Desk(person, site).sign_in(PASSWORD_WISH))
        first = await person.hears(event="prompt", kind="code", method="whatsapp")
        person.script["code"] = [b"111111", b"222222"]
        told = await person.hears(step="message-lost")
        assert (told["method"], told["instead"], told["sent_to"]) == ("whatsapp", "sms", "*** *** 456")
        verdict = await task
        with pytest.raises(NotAllowedNow):
            person.answer(first["id"], b"333333")
        assert (verdict.decision, verdict.data["undelivered"]) == ("allow", ["whatsapp"])
        assert (site.started, [what for _, what, _ in site.proofs]) == (["whatsapp"], ["ada", "sms", "sms"])

    run(work())


def test_a_message_that_is_lost_ends_it_with_what_to_do(cards: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "FIRST_LOOK_AT_MESSAGE", 0.001)

    async def work() -> None:
        lost = replace(BY_WHATSAPP, lost=True)
        site = LocalSite(on_password=[by_message("whatsapp")], on_start=BY_WHATSAPP, on_message=[lost])
        person = Person(password=[b"yes"])
        with pytest.raises(SendFailed) as found:
            await Desk(person, site).sign_in(PASSWORD_WISH)
        assert (found.value.message, "--by" in found.value.hint) == ("The message could not be delivered.", True)
        told = await person.hears(step="message-lost")
        assert (told["method"], told["instead"]) == ("whatsapp", "")
        assert site.cancelled == ["t1"]

    run(work())


def test_the_number_is_shown_while_the_telephone_is_waited_for(cards: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "FIRST_LOOK", 0.001)

    async def work() -> None:
        sent = Message(method="number-match", sent_to="iPhone", number="47")
        site = LocalSite(on_password=[by_message("number-match")], on_approval=[ALLOW], on_start=sent)
        person = Person(password=[b"yes"])
        assert await Desk(person, site).sign_in(PASSWORD_WISH) == ALLOW
        assert (site.started, site.looks) == (["number-match"], 3)
        shown = [line for line in person.lines if line.get("step") == "approve-on-phone"]
        assert [(line["number"], line["sent_to"]) for line in shown] == [("47", "iPhone")]

    run(work())


def test_a_call_is_waited_for_until_a_key_was_pressed(cards: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "FIRST_LOOK", 0.001)

    async def work() -> None:
        sent = Message(method="voice", sent_to="*** *** 456")
        site = LocalSite(on_password=[by_message("voice")], on_approval=[ALLOW], on_start=sent)
        person = Person(password=[b"yes"])
        assert await Desk(person, site).sign_in(PASSWORD_WISH) == ALLOW
        assert (site.started, site.looks) == (["voice"], 3)
        assert [line["sent_to"] for line in person.lines if line.get("step") == "answer-call"] == ["*** *** 456"]

    run(work())


def test_what_was_declined_on_the_telephone_is_the_end(cards: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "FIRST_LOOK", 0.001)

    async def work() -> None:
        site = LocalSite(on_password=[by_message("number-match")], on_approval=[wrong("declined")])
        error = await fails(Desk(Person(password=[b"yes"]), site), RemoteError, PASSWORD_WISH)
        assert error.data["reason"] == "declined"

    run(work())


def test_giving_up_a_password_ends_with_what_was_wrong() -> None:
    async def work() -> None:
        desk = Desk(Person(password=[b"no", None]), LocalSite(on_password=[wrong("credentials-wrong")]))
        error = await fails(desk, RemoteError, PASSWORD_WISH)
        assert error.remote_code == "rejected"

    run(work())


def test_other_refusals_of_the_site_end_it() -> None:
    async def work() -> None:
        desk = Desk(Person(password=[b"yes"]), LocalSite(on_password=[RemoteError({"code": "too-many"})]))
        error = await fails(desk, RemoteError, PASSWORD_WISH)
        assert error.remote_code == "too-many"

    run(work())


def test_a_site_that_does_not_answer(cards: Bench) -> None:
    async def refuse() -> None:
        raise RelyingPartyUnavailable()

    async def work() -> None:
        desk = Desk(Person(), LocalSite(on_open=refuse))
        desk.station.insert(cards.card())
        await fails(desk, RelyingPartyUnavailable)
        assert desk.station.links == []

    run(work())


def test_a_defect_on_the_way_ends_the_ceremony_instead_of_hanging_it() -> None:
    async def stumble() -> None:
        raise ZeroDivisionError("defect")

    async def work() -> None:
        desk = Desk(Person(), LocalSite(on_open=stumble))
        error = await fails(desk, TokenbridgeError)
        assert "defect" in error.detail

    run(work())


def test_what_a_site_says_does_not_pass_for_a_line_of_the_bridge(cards: Bench) -> None:
    """The members of an answer are shown to the caller, under the event and step that are the bridge's."""

    async def work() -> None:
        spoof = {"event": "prompt", "step": "x", "kind": "pin", "id": "1", "self": 1}
        challenge = replace(CHALLENGE, data={**CHALLENGE.data, **spoof})
        desk = Desk(Person(pin=[PIN], code=[b"111111"]), LocalSite(on_card=challenge, on_code=[ALLOW]))
        desk.station.insert(cards.card())
        assert await desk.sign_in() == ALLOW
        assert desk.person.prompts() == [("pin", 3), ("code", None)]

    run(work())


def test_a_site_that_does_not_take_the_cards_signatures_costs_no_pin(cards: Bench) -> None:
    async def work() -> None:
        desk = Desk(Person(), LocalSite(algorithms=("ES384", "PS256")))
        desk.station.insert(cards.card(Algorithm.P256))
        error = await fails(desk, NoUsableCertificate)
        assert "ES256" in error.message
        assert desk.person.prompts() == []
        assert desk.station.verifies() == []

    run(work())


def test_a_choice_that_is_none_is_asked_for_again(cards: Bench) -> None:
    async def work() -> None:
        desk = Desk(Person(choose=[b"Reader 99", READER.encode()], pin=[PIN]))
        desk.station.insert(cards.card())
        desk.station.insert(cards.card(), OTHER_READER)
        assert await desk.sign_in() == ALLOW
        assert [kind for kind, _ in desk.person.prompts()] == ["choose", "choose", "pin"]

    run(work())


def test_giving_up_on_the_reader_after_a_wrong_pin_ends_as_wrong_pin(cards: Bench) -> None:
    async def work() -> None:
        desk = Desk(Person())
        answers = [WRONG_PIN, None]

        def pad(link: DirectLink) -> None:
            def typed(template: bytes) -> bytes:
                pin = answers.pop(0)
                return link.transmit(template[:5] + pin + b"\xff\xff") if pin is not None else b"\x64\x01"

            link.pad = typed

        desk.station.shape = pad
        desk.station.insert(cards.card())
        error = await fails(desk, PinWrong)
        assert error.tries_left == 2

    run(work())


def test_a_large_rsa_card_signs_in(cards: Bench) -> None:
    async def work() -> None:
        desk = Desk(Person(pin=[PIN]))
        desk.station.insert(cards.card(Algorithm.RSA3072, extended_length=True))
        assert await desk.sign_in() == ALLOW

    run(work())
