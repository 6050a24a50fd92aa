"""A PIN goes to the card once for each time that it is typed, whatever the card answers; a PUK is called one."""

from __future__ import annotations

import pytest

from tokenbridge.card import pin
from tokenbridge.errors import PinBlocked, PinWrong, TokenbridgeError
from tokenbridge.interaction import Secret
from tokenbridge.rig.piv_objects import PinRef
from tokenbridge.wire.apdu import INS

from .conftest import PIN, PUK, Bench, DirectLink, Never

NEW_PIN = b"24682468"
SECRET_INSTRUCTIONS = {INS.VERIFY, INS.CHANGE_REFERENCE_DATA, INS.RESET_RETRY_COUNTER}


def secrets_sent(link: DirectLink) -> int:
    return sum(apdu[1] in SECRET_INSTRUCTIONS and len(apdu) > 5 for apdu in link.sent)


def answers_secrets_with(link: DirectLink, word: bytes) -> None:
    link.on_command = lambda apdu: word if apdu[1] in SECRET_INSTRUCTIONS and len(apdu) > 5 else None


@pytest.mark.parametrize("extended", [True, False])
@pytest.mark.parametrize("word", [b"\x6c\x10", b"\x6c\0", b"\x67\0", b"\x61\x10", b"\x6d\0"])
def test_no_answer_makes_a_pin_go_out_twice(bench: Bench, word: bytes, extended: bool) -> None:
    card = bench.card(extended_length=extended)
    link = DirectLink(card)
    snapshot = bench.inspect(link)
    answers_secrets_with(link, word)
    with pytest.raises(TokenbridgeError):
        bench.authorize(link, snapshot)
    assert secrets_sent(link) == 1
    reference = snapshot.pin_reference
    for act in (
        lambda: pin.change(link, Never(), reference, Secret(PIN), Secret(NEW_PIN)),
        lambda: pin.unblock(link, Never(), Secret(PUK), Secret(NEW_PIN)),
    ):
        before = secrets_sent(link)
        with pytest.raises(TokenbridgeError):
            act()
        assert secrets_sent(link) == before + 1


def test_a_wrong_puk_is_not_called_a_pin(bench: Bench) -> None:
    card = bench.card()
    card.set_tries(PinRef.PUK, 2)
    with pytest.raises(PinWrong) as wrong:
        pin.unblock(DirectLink(card), Never(), Secret(b"00000000"), Secret(NEW_PIN))
    assert wrong.value.message == "The PUK is wrong; 1 try is left."
    for puk in (b"00000000", PUK):
        with pytest.raises(PinBlocked) as blocked:
            pin.unblock(DirectLink(card), Never(), Secret(puk), Secret(NEW_PIN))
        assert "PUK is blocked" in blocked.value.message
        assert "unblock" not in blocked.value.hint
