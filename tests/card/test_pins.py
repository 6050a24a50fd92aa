"""PINs at the card: wrong, blocked, unfit, typed on the reader; changed and unblocked."""

from __future__ import annotations

import pytest

from tokenbridge.card import pin
from tokenbridge.card.base import PinReference
from tokenbridge.card.sign_in import Signed
from tokenbridge.errors import (
    Cancelled,
    CardUnsupported,
    NotPermitted,
    ObjectMissing,
    PinBlocked,
    PinUnfit,
    PinWrong,
    StatusError,
    TimedOut,
)
from tokenbridge.interaction import Secret
from tokenbridge.rig.card_state import TriesWord
from tokenbridge.rig.piv_objects import Discovery, PinRef
from tokenbridge.wire.apdu import INS

from .conftest import PIN, PUK, WRONG_PIN, Bench, DirectLink, Never

NEW_PIN = b"24682468"
SECRET_INSTRUCTIONS = {INS.VERIFY, INS.CHANGE_REFERENCE_DATA, INS.RESET_RETRY_COUNTER}


def secrets_sent(link: DirectLink) -> list[bytes]:
    return [apdu for apdu in link.sent if apdu[1] in SECRET_INSTRUCTIONS and len(apdu) > 5]


# --- at a sign-in ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("word", TriesWord)
def test_wrong_pin_tells_the_tries_that_are_left(bench: Bench, word: TriesWord) -> None:
    card = bench.card(tries_word=word)
    link = DirectLink(card)
    snapshot = bench.inspect(link)
    assert snapshot.tries_left == 3
    with pytest.raises(PinWrong) as caught:
        bench.authorize(link, snapshot, WRONG_PIN)
    assert caught.value.tries_left == card.tries_left() == 2
    assert caught.value.sw == (0x63C2 if word is TriesWord.STANDARD else 0x6302)
    assert len(link.verifies()) == 1
    assert bench.inspect(DirectLink(card)).tries_left == 2


@pytest.mark.parametrize("word", TriesWord)
def test_the_last_wrong_pin_blocks(bench: Bench, word: TriesWord) -> None:
    card = bench.card(tries_word=word)
    link = DirectLink(card)
    snapshot = bench.inspect(link)
    card.set_tries(PinRef.APPLICATION, 1)
    with pytest.raises(PinBlocked):
        bench.authorize(link, snapshot, WRONG_PIN)
    assert bench.inspect(DirectLink(card)).tries_left == 0
    with pytest.raises(PinBlocked):
        bench.authorize(DirectLink(card), snapshot)


def test_right_pin_gives_the_tries_back(bench: Bench) -> None:
    card = bench.card()
    card.set_tries(PinRef.APPLICATION, 1)
    bench.sign_in(DirectLink(card))
    assert card.tries_left() == 3


@pytest.mark.parametrize(
    "typed",
    [
        b"",
        b"12345",
        b"123456789",
        b"12345a",
        b"12 456",
        b"123456\n",
        "\uff11\uff12\uff13".encode(),
        "\u0661\u0662\u0663".encode(),
        b"\xff" * 8,
        b"-12345",
    ],
)
def test_unfit_pin_is_never_sent(bench: Bench, typed: bytes) -> None:
    card = bench.card()
    link = DirectLink(card)
    snapshot = bench.inspect(link)
    with pytest.raises(PinUnfit):
        bench.authorize(link, snapshot, typed)
    assert secrets_sent(link) == []
    assert card.tries_left() == 3


@pytest.mark.parametrize("digits", [6, 7, 8])
def test_pins_of_6_to_8_digits_are_padded_with_ff(bench: Bench, digits: int) -> None:
    link = DirectLink(bench.card())
    snapshot = bench.inspect(link)
    with pytest.raises(PinWrong):
        bench.authorize(link, snapshot, b"9" * digits)
    (apdu,) = link.verifies()
    assert apdu == bytes.fromhex("0020008008") + b"9" * digits + b"\xff" * (8 - digits)


def test_a_pin_that_another_program_verified_tells_no_tries(bench: Bench) -> None:
    card = bench.card()
    link = DirectLink(card)
    with link.transaction():
        for apdu in ("00A4040009A0000003080000100000", "0020008008313233343536FFFF"):
            assert link.transmit(bytes.fromhex(apdu))[-2:] == b"\x90\x00"
    assert bench.inspect(link).tries_left is None


@pytest.mark.parametrize("word", [0x6300, 0x6982, 0x6985, 0x6A88, 0x6F00, 0x6D00])
def test_other_answers_to_a_pin_are_no_wrong_pin(bench: Bench, word: int) -> None:
    link = DirectLink(bench.card())
    snapshot = bench.inspect(link)

    def answer(apdu: bytes) -> bytes | None:
        return word.to_bytes(2, "big") if apdu[1] == INS.VERIFY and len(apdu) > 5 else None

    link.on_command = answer
    with pytest.raises(StatusError) as caught:
        bench.authorize(link, snapshot)
    assert not isinstance(caught.value, PinWrong | PinBlocked)
    assert caught.value.sw == word


# --- typed on the reader ---------------------------------------------------------------------------------------


def reader_types(link: DirectLink, typed: bytes) -> None:
    def pad(template: bytes) -> bytes:
        assert template == bytes.fromhex("0020008008") + b"\xff" * 8
        return link.transmit(template[:5] + typed.ljust(8, b"\xff"))

    link.pad = pad


def test_pin_typed_on_the_reader(bench: Bench) -> None:
    card = bench.card()
    link = DirectLink(card)
    reader_types(link, PIN)
    snapshot = bench.inspect(link)
    assert snapshot.on_reader
    assert isinstance(bench.authorize(link, snapshot, None), Signed)


def test_wrong_pin_typed_on_the_reader(bench: Bench) -> None:
    link = DirectLink(bench.card())
    reader_types(link, WRONG_PIN)
    snapshot = bench.inspect(link)
    with pytest.raises(PinWrong) as caught:
        bench.authorize(link, snapshot, None)
    assert caught.value.tries_left == 2


@pytest.mark.parametrize(
    ("word", "error"), [(0x6400, TimedOut), (0x6401, Cancelled), (0x6403, PinUnfit), (0x6983, PinBlocked)]
)
def test_what_the_reader_itself_says(bench: Bench, word: int, error: type[Exception]) -> None:
    card = bench.card()
    link = DirectLink(card, pad=lambda _: word.to_bytes(2, "big"))
    snapshot = bench.inspect(link)
    with pytest.raises(error):
        bench.authorize(link, snapshot, None)
    assert card.tries_left() == 3


# --- a PIN never reaches another application -------------------------------------------------------------------


class OtherApplication:
    """What another program selected between the two transactions; it answers until PIV is selected again."""

    def __init__(self, answer: bytes) -> None:
        self.answer = answer
        self.selected = True
        self.seen: list[bytes] = []

    def __call__(self, apdu: bytes) -> bytes | None:
        if apdu[1] == INS.SELECT:
            self.selected = False
        if not self.selected:
            return None
        self.seen.append(apdu)
        return self.answer


FOREIGN = {
    "instruction unknown": "6D00",
    "class unknown": "6E00",
    "not found": "6A82",
    "not allowed": "6985",
    "wrong data": "6A80",
    "security": "6982",
    "an object of its own": "7E084F06D276000124019000",
    "discovery of another application": "7E124F0BA0000000620300010C06015F2F0240009000",
    "nothing": "9000",
    "no TLV": "FFFFFFFF9000",
}


@pytest.mark.parametrize("answer", FOREIGN.values(), ids=FOREIGN.keys())
@pytest.mark.parametrize("discovery", [Discovery.APPLICATION, Discovery.NONE])
@pytest.mark.parametrize("known", [False, True])
def test_piv_is_selected_again_before_a_pin_is_sent(
    bench: Bench, answer: str, discovery: Discovery, known: bool
) -> None:
    card = bench.card(discovery=discovery)
    if known:
        bench.sign_in(DirectLink(card))
    link = DirectLink(card)
    snapshot = bench.inspect(link)
    other = OtherApplication(bytes.fromhex(answer))
    card.reset()
    link.on_command = other
    assert isinstance(bench.authorize(link, snapshot), Signed)
    assert not [apdu for apdu in other.seen if apdu[1] in SECRET_INSTRUCTIONS]
    assert len(link.verifies()) == 1


def test_no_pin_is_sent_to_a_card_that_is_no_piv_card_any_more(bench: Bench) -> None:
    link = DirectLink(bench.card())
    snapshot = bench.inspect(link)
    link.on_command = lambda _: b"\x6a\x82"
    with pytest.raises(StatusError):
        bench.authorize(link, snapshot)
    assert link.verifies() == []


# --- change and unblock ----------------------------------------------------------------------------------------


def change(link: DirectLink, old: bytes, new: bytes, reference: PinReference = PinReference.APPLICATION) -> None:
    pin.change(link, Never(), reference, Secret(old), Secret(new))


def unblock(link: DirectLink, puk: bytes, new: bytes) -> None:
    pin.unblock(link, Never(), Secret(puk), Secret(new))


def test_change_of_pin(bench: Bench) -> None:
    card = bench.card()
    change(DirectLink(card), PIN, NEW_PIN)
    link = DirectLink(card)
    snapshot = bench.inspect(link)
    with pytest.raises(PinWrong):
        bench.authorize(link, snapshot, PIN)
    assert isinstance(bench.authorize(link, snapshot, NEW_PIN), Signed)


def test_change_of_puk(bench: Bench) -> None:
    card = bench.card()
    change(DirectLink(card), PUK, b"puk-8-by", PinReference.PUK)
    with pytest.raises(PinWrong):
        unblock(DirectLink(card), PUK, NEW_PIN)
    unblock(DirectLink(card), b"puk-8-by", NEW_PIN)


def test_change_with_wrong_old_pin_spends_one_try_and_changes_nothing(bench: Bench) -> None:
    card = bench.card()
    with pytest.raises(PinWrong) as caught:
        change(DirectLink(card), WRONG_PIN, NEW_PIN)
    assert caught.value.tries_left == card.tries_left() == 2
    bench.sign_in(DirectLink(card), PIN)


@pytest.mark.parametrize(("old", "new"), [(b"12345", NEW_PIN), (PIN, b"12345"), (PIN, b"123456789"), (PIN, b"abcdef")])
def test_unfit_pins_are_not_sent_at_a_change(bench: Bench, old: bytes, new: bytes) -> None:
    card = bench.card()
    link = DirectLink(card)
    with pytest.raises(PinUnfit):
        change(link, old, new)
    assert secrets_sent(link) == []
    assert card.tries_left() == 3


def test_change_of_a_blocked_pin(bench: Bench) -> None:
    card = bench.card()
    card.set_tries(PinRef.APPLICATION, 0)
    with pytest.raises(PinBlocked):
        change(DirectLink(card), PIN, NEW_PIN)


def test_unblock(bench: Bench) -> None:
    card = bench.card()
    card.set_tries(PinRef.APPLICATION, 0)
    unblock(DirectLink(card), PUK, NEW_PIN)
    assert card.tries_left() == 3
    bench.sign_in(DirectLink(card), NEW_PIN)


def test_wrong_puk_spends_a_try_of_the_puk_and_leaves_the_pin_blocked(bench: Bench) -> None:
    card = bench.card()
    card.set_tries(PinRef.APPLICATION, 0)
    with pytest.raises(PinWrong) as caught:
        unblock(DirectLink(card), b"00000000", NEW_PIN)
    assert caught.value.tries_left == card.tries_left(PinRef.PUK) == 2
    assert card.tries_left() == 0


def test_blocked_puk(bench: Bench) -> None:
    card = bench.card()
    card.set_tries(PinRef.PUK, 0)
    with pytest.raises(PinBlocked):
        unblock(DirectLink(card), PUK, NEW_PIN)


@pytest.mark.parametrize(
    ("puk", "new"), [(b"12345", NEW_PIN), (b"123456789", NEW_PIN), (PUK, b"1234"), (PUK, b"letters")]
)
def test_unfit_puk_or_pin_is_not_sent_at_unblocking(bench: Bench, puk: bytes, new: bytes) -> None:
    card = bench.card()
    link = DirectLink(card)
    with pytest.raises(PinUnfit):
        unblock(link, puk, new)
    assert secrets_sent(link) == []
    assert card.tries_left(PinRef.PUK) == 3


@pytest.mark.parametrize(
    ("discovery", "reference"),
    [
        (Discovery.NONE, PinReference.APPLICATION),
        (Discovery.APPLICATION, PinReference.APPLICATION),
        (Discovery.BOTH_APPLICATION_PRIMARY, PinReference.APPLICATION),
        (Discovery.BOTH_GLOBAL_PRIMARY, PinReference.GLOBAL),
    ],
)
def test_status_tells_which_pin_and_spends_no_try(bench: Bench, discovery: Discovery, reference: PinReference) -> None:
    card = bench.card(discovery=discovery)
    found = pin.status(DirectLink(card), Never())
    assert (found.reference, found.pin) == (reference, 3)
    assert card.tries_left(PinRef(reference)) == 3


def test_cards_without_piv_get_no_secret(bench: Bench) -> None:
    link = DirectLink(bench.card(), on_command=lambda _: b"\x6a\x82")
    for act in (lambda: change(link, PIN, NEW_PIN), lambda: unblock(link, PUK, NEW_PIN)):
        with pytest.raises(CardUnsupported):
            act()
    assert secrets_sent(link) == []


def test_an_absent_reference_is_missing_not_wrong(bench: Bench) -> None:
    with pytest.raises(ObjectMissing):
        change(DirectLink(bench.card()), PIN, NEW_PIN, PinReference.GLOBAL)


def test_a_key_without_verified_pin_is_not_permitted(bench: Bench) -> None:
    link = DirectLink(bench.card())
    snapshot = bench.inspect(link)
    link.on_command = lambda apdu: b"\x90\x00" if apdu[1] == INS.VERIFY and len(apdu) > 5 else None
    with pytest.raises(NotPermitted):
        bench.authorize(link, snapshot)
