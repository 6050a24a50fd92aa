"""The sign-in machine: every pair of state and event, then what matters to people, then any sequence at all."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tokenbridge.daemon import ceremony, steps
from tokenbridge.daemon.site import Verdict
from tokenbridge.daemon.steps import (
    Agreed,
    Asking,
    AskLastTry,
    AskPin,
    AskSecret,
    CardGone,
    Choose,
    Choosing,
    Chosen,
    Confirming,
    Decided,
    DeviceThere,
    Event,
    Failed,
    Finished,
    Keying,
    KeySigned,
    KeyUnknown,
    Look,
    Looked,
    Looking,
    Open,
    Opened,
    Opening,
    OtherPin,
    PinTyped,
    Prove,
    Proving,
    Remember,
    SecretTyped,
    Send,
    Sending,
    Sign,
    Signing,
    State,
    Tell,
    TokenSigned,
    TryAgain,
    WaitForApproval,
    WaitForDevice,
    Waiting,
    Withdraw,
)
from tokenbridge.errors import (
    BadCardData,
    Cancelled,
    CardUnsupported,
    DeviceBusy,
    DeviceRemoved,
    NoCredential,
    NoDevice,
    PinBlocked,
    PinUnfit,
    PinWrong,
    RemoteError,
    TimedOut,
)
from tokenbridge.interaction import Secret

from .conftest import (
    ALLOW,
    CHALLENGE,
    DENY,
    KEY_CHALLENGE,
    OTHER_READER,
    PASSWORD_WISH,
    READER,
    TOKEN,
    UNANSWERABLE,
    WISH,
    candidate,
)
from .conftest import KEY_OFFER as OFFER

CARD = candidate()
KEY_PATH = "/dev/hidraw3"
OTHER_KEY = "/dev/hidraw4"
LAST = PinWrong(tries_left=2, sw=0x63C2)
PIN = Secret(b"123456")
CODE = Secret(b"111111")

STATES: dict[str, State] = {
    "opening": Opening(wish=WISH),
    "waiting": Waiting(wish=WISH, offer=OFFER),
    "looking": Looking(wish=WISH, offer=OFFER),
    "choosing": Choosing(wish=WISH, offer=OFFER, candidates=(CARD, candidate(OTHER_READER))),
    "choosing-key": Choosing(wish=WISH, offer=OFFER, candidates=(CARD,), keys=(KEY_PATH,)),
    "looking-key": Looking(wish=WISH, offer=OFFER, keys=(KEY_PATH,)),
    "keying": Keying(wish=WISH, offer=OFFER, keys=(KEY_PATH,)),
    "keying-two": Keying(wish=WISH, offer=OFFER, keys=(KEY_PATH, OTHER_KEY)),
    "keying-key-wished": Keying(wish=replace(WISH, method="key"), offer=OFFER, keys=(KEY_PATH,)),
    "keying-further": Keying(wish=WISH, offer=OFFER, keys=(KEY_PATH,), verdict=KEY_CHALLENGE),
    "confirming": Confirming(wish=WISH, offer=OFFER, candidate=candidate(tries=1)),
    "asking": Asking(wish=WISH, offer=OFFER, candidate=CARD),
    "signing": Signing(wish=WISH, offer=OFFER, candidate=CARD),
    "sending": Sending(wish=WISH, offer=OFFER),
    "proving": Proving(wish=WISH, offer=OFFER, method="totp", verdict=CHALLENGE),
    "finished": Finished(verdict=ALLOW),
}
EVENTS: dict[str, Event] = {
    "opened": Opened(offer=OFFER),
    "card-there": DeviceThere(readers=(READER,), fresh=True),
    "card-there-stale": DeviceThere(readers=(READER,), fresh=False),
    "key-there": DeviceThere(keys=(KEY_PATH,), fresh=True),
    "key-there-stale": DeviceThere(keys=(KEY_PATH,), fresh=False),
    "key-and-card-there": DeviceThere(readers=(READER,), keys=(KEY_PATH,), fresh=True),
    "looked-one": Looked(candidates=(CARD,), errors=()),
    "looked-two": Looked(candidates=(CARD, candidate(OTHER_READER)), errors=()),
    "looked-last-try": Looked(candidates=(candidate(tries=1),), errors=()),
    "looked-blocked": Looked(candidates=(candidate(tries=0),), errors=()),
    "looked-pulled": Looked(candidates=(), errors=(DeviceRemoved(),)),
    "looked-unusable": Looked(candidates=(), errors=(CardUnsupported(),)),
    "chosen": Chosen(reader=READER),
    "chosen-key": Chosen(reader="key"),
    "chosen-other": Chosen(reader="Reader 99"),
    "agreed": Agreed(),
    "pin-typed": PinTyped(pin=PIN),
    "secret-typed": SecretTyped(username="ada", secret=CODE),
    "card-gone": CardGone(reader=READER),
    "card-gone-other": CardGone(reader="Reader 99"),
    "token-signed": TokenSigned(token=TOKEN, snapshot=CARD.snapshot),
    "key-signed": KeySigned(credential={"id": "x"}),
    "key-unknown": KeyUnknown(key=KEY_PATH, error=NoCredential()),
    "other-pin": OtherPin(snapshot=CARD.snapshot),
    "try-again": TryAgain(error=LAST, tries_left=2),
    "try-again-last": TryAgain(error=LAST, tries_left=1),
    "try-again-blocked": TryAgain(error=LAST, tries_left=0),
    "allow": Decided(verdict=ALLOW),
    "deny": Decided(verdict=DENY),
    "challenge": Decided(verdict=CHALLENGE),
    "challenge-key": Decided(verdict=KEY_CHALLENGE, keys=(KEY_PATH,)),
    "challenge-key-absent": Decided(verdict=KEY_CHALLENGE),
    "challenge-unanswerable": Decided(verdict=UNANSWERABLE),
    "failed": Failed(error=TimedOut()),
    "declined": Failed(error=Cancelled("user")),
    "device-removed": Failed(error=DeviceRemoved()),
}
KEYING = ("keying", "keying-two", "keying-key-wished")
LEADS_TO: dict[tuple[str, str], type[State]] = {
    ("opening", "opened"): Waiting,
    ("waiting", "card-there"): Looking,
    ("waiting", "card-there-stale"): Opening,
    ("waiting", "key-there"): Keying,
    ("waiting", "key-there-stale"): Opening,
    ("waiting", "key-and-card-there"): Looking,
    ("keying-further", "key-signed"): Sending,
    ("keying", "key-unknown"): Waiting,
    ("keying-two", "key-unknown"): Keying,
    ("keying-key-wished", "key-unknown"): Finished,
    ("keying-further", "key-unknown"): Proving,
    **{(state, event): Looking for state in KEYING for event in ("card-there", "key-and-card-there")},
    **{(state, event): Opening for state in KEYING for event in ("card-there-stale", "key-there-stale")},
    **{(state, "key-signed"): Sending for state in KEYING},
    ("looking-key", "looked-one"): Choosing,
    ("looking-key", "looked-two"): Choosing,
    ("looking-key", "looked-last-try"): Choosing,
    ("looking-key", "looked-blocked"): Choosing,
    ("looking-key", "looked-pulled"): Keying,
    ("looking-key", "looked-unusable"): Keying,
    ("choosing-key", "chosen"): Asking,
    ("choosing-key", "chosen-key"): Keying,
    ("choosing-key", "card-gone"): Waiting,
    ("looking", "looked-one"): Asking,
    ("looking", "looked-two"): Choosing,
    ("looking", "looked-last-try"): Confirming,
    ("looking", "looked-blocked"): Finished,
    ("looking", "looked-pulled"): Waiting,
    ("looking", "looked-unusable"): Finished,
    ("choosing", "chosen"): Asking,
    ("choosing", "card-gone"): Waiting,
    ("confirming", "agreed"): Asking,
    ("confirming", "card-gone"): Waiting,
    ("asking", "pin-typed"): Signing,
    ("asking", "card-gone"): Waiting,
    ("signing", "token-signed"): Sending,
    ("signing", "other-pin"): Asking,
    ("signing", "try-again"): Asking,
    ("signing", "try-again-last"): Confirming,
    ("signing", "try-again-blocked"): Finished,
    ("sending", "allow"): Finished,
    ("sending", "deny"): Finished,
    ("sending", "challenge"): Proving,
    ("sending", "challenge-key"): Keying,
    ("sending", "challenge-key-absent"): Proving,
    ("proving", "challenge-key"): Keying,
    ("proving", "challenge-key-absent"): Proving,
    ("sending", "challenge-unanswerable"): Finished,
    ("proving", "allow"): Finished,
    ("proving", "deny"): Finished,
    ("proving", "challenge"): Proving,
    ("proving", "challenge-unanswerable"): Finished,
    **{(state, "failed"): Finished for state in STATES},
    **{(state, "declined"): Finished for state in STATES},
    **{(state, "device-removed"): Finished for state in STATES},
    **{(state, "device-removed"): Waiting for state in KEYING},
    ("keying-further", "failed"): Proving,
    ("keying-further", "device-removed"): Proving,
}
"""Every legal move. All others leave state and world as they are."""
STAYS_AND_ACTS = {("proving", "secret-typed"), ("proving", "try-again"), ("proving", "try-again-last"),
                  ("proving", "try-again-blocked"), ("choosing", "chosen-other"), ("choosing", "chosen-key"),
                  ("choosing-key", "chosen-other")}  # fmt: skip


@pytest.mark.parametrize("event", EVENTS)
@pytest.mark.parametrize("state", STATES)
def test_every_pair(state: str, event: str) -> None:
    following, effects = ceremony.step(STATES[state], EVENTS[event])
    legal = LEADS_TO.get((state, event))
    if legal is not None:
        assert type(following) is legal
    elif (state, event) in STAYS_AND_ACTS:
        assert type(following) is type(STATES[state])
        assert effects
    else:
        assert following == STATES[state]
        assert effects == ()


def test_the_tables_name_every_state_and_event_there_is() -> None:
    assert {type(state) for state in STATES.values()} == set(steps.State.__args__)
    assert {type(event) for event in EVENTS.values()} == set(steps.Event.__args__)


def step(state: str | State, event: str | Event) -> steps.Step:
    return ceremony.step(
        STATES[state] if isinstance(state, str) else state, EVENTS[event] if isinstance(event, str) else event
    )


# --- the way to the PIN ----------------------------------------------------------------------------------------


def test_start_opens_a_transaction() -> None:
    assert ceremony.start(WISH) == (Opening(wish=WISH), (Open(),))


def test_a_card_is_waited_for_and_looked_at() -> None:
    waiting, effects = step("opening", "opened")
    assert effects == (WaitForDevice(offer=OFFER),)
    assert ceremony.step(waiting, DeviceThere(readers=(READER,), fresh=True))[1] == (
        Look(readers=(READER,), offer=OFFER),
    )


def test_a_user_name_asks_for_a_password_and_for_no_card() -> None:
    state, effects = ceremony.step(Opening(wish=PASSWORD_WISH), Opened(offer=OFFER))
    assert state == Proving(wish=PASSWORD_WISH, offer=OFFER, method="password")
    assert effects == (AskSecret(method="password", username="ada", offer=OFFER),)


def test_a_stale_offer_is_replaced_before_anybody_is_asked() -> None:
    assert step("waiting", "card-there-stale") == (Opening(wish=WISH), (Open(),))


def test_the_prompt_says_who_asks_whose_card_it_is_and_the_tries_left() -> None:
    _, effects = step("looking", "looked-one")
    (asked,) = effects
    assert isinstance(asked, AskPin)
    request = asked.request
    assert (request.rp_name, request.origin, request.program) == ("Test Hospital", OFFER.origin, WISH.program)
    assert (request.holder, request.tries_left, asked.reader) == ("Ada", 3, READER)


def test_two_cards_are_chosen_from() -> None:
    state, (choose,) = step("looking", "looked-two")
    assert isinstance(choose, Choose)
    assert [option.id for option in choose.options] == [READER, OTHER_READER]
    assert {option.label for option in choose.options} == {"Ada"}
    asking, (asked,) = ceremony.step(state, Chosen(reader=OTHER_READER))
    assert isinstance(asking, Asking)
    assert isinstance(asked, AskPin)
    assert asked.reader == OTHER_READER


def test_one_card_that_fits_beside_one_that_does_not_is_taken() -> None:
    state, _ = step("looking", Looked(candidates=(CARD,), errors=(CardUnsupported(),)))
    assert isinstance(state, Asking)


@pytest.mark.parametrize("error", [CardUnsupported(), DeviceBusy(by="other (7)"), BadCardData()])
def test_the_only_card_is_unusable(error: BadCardData) -> None:
    state, effects = step("looking", Looked(candidates=(), errors=(DeviceRemoved(), error)))
    assert state == Finished(error=error)
    assert effects == ()


@pytest.mark.parametrize("error", [DeviceRemoved(), NoDevice()])
def test_a_card_that_left_before_it_could_be_looked_at_is_waited_for(error: DeviceRemoved) -> None:
    state, effects = step("looking", Looked(candidates=(), errors=(error,)))
    assert isinstance(state, Waiting)
    assert isinstance(effects[0], Tell)
    assert effects[-1] == WaitForDevice(offer=OFFER)


def test_the_last_try_needs_consent_and_is_asked_for_only_then() -> None:
    state, (asked,) = step("looking", "looked-last-try")
    assert isinstance(asked, AskLastTry)
    assert asked.request.last_try
    state, (asked,) = ceremony.step(state, Agreed())
    assert isinstance(state, Asking)
    assert isinstance(asked, AskPin)


def test_consent_is_not_asked_for_when_the_tries_are_unknown() -> None:
    state, _ = step("looking", Looked(candidates=(candidate(tries=None),), errors=()))
    assert isinstance(state, Asking)


def test_a_blocked_card_never_asks() -> None:
    state, effects = step("looking", "looked-blocked")
    assert isinstance(state, Finished)
    assert isinstance(state.error, PinBlocked)
    assert effects == ()


# --- keys that do not know the site ------------------------------------------------------------------------------


def test_a_key_that_is_unknown_leaves_the_card_that_may_come() -> None:
    state, effects = step("keying", "key-unknown")
    assert [type(effect) for effect in effects] == [Tell, WaitForDevice]
    assert effects[-1] == WaitForDevice(offer=OFFER, without=(KEY_PATH,))
    answer, _ = ceremony.step(state, Failed(error=NoDevice()))
    assert isinstance(answer, Finished)
    assert isinstance(answer.error, NoCredential)


def test_the_other_key_is_used_when_one_is_unknown() -> None:
    state, effects = step("keying-two", "key-unknown")
    assert isinstance(effects[-1], steps.UseKey)
    assert effects[-1].keys == (OTHER_KEY,)
    _, effects = ceremony.step(state, KeyUnknown(key=OTHER_KEY, error=NoCredential()))
    assert effects[-1] == WaitForDevice(offer=OFFER, without=(KEY_PATH, OTHER_KEY))


def test_an_offer_that_ends_soon_is_replaced_and_the_key_left_alone_first() -> None:
    assert step("keying", "card-there-stale") == (Opening(wish=WISH), (Withdraw(), Open()))


# --- the PIN and after -----------------------------------------------------------------------------------------


def test_a_choice_that_is_none_is_asked_for_again() -> None:
    state, (choose,) = step("choosing", "chosen-other")
    assert state == STATES["choosing"]
    assert isinstance(choose, Choose)
    assert [option.id for option in choose.options] == [READER, OTHER_READER]


def test_a_typed_pin_signs_once() -> None:
    state, effects = step("asking", "pin-typed")
    assert effects == (Sign(candidate=CARD, offer=OFFER, pin=PIN),)
    assert ceremony.step(state, PinTyped(pin=Secret(b"999999"))) == (state, ())


def test_a_wrong_pin_asks_again_with_the_new_tries() -> None:
    state, effects = step("signing", "try-again")
    assert isinstance(state, Asking)
    assert state.candidate.snapshot.tries_left == 2
    told, asked = effects
    assert isinstance(told, Tell)
    assert told.facts["tries_left"] == 2
    assert isinstance(asked, AskPin)
    assert asked.request.tries_left == 2


def test_an_unfit_pin_asks_again_with_the_tries_unchanged() -> None:
    state, effects = step("signing", TryAgain(error=PinUnfit()))
    assert isinstance(state, Asking)
    assert state.candidate.snapshot.tries_left == 3
    assert isinstance(effects[-1], AskPin)


def test_wrong_until_one_try_is_left_needs_consent() -> None:
    state, effects = step("signing", "try-again-last")
    assert isinstance(state, Confirming)
    assert isinstance(effects[-1], AskLastTry)


def test_an_unfit_pin_on_the_last_try_needs_consent_again() -> None:
    signing = Signing(wish=WISH, offer=OFFER, candidate=candidate(tries=1))
    state, effects = ceremony.step(signing, TryAgain(error=PinUnfit()))
    assert isinstance(state, Confirming)
    assert isinstance(effects[-1], AskLastTry)


def test_wrong_until_blocked_ends_as_blocked() -> None:
    state, _ = step("signing", "try-again-blocked")
    assert isinstance(state, Finished)
    assert isinstance(state.error, PinBlocked)
    blocked = PinBlocked(sw=0x6983)
    assert step("signing", Failed(error=blocked))[0] == Finished(error=blocked)


def test_the_cards_other_pin_is_asked_for_with_its_own_tries() -> None:
    other = candidate(tries=1).snapshot
    state, (asked,) = step("signing", OtherPin(snapshot=other))
    assert isinstance(state, Confirming)
    assert isinstance(asked, AskLastTry)


@pytest.mark.parametrize("state", ["confirming", "asking", "signing"])
def test_declining_after_a_wrong_pin_ends_with_the_wrong_pin(state: str) -> None:
    before = STATES[state]
    assert isinstance(before, Confirming | Asking | Signing)
    assert step(replace(before, last=LAST), "declined") == (Finished(error=LAST), ())


@pytest.mark.parametrize("by", ["caller", "shutdown"])
def test_a_cancel_that_is_not_the_persons_is_what_it_is(by: str) -> None:
    error = Cancelled(by)
    assert step(Asking(wish=WISH, offer=OFFER, candidate=CARD, last=LAST), Failed(error=error))[0].error is error


def test_what_is_signed_is_remembered_and_sent() -> None:
    state, effects = step("signing", "token-signed")
    assert state == Sending(wish=WISH, offer=OFFER)
    assert effects == (Remember(snapshot=CARD.snapshot), Send(offer=OFFER, token=TOKEN))


@pytest.mark.parametrize("state", ["choosing", "confirming", "asking"])
def test_a_card_that_leaves_while_the_person_is_asked_withdraws_the_question(state: str) -> None:
    following, effects = step(state, "card-gone")
    assert following == Waiting(wish=replace(WISH, removals=1), offer=OFFER)
    assert effects[0] == Withdraw()
    assert isinstance(effects[1], Tell)
    assert effects[-1] == WaitForDevice(offer=OFFER)


@pytest.mark.parametrize("state", ["looking", "choosing", "confirming", "asking"])
def test_a_loose_contact_ends_it(state: str) -> None:
    leaves: Event = Looked(candidates=(), errors=(DeviceRemoved(),)) if state == "looking" else CardGone(reader=READER)
    for removals in range(ceremony.MAX_REMOVALS + 1):
        before = replace(STATES[state], wish=replace(WISH, removals=removals))
        following, effects = ceremony.step(before, leaves)
        if removals < ceremony.MAX_REMOVALS:
            assert following == Waiting(wish=replace(WISH, removals=removals + 1), offer=OFFER)
        else:
            assert isinstance(following, Finished)
            assert isinstance(following.error, DeviceRemoved)
            assert (Withdraw() in effects) is (state != "looking")


def test_a_pin_typed_after_the_card_left_is_not_used() -> None:
    state, _ = step("asking", "card-gone")
    assert ceremony.step(state, PinTyped(pin=PIN)) == (state, ())


def test_the_card_that_is_not_chosen_from_may_leave() -> None:
    assert step("asking", CardGone(reader=OTHER_READER)) == (STATES["asking"], ())


# --- a further proof -------------------------------------------------------------------------------------------


def test_a_challenge_asks_for_what_the_bridge_can_ask() -> None:
    state, effects = step("sending", "challenge")
    assert state == Proving(wish=WISH, offer=OFFER, method="totp", verdict=CHALLENGE)
    assert [type(effect) for effect in effects] == [Tell, AskSecret]
    assert effects[1] == AskSecret(method="totp", username="", offer=OFFER)


def test_a_challenge_may_be_answered_on_the_telephone() -> None:
    wanted = Verdict(decision="challenge", methods=("number-match", "totp"), data={})
    state, effects = ceremony.step(STATES["sending"], Decided(verdict=wanted))
    assert effects[1:] == (WaitForApproval(method="number-match", offer=OFFER),)
    assert ceremony.step(state, Decided(verdict=ALLOW)) == (Finished(verdict=ALLOW), ())
    refused = RemoteError({"code": "rejected", "message": "declined", "reason": "declined"})
    assert ceremony.step(state, Failed(error=refused)) == (Finished(error=refused), ())


def test_a_challenge_that_nobody_here_can_answer_is_the_result() -> None:
    assert step("sending", "challenge-unanswerable") == (Finished(verdict=UNANSWERABLE), ())


def test_a_code_is_sent_and_asked_for_again_when_wrong() -> None:
    state, effects = step("proving", "secret-typed")
    assert effects == (Prove(offer=OFFER, method="totp", username="ada", secret=CODE),)
    wrong = RemoteError({"code": "rejected", "message": "wrong", "reason": "code-wrong"})
    state, effects = ceremony.step(state, TryAgain(error=wrong))
    assert isinstance(state, Proving)
    assert [type(effect) for effect in effects] == [Tell, AskSecret]
    assert ceremony.step(state, Failed(error=Cancelled("user"))) == (Finished(error=wrong), ())


def test_declining_a_challenge_ends_with_the_challenge() -> None:
    assert step("proving", "declined") == (Finished(verdict=CHALLENGE), ())


def test_declining_a_password_is_a_cancel() -> None:
    state = Proving(wish=PASSWORD_WISH, offer=OFFER, method="password")
    following, _ = ceremony.step(state, EVENTS["declined"])
    assert isinstance(following, Finished)
    assert isinstance(following.error, Cancelled)


def test_password_then_code() -> None:
    state = Proving(wish=PASSWORD_WISH, offer=OFFER, method="password")
    state, effects = ceremony.step(state, Decided(verdict=CHALLENGE))
    assert isinstance(state, Proving)
    assert state.method == "totp"
    assert effects[-1] == AskSecret(method="totp", username="ada", offer=OFFER)
    assert ceremony.step(state, Decided(verdict=ALLOW)) == (Finished(verdict=ALLOW), ())


# --- any sequence ----------------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=400)
@given(st.lists(st.sampled_from(sorted(EVENTS)), max_size=25), st.sampled_from([WISH, PASSWORD_WISH]))
def test_no_sequence_signs_without_a_pin_typed_just_before_or_twice_for_one(names: list[str], wish: steps.Wish) -> None:
    state, effects = ceremony.start(wish)
    for name in names:
        before, pin = state, Secret(b"123456")
        event = PinTyped(pin=pin) if name == "pin-typed" else EVENTS[name]
        state, effects = ceremony.step(before, event)
        signs = [effect for effect in effects if isinstance(effect, Sign)]
        if signs:
            (sign,) = signs
            assert isinstance(before, Asking)
            assert sign.pin is pin
            assert sign.candidate.snapshot.tries_left != 0
        if isinstance(state, Finished):
            assert (state.verdict is None) != (state.error is None)
            assert state == before or not signs


@settings(deadline=None)
@given(st.lists(st.sampled_from(sorted(EVENTS)), max_size=25))
def test_the_last_try_is_never_spent_without_consent(names: list[str]) -> None:
    state, _ = ceremony.start(WISH)
    agreed = False
    for name in names:
        before = state
        state, effects = ceremony.step(state, EVENTS[name])
        if isinstance(before, Confirming) and name == "agreed":
            agreed = True
        for effect in effects:
            if isinstance(effect, Sign) and effect.candidate.snapshot.tries_left == 1:
                assert agreed
                agreed = False
